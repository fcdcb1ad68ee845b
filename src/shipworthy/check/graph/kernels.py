"""Area ``graph`` of a file that nobody has loaded: onnxruntime has a kernel for every node.

It is asked, not looked up: it inlines functions and casts what it has only in another type, so its registry alone would accuse
models that run. The model is loaded without its heavy weights; only one that is refused so is loaded whole, and then node by
node.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from shipworthy.backends.onnx_types import light
from shipworthy.backends.onnxruntime import version
from shipworthy.backends.onnxruntime_passes import refusal
from shipworthy.check.graph.view import View, listed, view
from shipworthy.check.intake import read_proto
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.check.words import title
from shipworthy.errors import Refused
from shipworthy.records import Finding

# What onnxruntime's error begins with where the model is fine and a kernel is missing.
MISSING = "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : "

KERNEL = Law(
    name="graph.kernel",
    severity="error",
    holds="onnxruntime has a kernel for every node",
    breaks="the model does not load: the server does not start",
    mend="export with operators and types that onnxruntime has (often float32 instead of another type), or a newer onnxruntime",
)
LAWS = (KERNEL,)


def look(origin: Origin) -> Iterator[Finding]:
    """The nodes that onnxruntime has no kernel for."""
    if origin.path.suffix != ".onnx":
        return
    try:
        proto = read_proto(origin.path, origin.named)
    except Refused:
        return  # area format says what is wrong with it
    with tempfile.TemporaryDirectory(prefix="shipworthy-kernels-") as scratch:
        folder = Path(scratch)
        if not _refusal(light(proto), folder):
            return
        said = refusal(origin.path)
        if not said.startswith(MISSING):
            return
        found = _nodes(proto, folder)
    place = title(found[0]) if found else str(origin.named)
    nodes = f"{len(found)} nodes: {listed(found)}; it says: " if found else ""
    yield KERNEL.found(place, f"onnxruntime {version()} has no kernel for {nodes}{said.removeprefix(MISSING)}")


def _nodes(proto: onnx.ModelProto, folder: Path) -> list[onnx.NodeProto]:
    """The nodes that are refused on their own; empty where they can only be asked together."""
    seen, known = view(proto), dict[tuple[object, ...], bool]()
    found = []
    for node in seen.nodes:
        kinds = tuple(seen.types.get(name, 0) for name in node.input)
        if any(name and not kind for name, kind in zip(node.input, kinds, strict=True)):
            continue  # a sequence, or a type that nobody can tell
        key = (node.domain, node.op_type, kinds, len(node.output), tuple(one.SerializeToString() for one in node.attribute))
        if key not in known:
            known[key] = _refusal(_alone(node, seen, proto), folder).startswith(MISSING)
        if known[key]:
            found.append(node)
    return found


def _alone(node: onnx.NodeProto, seen: View, proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model of this node, its inputs of any shape."""
    result = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = result.graph
    graph.name = "alone"
    graph.node.append(node)
    for name in dict.fromkeys(filter(None, node.input)):
        graph.input.append(onnx.helper.make_tensor_value_info(name, seen.types[name], None))
    for name in filter(None, node.output):
        graph.output.append(onnx.helper.make_tensor_value_info(name, seen.types.get(name, 0), None))
    return result


def _refusal(proto: onnx.ModelProto, folder: Path) -> str:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return refusal(path)
