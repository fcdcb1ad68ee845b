"""Every name of TensorRT's that our source uses is in 10.3, in 10.16 and in 11.4, or known to be of the legacy mode."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .tensorrt_fake import TABLE, VERSIONS

SOURCE = Path(__file__).parents[2] / "src" / "shipworthy" / "backends"
# What a variable of our source holds: one name a class.
HOLDS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "fault": "ParserError",
    "inspector": "EngineInspector",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
# Used where refuse_version has let through 10.3 to 10.7 only.
LEGACY = {"BuilderFlag.FP16", "BuilderFlag.INT8"}
LEGACY_FUNCTION = "_legacy"


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def used(source: str) -> Iterator[tuple[str, str]]:
    """The names of TensorRT's that a source uses, with the function around each."""

    def visit(node: ast.AST, within: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Attribute):
                first, _, rest = dotted(child).partition(".")
                if first == "trt" and rest:
                    yield rest, within
                elif first in HOLDS and rest:
                    yield f"{HOLDS[first]}.{rest}", within
            inner = child.name if isinstance(child, ast.FunctionDef) else within
            yield from visit(child, inner)

    yield from visit(ast.parse(source), "")


def exists(version: str, name: str) -> bool:
    place: Any = TABLE[version]
    for part in name.split("."):
        place = place.get("members", place) if isinstance(place, dict) else {}
        if part not in place:
            return False
        place = place[part]
    return True


def source() -> str:
    return (SOURCE / "tensorrt.py").read_text(encoding="utf-8")


def ours() -> set[tuple[str, str]]:
    """What our source uses; ``__version__`` is Python's."""
    return {(name, within) for name, within in used(source()) if name != "__version__"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_in_the_version(version):
    common = {name for name, _ in ours()} - LEGACY
    assert len(common) > 30, "the names were looked for in the wrong place"
    assert sorted(name for name in common if not exists(version, name)) == []


def test_names_of_the_legacy_mode_stay_in_it():
    found = {(name, within) for name, within in ours() if name in LEGACY}
    assert {name for name, _ in found} == LEGACY
    assert {within for _, within in found} == {LEGACY_FUNCTION}
    assert all(exists(VERSIONS[0], name) and not exists(VERSIONS[-1], name) for name in LEGACY)


def test_no_other_file_uses_tensorrt():
    others = [
        path for path in SOURCE.rglob("*.py") if path.name != "tensorrt.py" and "trt." in path.read_text(encoding="utf-8")
    ]
    assert others == []


def test_no_number_of_a_flag_is_written_down():
    shifts = [node for node in ast.walk(ast.parse(source())) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift)]
    assert [ast.unparse(node.right) for node in shifts] == ["int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)"]


def test_the_table_is_of_the_versions_that_the_docs_name():
    assert VERSIONS == ("10.3.0", "10.16.1.11", "11.4.0.106")
    typed = [TABLE[version]["NetworkDefinitionCreationFlag"]["members"]["STRONGLY_TYPED"] for version in VERSIONS]
    assert typed == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(trt):\n    return trt.BuilderFlag.FP16", {("BuilderFlag.FP16", "f"), ("BuilderFlag", "f")}),
        ("config.set_flag(1)", {("IBuilderConfig.set_flag", "")}),
        ("other.thing", set()),
    ],
)
def test_the_search_sees(text, expected):
    assert set(used(text)) == expected


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("BuilderFlag.TF32", True),
        ("BuilderFlag.FP16", False),
        ("ILogger.Severity.ERROR", True),
        ("ILogger.Severity.FATAL", False),
        ("Builder.create_network", True),
        ("Builder.platform_has_fast_fp16", False),
        ("Nothing", False),
    ],
)
def test_the_table_is_asked(name, there):
    assert exists("11.4.0.106", name) is there
