"""The ONNX file as passes see it: read with its weights, written as one file; its types, its names."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from shipworthy.errors import Refused

# One protobuf message cannot be larger, and a variant is one file.
LIMIT_BYTES = 2**31 - 1


def read(path: Path) -> onnx.ModelProto:
    """The model with its weights, those in other files too.

    Raises:
        Refused: it is not a model, a file of its weights is missing, or it is too large for one file.
    """
    size = whole_bytes(path)
    if size > LIMIT_BYTES:
        raise Refused(
            "the model is larger than one ONNX file can be",
            found=f"{size / 1e6:.0f} MB with its weights",
            expected=f"at most {LIMIT_BYTES / 1e6:.0f} MB: a variant is one file",
        )
    return onnx.load_model(path)


def outline(path: Path) -> onnx.ModelProto:
    """The model without the weights that lie in other files: enough to look at its nodes.

    Raises:
        Refused: it is not a model.
    """
    try:
        return onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise Refused(f"{path} is not an ONNX model", found=str(error)) from None


def whole_bytes(path: Path) -> int:
    """Size of the model and of the files beside it that hold weights, in bytes.

    Raises:
        Refused: it is not a model, or one of those files is missing.
    """
    proto = outline(path)
    size = path.stat().st_size
    for name in sorted({_location(tensor) for tensor in proto.graph.initializer} - {""}):
        beside = path.parent / name
        if not beside.is_file():
            raise Refused("a file of the model's weights is missing", found=name, next="keep it beside the model")
        size += beside.stat().st_size
    return size


def _location(tensor: onnx.TensorProto) -> str:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return ""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def write(proto: onnx.ModelProto, path: Path) -> None:
    """Write the model as one file; the same model always gives the same bytes."""
    path.write_bytes(proto.SerializeToString(deterministic=True))


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor of the outermost graph that is known, weights too."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    described = [*graph.value_info, *graph.input, *graph.output]
    found = {one.name: one.type.tensor_type.elem_type for one in described if one.type.HasField("tensor_type")}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def opset(proto: onnx.ModelProto, domain: str = "") -> int:
    """The version of an operator set that the model imports; 0 when it imports none."""
    same = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return next((one.version for one in proto.opset_import if one.domain in same), 0)


def name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node of the outermost graph a name of its own: after its first output, where it has none."""
    taken: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}:{next(filter(None, node.output), number)}"
        taken.add(node.name)
