"""A star, not a chain: who may import whom, read from the source (TYPE_CHECKING and late imports count)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "shipworthy"

# Each may import those before it.
BOTTOM = ("text", "errors", "records", "machine", "targets", "protocols", "sections", "settings", "files", "data", "child")
# Each may import the bottom, the backends and itself; so may the laws of the seams.
STAGES = ("check", "optimize", "measure", "release", "serve", "watch", "testing")
# These put stages together.
TOP = (
    "workspace",
    "initialize",
    "sources",
    "training",
    "verification",
    "search",
    "tracking",
    "job",
    "readiness",
    "ship",
    "deploy",
    "cli",
    "__init__",
    "__main__",
)

BACKENDS_ONLY = (
    *("onnxruntime", "openvino", "tensorrt", "nncf", "torch", "tensorflow"),
    *("sklearn", "skl2onnx", "joblib", "skops", "xgboost", "lightgbm"),
)


@dataclass(frozen=True)
class Import:
    """One import statement: from which module, of what, on which line; ``late``: inside a function."""

    module: str
    name: str
    line: int
    late: bool


def modules(package: Path) -> dict[str, str]:
    """Dotted name to source, of every module below the folder of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, source: str, known: Mapping[str, str], is_package: bool) -> Iterator[Import]:
    """Every module that a source imports; ``from package import module`` counts as that module."""

    def visit(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, child.lineno, late) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = module.split(".")[: None if is_package and child.level == 1 else -(child.level - is_package)]
                    base = ".".join([*parts, *filter(None, [child.module])])
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield Import(module, full if full in known else base, child.lineno, late)
            elif isinstance(child, ast.Call) and child.args and isinstance(child.args[0], ast.Constant):
                called = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
                if called in {"import_module", "__import__"}:
                    yield Import(module, str(child.args[0].value), child.lineno, late)
            yield from visit(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from visit(ast.parse(source), late=False)


def part(module: str) -> str:
    """The part of the house that a module of ours belongs to: the word after the package's name."""
    return [*module.split("."), "__init__"][1]


def forbidden(one: Import, package: str) -> str:
    """Why this import may not be; empty when it may."""
    ours, top = part(one.module), one.name.split(".")[0]
    if top in BACKENDS_ONLY and ours != "backends":
        return f"only backends/ imports {top}"
    if top == "mlflow" and one.module not in {f"{package}.release.mlflow", f"{package}.release.mlflow_fetch"}:
        return "only release/mlflow.py and release/mlflow_fetch.py import mlflow"
    if top == "onnx" and ours not in {"backends", "check", "optimize"} and one.module != f"{package}.release.mlflow":
        return "only check/, optimize/, backends/ and release/mlflow.py import onnx"
    if top != package:
        return ""
    theirs = part(one.name)
    if unplaced := {ours, theirs} - {*BOTTOM, *STAGES, *TOP, "backends"}:
        return f"give {', '.join(unplaced)} a place in {Path(__file__).name}"
    if ours in TOP or ours == theirs:
        return ""
    if ours in BOTTOM:
        return "" if theirs in BOTTOM[: BOTTOM.index(ours)] else "the bottom imports downwards only"
    if theirs in BOTTOM or (theirs == "backends" and ours in STAGES):
        return ""
    return f"{ours} may import the bottom{' and backends' if ours in STAGES else ''} only"


def breaches(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """All forbidden imports and rings among modules; ``packages`` are the names that are folders."""
    root = next(iter(sources)).split(".")[0]
    everything = [one for name, text in sources.items() for one in imports(name, text, sources, name in packages)]
    found = [f"{one.module}, line {one.line}: imports {one.name}: {why}" for one in everything if (why := forbidden(one, root))]
    graph = {name: {one.name for one in everything if one.module == name and not one.late} for name in sources}
    return [*dict.fromkeys(found), *(f"ring of imports: {' -> '.join(ring)}" for ring in rings(graph))]


def rings(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """One ring through each module that lies on one, each ring once."""
    found: dict[frozenset[str], list[str]] = {}
    for start in graph:
        trails = [[start]]
        seen: set[str] = set()
        while trails:
            trail = trails.pop()
            for following in graph.get(trail[-1], ()):
                if following == start:
                    found.setdefault(frozenset(trail), [*trail, start])
                elif following not in seen:
                    seen.add(following)
                    trails.append([*trail, following])
    return list(found.values())


def folders(package: Path) -> frozenset[str]:
    return frozenset(".".join((package.name, *path.parent.relative_to(package).parts)) for path in package.rglob("__init__.py"))


def test_the_house_keeps_its_layers():
    assert breaches(modules(PACKAGE), folders(PACKAGE)) == []


BAD = {
    "bottom upwards": ({"errors": "from shipworthy.records import Model"}, "the bottom imports downwards only"),
    "bottom to stage": ({"files": "from shipworthy.release import bundle"}, "the bottom imports downwards only"),
    "stage to stage": ({"check.laws": "import shipworthy.optimize.graph"}, "check may import the bottom and backends only"),
    "stage to top": ({"serve.app": "from shipworthy import ship", "ship": ""}, "serve may import the bottom and backends only"),
    "stage to the map": ({"serve.app": "from shipworthy import anything"}, "serve may import the bottom and backends only"),
    "backend to stage": ({"backends.ort": "from shipworthy.check import x"}, "backends may import the bottom only"),
    "laws to a stage": (
        {"testing.laws": "from shipworthy.release import x"},
        "testing may import the bottom and backends only",
    ),
    "only for types": (
        {"check.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shipworthy.watch import w"},
        "line 3: imports shipworthy.watch: check may",
    ),
    "late": ({"check.a": "def f():\n    from shipworthy.watch import w"}, "line 2: imports shipworthy.watch: check may"),
    "relative": ({"check.a": "from ..watch import w"}, "imports shipworthy.watch: check may"),
    "relative in a package": ({"check": "from ..watch import w"}, "imports shipworthy.watch: check may"),
    "runtime": ({"measure.a": "def f():\n    import onnxruntime as ort"}, "only backends/ imports onnxruntime"),
    "framework by name": ({"cli.a": "importlib.import_module('torch')"}, "only backends/ imports torch"),
    "mlflow": ({"cli.a": "from mlflow import x"}, "only release/mlflow.py and release/mlflow_fetch.py import mlflow"),
    "onnx": ({"serve.a": "import onnx.helper"}, "only check/, optimize/, backends/ and release/mlflow.py import onnx"),
    "new part": ({"utils": "import shipworthy.errors"}, "give utils a place in test_layers.py"),
    "ring": ({"cli.a": "import shipworthy.cli.b", "cli.b": "from shipworthy.cli import a"}, "ring of imports: "),
    "ring of three": (
        {"cli.a": "import shipworthy.cli.b", "cli.b": "import shipworthy.cli.c", "cli.c": "import shipworthy.cli.a"},
        "ring of imports: shipworthy.cli.a -> shipworthy.cli.b -> shipworthy.cli.c -> shipworthy.cli.a",
    ),
}


@pytest.mark.parametrize(("sources", "said"), BAD.values(), ids=BAD)
def test_the_checker_sees(sources, said):
    found = breaches({f"shipworthy.{name}": text for name, text in sources.items()}, frozenset({"shipworthy.check"}))
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("check.laws", "from shipworthy import data, errors\nfrom shipworthy.backends import onnxruntime\nimport onnx"),
        ("check", "from .laws import x"),
        ("release.mlflow", "def f():\n    import mlflow, onnx"),
        ("release.mlflow_fetch", "def f():\n    import mlflow"),
        ("ship", "from shipworthy import check, optimize"),
        ("cli.a", "def f():\n    import shipworthy.cli.b"),
        ("cli.b", "def f():\n    import shipworthy.cli.a"),
        ("backends.sklearn", "import joblib"),
    ],
)
def test_the_checker_lets_pass(name, source):
    known = {f"shipworthy.{one}": "" for one in ("errors", "data", "check", "check.laws", "optimize", "cli.a", "cli.b")}
    assert breaches(known | {f"shipworthy.{name}": source}, frozenset({"shipworthy.check"})) == []
