"""How many of a file's numbers are zero."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from shipworthy.backends.weights import sparsity_percent


def test_zeros_of_weights_and_constants_of_any_type(onnx_model, tmp_path):
    constant = numpy_helper.from_array(np.float32([[0, 0, 0, 1]]), "")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Constant", [], ["word"], value_string=b"0"),
        helper.make_node("Add", ["y", "c"], ["z"]),
    ]
    weights = {"w": np.float32([[0, 1, 2, 0]]), "q": np.int8([0, 5]), "h": np.float16([-0.0, 1e-7])}
    weights["s"] = np.array(["0", ""], dtype=object)
    model = onnx_model(nodes, [("x", "float32", [None, 1])], [("z", "float32", [None, 4])], weights)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert sparsity_percent(tmp_path / "m.onnx") == pytest.approx(100 * (2 + 3 + 1 + 1) / 12)


def test_a_model_without_weights(onnx_model, tmp_path):
    model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [("x", "float32", [None])], [("y", "float32", [None])])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert sparsity_percent(tmp_path / "m.onnx") == 0
