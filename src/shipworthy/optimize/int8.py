"""Passes ``int8_dynamic`` and ``int8_static``: 8-bit weights; and 8-bit activations, measured while running or before."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from shipworthy.backends.onnxruntime_passes import quantize_dynamic, quantize_static
from shipworthy.optimize.nodes import nodes
from shipworthy.protocols import Arrays
from shipworthy.records import Target

WEIGHTED = ("Conv", "Gemm", "MatMul")
# Relu follows a quantized operator for free; alone it gains nothing.
STATIC = [*WEIGHTED, "Relu"]
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}


@dataclass(frozen=True)
class Int8Dynamic:
    """Weights are INT8 in the file; the range of an activation is taken from each batch as it comes."""

    per_channel: bool = True
    name: str = "int8_dynamic"
    devices: tuple[str, ...] = ("cpu",)

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {"per_channel": self.per_channel, "operators": list(WEIGHTED)}

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """Operators with constant weights, not quantized yet."""
        return _why_not(model)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Quantize the weights of a copy: the quantizer writes scratch beside what it reads."""
        prepared = result.with_suffix(".prepared.onnx")
        shutil.copyfile(model, prepared)
        quantize_dynamic(prepared, result, list(WEIGHTED), per_channel=self.per_channel)
        prepared.unlink()


@dataclass(frozen=True)
class Int8Static:
    """Weights and activations are INT8; ranges come from the calibration rows (MinMax), types are those of x86 CPUs."""

    per_channel: bool = True
    name: str = "int8_static"
    devices: tuple[str, ...] = ("cpu",)

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {
            "per_channel": self.per_channel,
            "operators": list(STATIC),
            "activations": "uint8",
            "weights": "int8",
            "calibration": "minmax",
        }

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """Operators with constant weights, not quantized yet; and calibration rows."""
        if calibration is None:
            return "it needs calibration rows: name an .npz file of training rows as calibration under [data]"
        return _why_not(model)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Calibrate and quantize."""
        prepared = result.with_suffix(".prepared.onnx")
        proto = onnx.load_model(model)
        _flatten_biases(proto)
        prepared.write_bytes(proto.SerializeToString(deterministic=True))
        quantize_static(prepared, result, calibration or {}, STATIC, per_channel=self.per_channel)
        prepared.unlink()


def _why_not(model: Path) -> str:
    kinds = {node.op_type for node in nodes(onnx.load_model(model).graph)}
    if kinds & QUANTIZED:
        return "the model is quantized already"
    if not kinds & set(WEIGHTED):
        return f"the model has no {', '.join(WEIGHTED)} to quantize"
    return ""


def _flatten_biases(proto: onnx.ModelProto) -> None:
    """Give every Gemm a bias of one dimension: the quantizer takes no other, and converters write ``[1, n]``."""
    biases = {node.input[2] for node in proto.graph.node if node.op_type == "Gemm" and len(node.input) > 2}  # noqa: PLR2004
    for tensor in proto.graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:  # noqa: PLR2004
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(-1), tensor.name))
