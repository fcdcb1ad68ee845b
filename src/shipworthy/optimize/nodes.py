"""The ONNX file as passes see it: read with its weights, written as one file; its types, its names."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from shipworthy.backends import external
from shipworthy.errors import Refused


def read(path: Path) -> onnx.ModelProto:
    """The model with its weights, those in other files too.

    Raises:
        Refused: it is not a model, or its weights cannot be joined (``external.join``).
    """
    proto = outline(path)
    external.join(proto, path)
    return proto


def outline(path: Path) -> onnx.ModelProto:
    """The model without the weights that lie in other files: enough to look at its nodes.

    Raises:
        Refused: it is not a model.
    """
    try:
        return onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise Refused(f"{path} is not an ONNX model", found=str(error)) from None


def write(proto: onnx.ModelProto, path: Path) -> None:
    """Write the model as one file; the same model always gives the same bytes."""
    path.write_bytes(proto.SerializeToString(deterministic=True))


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
