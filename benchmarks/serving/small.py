"""A network for the digits of 155 kB: what a server costs shows, the model costs less and stays in a core's cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.models import Model
from serving.wires import Names

PIXELS, SIDE, CLASSES = 64, 8, 10
# Outputs and inputs of each layer's weights: two convolutions of 3x3, then two full layers.
CONVOLUTIONS = ((24, 1), (32, 24))
FULL = ((60, 512), (CLASSES, 60))


def small(folder: Path) -> Model:
    """Two convolutions and two full layers with random weights; free batch: 38,574 parameters, 155 kB."""
    path = folder / "small.onnx"
    if not path.exists():
        onnx.save(_build(), path)
    pixels = np.random.default_rng(0).integers(0, 17, (64, 1, PIXELS)).astype(np.float32)
    return Model(path, Names(path.stem, "x", "probabilities"), list(pixels), tolerance=1e-4)


def _build() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(np.array([-1, 1, SIDE, SIDE]), "shape")]

    def weight(*shape: int) -> str:
        values = random.standard_normal(shape).astype(np.float32) * np.float32(np.sqrt(2 / max(1, np.prod(shape[1:]))))
        weights.append(numpy_helper.from_array(values, name := f"w{len(weights)}"))
        return name

    nodes, value = [helper.make_node("Reshape", ["x", "shape"], ["image"])], "image"
    for layer, (out, into) in enumerate(CONVOLUTIONS):
        nodes.append(helper.make_node("Conv", [value, weight(out, into, 3, 3), weight(out)], [f"c{layer}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [value := f"r{layer}"]))
    nodes.append(helper.make_node("MaxPool", [value], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", weight(*FULL[0]), weight(FULL[0][0])], ["full"], transB=1))
    nodes.append(helper.make_node("Relu", ["full"], ["active"]))
    nodes.append(helper.make_node("Gemm", ["active", weight(*FULL[1]), weight(FULL[1][0])], ["logits"], transB=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, PIXELS])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, CLASSES])
    graph = helper.make_graph(nodes, "small", [given], [answer], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
