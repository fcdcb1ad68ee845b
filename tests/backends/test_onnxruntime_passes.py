"""What the quantizers are given, and what they leave alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.backends import onnxruntime_passes as passes
from shipworthy.errors import Failed
from shipworthy.records import Target


def fed(model, names, rows):
    """What ``feed`` gave, by name, batch by batch."""
    got = {name: [] for name in names}

    def take(answers):
        assert set(answers) == set(names)
        for name, array in answers.items():
            got[name].append(array.copy())

    passes.feed(model, names, rows, take)
    return got


@pytest.fixture
def doubling(onnx_model, tmp_path):
    """``y = x + x``, with as many rows in a batch as it is told."""

    def make(batch):
        nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
        path = tmp_path / "doubling.onnx"
        path.write_bytes(onnx_model(nodes, [("x", "float32", [batch, 3])], [("y", "float32", [batch, 3])]).SerializeToString())
        return path

    return make


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_every_row_is_fed_once_in_order(count, doubling):
    rows = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    got = fed(doubling(None), ["x", "y"], {"x": rows})
    assert all(1 <= len(batch) <= passes.MOST_ROWS for batch in got["y"])
    np.testing.assert_array_equal(np.concatenate(got["x"]), rows)
    np.testing.assert_array_equal(np.concatenate(got["y"]), 2 * rows)


def test_the_size_of_the_answers_bounds_a_batch(doubling, monkeypatch):
    monkeypatch.setattr(passes, "ANSWER_BYTES", 4 * 3 * 5)
    got = fed(doubling(None), ["y"], {"x": np.zeros((20, 3), np.float32)})
    assert [len(batch) for batch in got["y"]] == [1, 5, 5, 5, 4]


def test_a_fixed_batch_is_kept_and_what_does_not_fill_one_is_left_out(doubling):
    rows = np.arange(33, dtype=np.float32).reshape(11, 3)
    got = fed(doubling(4), ["y"], {"x": rows})
    assert [len(batch) for batch in got["y"]] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(got["y"]), 2 * rows[:8])


def test_rows_that_the_runtime_cannot_run_are_said_so(doubling):
    with pytest.raises(Failed, match="could not run the rows"):
        fed(doubling(None), ["y"], {"x": np.zeros((2, 4), np.float32)})


def test_what_the_runtime_lacks_is_what_it_says():
    assert passes.lacks("float16", Target()) == ""
    assert "MatMul" in passes.lacks("bfloat16", Target()), "onnxruntime has learned it: the docs say that it has not"


def test_only_standard_operators_come_out_of_the_graph_pass(digits, tmp_path):
    passes.optimise(Path(digits.model.path), tmp_path / "r.onnx")
    assert {node.domain for node in onnx.load(tmp_path / "r.onnx").graph.node} <= {"", "ai.onnx.ml"}


def test_the_quantizers_advice_is_not_heard_and_logging_is_left_as_it_was(digits, tmp_path, caplog):
    for before in (logging.NOTSET, logging.INFO):
        logging.disable(before)
        try:
            passes.quantize_dynamic(Path(digits.model.path), tmp_path / "r.onnx", ["MatMul"], per_channel=False, reduced=False)
            assert logging.root.manager.disable == before
        finally:
            logging.disable(logging.NOTSET)
    assert caplog.records == []
    with pytest.raises(RuntimeError), passes._quiet():
        raise RuntimeError
    assert logging.root.manager.disable == logging.NOTSET
