"""Writes tensorrt_names.json: the public names and signatures of TensorRT's Python package, version by version.

    python tests/backends/tensorrt_names.py FOLDER_OF_WHEELS

The folder has the bindings' wheels for this Python, as ``pip download --no-deps`` fetches them (docs/tensorrt.md). They
are NVIDIA's, under NVIDIA's licence: read that first, and leave them out of the repository. A wheel is imported in a process
of its own, beside libraries of nine empty functions, so that neither TensorRT nor a GPU is needed. Names, signatures and
the numbers of enumerations are written down; nothing else is. Plugins and the classes of single layers are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TABLE = Path(__file__).with_suffix(".json")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
)

# Runs beside the stubs; prints one version's part of the table.
PROBE = r"""
import inspect, json, re, sys
import tensorrt_bindings as trt

def signatures(thing):
    lines = (inspect.getdoc(thing) or "").splitlines()
    name = getattr(thing, "__name__", "")
    found = [re.sub(r"^\d+\. ", "", line.strip()) for line in lines]
    found = [line for line in found if line.startswith(name + "(") and "*args" not in line]
    found = [re.sub(r"(tensorrt_bindings|tensorrt)\.tensorrt\.", "", line) for line in found]
    return [re.sub(r"^(\w+\()self: [\w.]+(, )?", r"\1", line) for line in found]

def members(kind):
    if hasattr(kind, "__members__"):
        return {name: int(value) for name, value in kind.__members__.items()}
    found = {}
    for name in dir(kind):
        one = inspect.getattr_static(kind, name)
        value = getattr(kind, name)
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isclass(value):
            found[name] = {"members": members(value)}
        elif callable(value) and not isinstance(one, property):
            found[name] = signatures(value)
        elif isinstance(one, property):
            found[name] = "read" if one.fset is None else "read, write"
    return found

table = {}
for name in sorted(vars(trt)):
    thing = getattr(trt, name)
    if name.startswith("_") or inspect.ismodule(thing) or re.search("Plugin|Layer$", name):
        continue
    if inspect.isclass(thing):
        table[name] = {"members": members(thing)}
    elif inspect.isroutine(thing):
        table[name] = signatures(thing)
print(json.dumps({trt.__version__: table}))
"""


def stubs(folder: Path, major: str) -> None:
    """Libraries under TensorRT's names whose functions give nothing back."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in LIBRARIES:
        out = folder / f"lib{library}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{out.name}", "-o", out, source], check=True)  # noqa: S607


def names(wheel: Path) -> dict[str, object]:
    """The part of the table that a wheel gives."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        stubs(folder, wheel.name.split("-")[1].split(".")[0])
        environment = {"LD_LIBRARY_PATH": made, "PYTHONPATH": made, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def text(table: dict[str, dict[str, object]]) -> str:
    """The table as JSON with a line for each name, so that a change can be read."""
    versions = []
    for version, things in table.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(thing, sort_keys=True)}" for name, thing in things.items())
        versions.append(f" {json.dumps(version)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(versions) + "\n}\n"


def main() -> None:
    """Write the table of the wheels in the folder that the command line names."""
    found: dict[str, dict[str, object]] = {}
    for wheel in Path(sys.argv[1]).glob("tensorrt_cu*_bindings-*.whl"):
        found |= names(wheel)  # type: ignore[arg-type]
    ordered = sorted(found, key=lambda version: [int(part) for part in version.split(".")])
    TABLE.write_text(text({version: found[version] for version in ordered}), encoding="utf-8")


if __name__ == "__main__":
    main()
