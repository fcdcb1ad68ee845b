"""Small networks built node by node, and what runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.records import Target


def normal(random, *shape, gain=1.0):
    return (random.normal(size=shape) * gain).astype(np.float32)


@pytest.fixture(scope="session")
def cnn(onnx_model):
    """Two residual blocks on 3x16x16 images, a pooling, ten numbers out; every kind of weight."""
    random, nodes, weights = np.random.default_rng(0), [], {}

    def conv(taken, given, ins, outs):
        weights[f"{given}.w"] = normal(random, outs, ins, 3, 3, gain=(2 / ins / 9) ** 0.5)
        weights[f"{given}.b"] = normal(random, outs, gain=0.1)
        nodes.append(helper.make_node("Conv", [taken, f"{given}.w", f"{given}.b"], [given], pads=[1] * 4))

    conv("image", "c0", 3, 16)
    nodes.append(helper.make_node("Relu", ["c0"], ["x0"]))
    for block in (1, 2):
        conv(f"x{block - 1}", f"a{block}", 16, 16)
        nodes.append(helper.make_node("Relu", [f"a{block}"], [f"r{block}"]))
        conv(f"r{block}", f"b{block}", 16, 16)
        nodes.append(helper.make_node("Add", [f"b{block}", f"x{block - 1}"], [f"s{block}"]))
        nodes.append(helper.make_node("Relu", [f"s{block}"], [f"x{block}"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["x2"], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
    weights |= {"g.w": normal(random, 16, 10, gain=0.35), "g.b": normal(random, 10)}
    nodes.append(helper.make_node("Gemm", ["flat", "g.w", "g.b"], ["logits"]))
    return onnx_model(nodes, [("image", "float32", [None, 3, 16, 16])], [("logits", "float32", [None, 10])], weights)


@pytest.fixture(scope="session")
def images():
    return {"image": normal(np.random.default_rng(1), 40, 3, 16, 16)}


@pytest.fixture
def saved(tmp_path):
    """Write a model where a pass finds it."""

    def save(proto, name="model.onnx"):
        path = tmp_path / name
        onnx.save(proto, path)
        return path

    return save


@pytest.fixture
def answers():
    """What the model in a file answers, all outputs by name."""

    def run(path, rows):
        return OnnxRuntimeRunner(Path(path), Target()).run(rows)

    return run
