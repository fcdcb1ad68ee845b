"""Passes ``int8_dynamic`` and ``int8_static``: 8-bit weights; and 8-bit activations, measured while running or before.

What INT8 has to look like differs by device (``Target.int8``): a file made for one is slow or refused on another. Each
is marked with its types, which ``check`` reads (``backends.notes``).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import numpy_helper

from shipworthy.backends.notes import DYNAMIC, note
from shipworthy.backends.onnx_types import element_types
from shipworthy.backends.onnxruntime_passes import quantize_dynamic, quantize_static
from shipworthy.errors import Refused
from shipworthy.optimize import reasons
from shipworthy.optimize.calibration import Method, Ranges, calibrate
from shipworthy.optimize.nodes import name_nodes, outline, read, write
from shipworthy.protocols import Arrays
from shipworthy.records import Int8Types, Target

WEIGHTED = ("Conv", "Gemm", "MatMul")
# A convolution that is quantized while it runs is several times slower than in float32.
MATRICES = ("Gemm", "MatMul")
# Relu follows a quantized operator for free; sums and poolings between convolutions gain nothing on a CPU.
# TensorRT fuses Relu by itself, and a sum into the convolution before it.
CPU_OPERATORS = (*WEIGHTED, "Relu")
OPERATORS: dict[Int8Types, tuple[str, ...]] = {
    "u8s8": CPU_OPERATORS,
    "u8s8_reduced": CPU_OPERATORS,
    "s8s8": CPU_OPERATORS,
    "s8s8_symmetric": (*WEIGHTED, "Add"),
}


@dataclass(frozen=True)
class Int8Dynamic:
    """Weights are INT8 in the file; the range of an activation is taken from each batch as it comes."""

    per_channel: bool = True
    types: Int8Types = "u8s8"
    name: str = "int8_dynamic"
    devices: tuple[str, ...] = ("cpu",)

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {"per_channel": self.per_channel, "operators": list(MATRICES), "reduced": self._reduced}

    @property
    def _reduced(self) -> bool:
        return self.types == "u8s8_reduced"

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """Operators with weights, not quantized yet; a runtime that quantizes activations while it runs."""
        if target.int8 == "s8s8_symmetric":
            return "TensorRT takes no activations that are quantized while the model runs"
        return reasons.unquantizable(outline(model), MATRICES)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Quantize the weights."""
        with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
            prepared, quantized = Path(scratch) / "prepared.onnx", Path(scratch) / "quantized.onnx"
            write(read(model), prepared)
            quantize_dynamic(prepared, quantized, list(MATRICES), per_channel=self.per_channel, reduced=self._reduced)
            _finish(quantized, result, DYNAMIC)


@dataclass(frozen=True)
class Int8Static:
    """Weights and activations are INT8; the ranges of activations come from the calibration rows.

    ``method`` says what of the values seen a range holds: all of them (``minmax``), ``percent`` of them
    (``percentile``), or what keeps most of the information (``entropy``). ``float_nodes`` names nodes that stay float.
    ``ranges_file`` has what ``ranges`` gave before (JSON), where the same rows are not to be looked at again.
    """

    types: Int8Types = "u8s8"
    method: Method = "minmax"
    per_channel: bool = True
    percent: float = 99.999
    float_nodes: tuple[str, ...] = ()
    ranges_file: str = ""
    name: str = "int8_static"

    @property
    def devices(self) -> tuple[str, ...]:
        """Symmetric types are TensorRT's; the others are a CPU's."""
        return ("cuda",) if self.types == "s8s8_symmetric" else ("cpu",)

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {
            "types": self.types,
            "per_channel": self.per_channel,
            "calibration": self.method,
            "operators": list(OPERATORS[self.types]),
            **({"percent": self.percent} if self.method == "percentile" else {}),
            **({"float_nodes": list(self.float_nodes)} if self.float_nodes else {}),
        }

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:
        """Operators with weights, not quantized yet; calibration rows that fit the model; a target of these types."""
        if self.types != target.int8:
            return f"it makes INT8 as {self.types}, and the target takes {target.int8}"
        if calibration is None:
            return reasons.NO_ROWS
        proto = outline(model)
        return reasons.unquantizable(proto, WEIGHTED) or reasons.too_old(proto) or reasons.unfit(proto, calibration)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Calibrate and quantize."""
        known = Path(self.ranges_file).read_bytes() if self.ranges_file else b""
        self.quantize(
            model, result, msgspec.json.decode(known, type=Ranges) if known else self.ranges(model, calibration or {})
        )

    def ranges(self, model: Path, calibration: Arrays) -> Ranges:
        """The range of every activation that may be quantized, over the calibration rows.

        Raises:
            Refused: the model cannot be read or loaded, or an activation is not finite.
            Failed: onnxruntime could not run the rows.
        """
        proto = prepared(model)
        types = element_types(proto)
        weights = {tensor.name for tensor in proto.graph.initializer}
        near = [node for node in proto.graph.node if node.op_type in OPERATORS[self.types]]
        found = {name for node in near for name in [*node.input, *node.output]} - weights
        names = sorted(name for name in found if types.get(name) == onnx.TensorProto.FLOAT)
        symmetric = self.types == "s8s8_symmetric"
        return calibrate(proto, names, calibration, self.method, percent=self.percent, symmetric=symmetric)

    def quantize(self, model: Path, result: Path, ranges: Ranges) -> None:
        """Write the quantized model; the same ranges serve for any choice of ``float_nodes``.

        Raises:
            Refused: nothing in the model could be quantized.
        """
        with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
            source, quantized = Path(scratch) / "prepared.onnx", Path(scratch) / "quantized.onnx"
            proto = prepared(model)
            write(proto, source)
            excluded = [*self.float_nodes, *_stay_float(proto)]
            operators = OPERATORS[self.types]
            quantize_static(source, quantized, ranges, operators, excluded, self.types, per_channel=self.per_channel)
            _finish(quantized, result, self.types)


def prepared(model: Path) -> onnx.ModelProto:
    """The model with a name for every node, and biases that the quantizer takes."""
    proto = read(model)
    name_nodes(proto)
    _flatten_biases(proto)
    return proto


def _stay_float(proto: onnx.ModelProto) -> list[str]:
    """The nodes that are not quantized although their kind is.

    Those that do not compute in float32; and all sums but those of convolutions: one with a constant is a shift of its own
    scale, and one between matrices carries the large values of a transformer.
    """
    graph, types = proto.graph, element_types(proto)
    convolutional = any(node.op_type == "Conv" for node in graph.node)
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    return [
        node.name
        for node in graph.node
        if any(types.get(name) != onnx.TensorProto.FLOAT for name in node.input if name)
        or (node.op_type == "Add" and not (convolutional and constants.isdisjoint(node.input)))
    ]


def _finish(quantized: Path, result: Path, types: str) -> None:
    """Mark what the quantizer wrote; refuse it when it is what went in."""
    proto = read(quantized)
    if not reasons.quantized(proto):
        raise Refused("nothing in the model could be quantized", found="no operator with float32 weights and a known range")
    note(proto, {"int8": types})
    write(proto, result)


def _flatten_biases(proto: onnx.ModelProto) -> None:
    """Give every Gemm a bias of one dimension: the quantizer takes no other, and converters write ``[1, n]``."""
    biases = {node.input[2] for node in proto.graph.node if node.op_type == "Gemm" and len(node.input) > 2}  # noqa: PLR2004
    for tensor in proto.graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:  # noqa: PLR2004
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(-1), tensor.name))
