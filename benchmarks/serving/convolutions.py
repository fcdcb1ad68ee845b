"""A model of about 20 ms a run with requests of 256 bytes, so that clients on the same cores can overload its server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.models import Model
from serving.wires import Names

CHANNELS, LAYERS, SIDE = 256, 36, 8


def twenty_ms(folder: Path) -> Model:
    """36 convolutions (3x3, 256 channels, over 8x8): 1,360 million multiplications a row; batches gain nothing."""
    path = folder / "twenty_ms.onnx"
    if not path.exists():
        onnx.save(_build(), path)
    rows = np.random.default_rng(2).standard_normal((8, 1, SIDE * SIDE)).astype(np.float32)
    return Model(path, Names(path.stem, "x", "y"), list(rows), tolerance=1e-3)


def _build() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shape = numpy_helper.from_array(np.array([-1, 1, SIDE, SIDE]), "shape")
    weights, nodes, value = [shape], [helper.make_node("Reshape", ["x", "shape"], ["image"])], "image"
    for layer in range(LAYERS + 1):
        channels = CHANNELS if layer else 1
        scale = np.float32(np.sqrt(2 / (9 * channels)))  # keeps activations near 1 through all layers
        kernel = random.standard_normal((CHANNELS, channels, 3, 3)).astype(np.float32) * scale
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [value := f"r{layer}"]))
    nodes += [helper.make_node("GlobalAveragePool", [value], ["mean"]), helper.make_node("Flatten", ["mean"], ["y"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, SIDE * SIDE])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, CHANNELS])
    graph = helper.make_graph(nodes, "twenty_ms", [given], [answer], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
