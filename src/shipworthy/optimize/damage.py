"""What INT8 does to each node that multiplies: the noise that it adds, alone, to its own output.

Every such node gets a shadow: the same operator on its float inputs, quantized and back as INT8 would, with quantized
weights. The two outputs are compared over the calibration rows, so that a node is not blamed for what those before it did.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from shipworthy.backends.onnx_types import element_types
from shipworthy.backends.onnxruntime_passes import feed
from shipworthy.optimize.calibration import Ranges
from shipworthy.optimize.int8 import OPERATORS, WEIGHTED, Int8Static, prepared
from shipworthy.optimize.nodes import write
from shipworthy.protocols import Array, Arrays

# Noise is a matter of the kind of values, not of their number.
MOST_ROWS = 64
# Operators that hand on the values that they take, and so their range.
PASSING = {
    *("Relu", "Clip", "LeakyRelu", "Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity"),
}
SHADOW = "shadow/"
SILENT_DB = 200.0


class Found(msgspec.Struct, frozen=True):
    """Signal to noise in dB of every node that multiplies, by name, the worst first; and the ranges of all activations."""

    snr_db: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    groups: dict[str, tuple[str, ...]]
    """The nodes that must all stay float for one to compute on float inputs."""


@dataclass(frozen=True)
class Damage:
    """Looks at a model as a pass does, but writes what it has found."""

    step: Int8Static

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Write ``Found`` as JSON."""
        rows = calibration or {}
        ranges = self.step.ranges(model, rows)
        proto = prepared(model)
        few = {name: array[:MOST_ROWS] for name, array in rows.items()}
        noise = dict(sorted(_noise(proto, ranges, few, self.step).items(), key=lambda one: one[1]))
        groups = {name: tuple(sorted(_group(proto, name, self.step))) for name in noise}
        result.write_bytes(msgspec.json.encode(Found(noise, ranges, groups)))


def _noise(proto: onnx.ModelProto, ranges: Ranges, rows: Arrays, step: Int8Static) -> dict[str, float]:
    shadowed = onnx.ModelProto()
    shadowed.CopyFrom(proto)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    pairs: dict[str, tuple[str, str]] = {}
    for node in _multiplying(proto):
        if _shade(shadowed.graph, node, weights, ranges, step):
            pairs[node.name] = (node.output[0], SHADOW + node.output[0])
    given = {one.name for one in shadowed.graph.output}
    wanted = [name for pair in pairs.values() for name in pair]
    shadowed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in given)
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)

    def take(answers: Mapping[str, Any]) -> None:
        for name, (real, shadow) in pairs.items():
            exact = answers[real].astype(np.float64)
            signal[name] += float((exact**2).sum())
            noise[name] += float(((exact - answers[shadow]) ** 2).sum())

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "shadowed.onnx"
        write(shadowed, file)
        feed(file, wanted, rows, take)
    return {name: _db(signal[name], noise[name]) for name in pairs}


def _db(signal: float, noise: float) -> float:
    if not noise or not signal:
        return SILENT_DB if not noise else -SILENT_DB
    return min(SILENT_DB, 10 * math.log10(signal / noise))


def _multiplying(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes that INT8 is for, computing in float32."""
    types = element_types(proto)
    for node in proto.graph.node:
        if node.op_type in WEIGHTED and all(types.get(name) == onnx.TensorProto.FLOAT for name in node.input if name):
            yield node


def _shade(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], ranges: Ranges, step: Int8Static
) -> bool:
    """Add the shadow of a node; whether it has one."""
    inputs = list(node.input)
    for place, name in enumerate(inputs[:2]):
        if name in weights:
            quantized = _weight(numpy_helper.to_array(weights[name]), node, step)
            inputs[place] = f"{SHADOW}{node.name}/{place}"
            graph.initializer.append(numpy_helper.from_array(quantized, inputs[place]))
        elif name in ranges:
            inputs[place] = f"{SHADOW}{node.name}/{place}"
            graph.node.extend(_there_and_back(graph, name, inputs[place], ranges[name], step))
        else:
            return False
    shadow = onnx.NodeProto()
    shadow.CopyFrom(node)
    shadow.name = SHADOW + node.name
    del shadow.input[:]
    shadow.input.extend(inputs)
    shadow.output[0] = SHADOW + node.output[0]
    graph.node.append(shadow)
    return True


def _weight(weight: Array, node: onnx.NodeProto, step: Int8Static) -> Array:
    """The weight as INT8 has it: symmetric, with a scale for each output channel where that is wanted."""
    axis = {"Conv": 0, "Gemm": 0 if _transposed(node) else 1}.get(node.op_type, weight.ndim - 1)
    others = tuple(one for one in range(weight.ndim) if one != axis) if step.per_channel else None
    levels = 63 if step.types == "u8s8_reduced" else 127
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), np.finfo(np.float32).tiny) / levels
    quantized: Array = (np.round(weight / scale) * scale).astype(np.float32)
    return quantized


def _transposed(node: onnx.NodeProto) -> bool:
    return any(one.name == "transB" and one.i for one in node.attribute)


def _there_and_back(
    graph: onnx.GraphProto, name: str, to: str, between: tuple[float, float], step: Int8Static
) -> Iterator[onnx.NodeProto]:
    """Q and DQ of an activation."""
    low, high = min(between[0], 0.0), max(between[1], 0.0)
    if step.types.startswith("u8"):
        scale = max((high - low) / 255, float(np.finfo(np.float32).tiny))
        zero: Any = np.array(round(-low / scale), np.uint8)
    elif step.types == "s8s8_symmetric":
        scale, zero = max(-low, high, float(np.finfo(np.float32).tiny)) / 127, np.array(0, np.int8)
    else:
        scale = max((high - low) / 255, float(np.finfo(np.float32).tiny))
        zero = np.array(round(-low / scale) - 128, np.int8)
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), to + "/scale"))
    graph.initializer.append(numpy_helper.from_array(zero, to + "/zero"))
    yield helper.make_node("QuantizeLinear", [name, to + "/scale", to + "/zero"], [to + "/q"])
    yield helper.make_node("DequantizeLinear", [to + "/q", to + "/scale", to + "/zero"], [to])


def _group(proto: onnx.ModelProto, name: str, step: Int8Static) -> set[str]:
    """A node, and those that would quantize its inputs: who writes them, back to who multiplies, and who else reads them."""
    quantizable = [node for node in proto.graph.node if node.op_type in OPERATORS[step.types]]
    writer = {output: node for node in proto.graph.node for output in node.output}
    found = {name}
    tensors = [one for node in quantizable if node.name == name for one in node.input]
    seen: set[str] = set()
    while tensors:
        tensor = tensors.pop()
        if tensor in seen or tensor not in writer:
            continue
        seen.add(tensor)
        found |= {node.name for node in quantizable if tensor in node.input or tensor in node.output}
        if writer[tensor].op_type in PASSING:
            tensors += writer[tensor].input
    return found
