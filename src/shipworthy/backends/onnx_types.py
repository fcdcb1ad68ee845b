"""Types and sizes of the tensors of an ONNX model, without its weights: what ``check`` and ``optimize`` share. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper, shape_inference

# What shape inference may need the values of: shapes, axes, scalars. Heavier weights are only types and shapes to it.
LIGHT_BYTES = 8192
# Less than a byte an element: so many elements a byte.
PACKED: dict[int, int] = {onnx.TensorProto.UINT4: 2, onnx.TensorProto.INT4: 2, onnx.TensorProto.FLOAT4E2M1: 2}


def bytes_of(kind: int, dims: Sequence[int]) -> int | None:
    """Bytes of the values of a tensor; ``None`` where ONNX has no such type, or the dimensions are impossible."""
    if any(one < 0 for one in dims):
        return None
    count = math.prod(dims)
    if kind in PACKED:
        return -(-count // PACKED[kind])
    try:
        return count * int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except KeyError:
        return None


def light(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the bytes of its heavy weights: those are inputs of the same type and shape.

    What is said of tensors between the nodes is left out, too: exporters write sizes there that hold for one batch.
    """
    result = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = result.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    given = {one.name for one in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= LIGHT_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return result


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor of the outermost graph that is known, weights too."""
    bare = light(proto)
    bare.graph.value_info.extend(proto.graph.value_info)
    try:
        graph = shape_inference.infer_shapes(bare).graph
    except shape_inference.InferenceError:
        graph = bare.graph
    described = [*graph.value_info, *graph.input, *graph.output]
    found = {one.name: one.type.tensor_type.elem_type for one in described if one.type.HasField("tensor_type")}
    return found | {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
