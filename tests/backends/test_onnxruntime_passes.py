"""What the quantizers are given, and what they leave alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from shipworthy.backends import onnxruntime_passes as passes


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_calibration_comes_in_batches_that_hold_every_row_once(rows):
    given = {"a": np.arange(rows), "b": np.arange(rows * 2).reshape(rows, 2)}
    batches = list(passes._batches(given))
    assert all(1 <= len(batch["a"]) == len(batch["b"]) <= passes.CALIBRATION_BATCH for batch in batches)
    for name, array in given.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), array)


def test_every_calibration_row_shapes_the_ranges(digits, tmp_path):
    """The widest value stands in the last row only: the scale of the input must know it."""
    rows = digits.train.inputs["X"][:130].copy()
    made = []
    for last in (16.0, 1600.0):
        rows[-1] = last
        result = tmp_path / f"{last}.onnx"
        passes.quantize_static(Path(digits.model.path), result, {"X": rows}, ["MatMul", "Gemm"], per_channel=False)
        made.append(scales(result))
    assert max(made[1]) > 20 * max(made[0])


def scales(path):
    """The scales of quantized activations."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [float(tensors[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"]


def test_only_standard_operators_come_out_of_the_graph_pass(digits, tmp_path):
    passes.optimise(Path(digits.model.path), tmp_path / "r.onnx")
    assert {node.domain for node in onnx.load(tmp_path / "r.onnx").graph.node} <= {"", "ai.onnx.ml"}


def test_the_quantizers_advice_is_not_heard_and_logging_is_left_as_it_was(digits, tmp_path, caplog):
    for before in (logging.NOTSET, logging.INFO):
        logging.disable(before)
        try:
            passes.quantize_dynamic(Path(digits.model.path), tmp_path / "r.onnx", ["MatMul"], per_channel=False)
            assert logging.root.manager.disable == before
        finally:
            logging.disable(logging.NOTSET)
    assert caplog.records == []
    with pytest.raises(RuntimeError), passes._quiet():
        raise RuntimeError
    assert logging.root.manager.disable == logging.NOTSET
