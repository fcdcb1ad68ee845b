"""Why a pass cannot be applied to a model, or to these rows: one sentence each, empty when it can."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from onnx import numpy_helper

from shipworthy.backends.onnx_graph import nodes
from shipworthy.optimize.nodes import opset
from shipworthy.protocols import Arrays

QUANTIZED = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"),  # onnxruntime's own
}
# A scale for each channel: operator set 13 is the first whose QuantizeLinear takes it.
OPSET = 13
RATIO_INPUTS = 2
NO_ROWS = "it needs calibration rows: name an .npz file of training rows as calibration under [data]"


def in_training(proto: onnx.ModelProto) -> str:
    """The graph was exported to be trained: its answers depend on the batch, or on chance."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in nodes(proto.graph):
        given = {attribute.name: attribute.i for attribute in node.attribute}
        mode = values.get(node.input[RATIO_INPUTS]) if node.op_type == "Dropout" and len(node.input) > RATIO_INPUTS else None
        if given.get("training_mode") or (mode is not None and numpy_helper.to_array(mode).any()):
            name = node.name or node.output[0]
            return f"the graph is in training mode ({node.op_type} '{name}'): export the model in evaluation mode"
    return ""


def too_old(proto: onnx.ModelProto) -> str:
    """Its operator set has no quantization by channel."""
    if opset(proto) >= OPSET:
        return ""
    return f"operator set {opset(proto)} is older than {OPSET}: export the model again"


def quantized(proto: onnx.ModelProto) -> str:
    """It is quantized already."""
    return "the model is quantized already" if {node.op_type for node in nodes(proto.graph)} & QUANTIZED else ""


def unquantizable(proto: onnx.ModelProto, operators: Collection[str]) -> str:
    """It is quantized already, in training mode, or has none of the operators."""
    said = quantized(proto) or in_training(proto)
    if not said and not {node.op_type for node in nodes(proto.graph)} & set(operators):
        said = f"the model has no {', '.join(operators)} to quantize"
    return said


def unfit(proto: onnx.ModelProto, rows: Arrays) -> str:
    """The calibration rows are not rows for this model."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = {one.name: one.type.tensor_type for one in proto.graph.input if one.name not in weights}
    if set(rows) != set(inputs):
        return f"the calibration rows are for the inputs {_list(rows)}, and the model takes {_list(inputs)}"
    for name, taken in inputs.items():
        array = rows[name]
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in taken.shape.dim]
        wanted = onnx.helper.tensor_dtype_to_np_dtype(taken.elem_type)
        if array.dtype != wanted or len(shape) != array.ndim or not array.ndim or len(array) == 0:
            return _other(name, f"{array.dtype} {list(array.shape)}", f"{wanted} {shape} with at least one row")
        if any(n is not None and n != m for n, m in zip(shape[1:], array.shape[1:], strict=True)):
            return _other(name, str(list(array.shape)), str(shape))
        if shape[0] is not None and len(array) < shape[0]:
            return _other(name, f"{len(array)} rows", f"at least the {shape[0]} of one batch")
    if len({len(array) for array in rows.values()}) > 1:
        return "the inputs of the calibration rows have different numbers of rows"
    return ""


def _other(name: str, found: str, wanted: str) -> str:
    return f"the calibration rows do not fit the input '{name}': {found}, not {wanted}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
