"""``check --fix``: what is mended, what is refused, and that nothing is half done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check import mend
from shipworthy.cli.check import command
from shipworthy.errors import Refused
from shipworthy.records import Target

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((2, 3)).astype(np.float32)
X = ("x", "float32", [1, 2])


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


@pytest.fixture
def saved(onnx_model, tmp_path):
    def save(*arguments, **options) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_model(*arguments, **options).SerializeToString())
        return path

    return save


def reshaped(saved, shape, rows=1):
    return saved(
        [node("MatMul", ["x", "w"], ["m"]), node("Reshape", ["m", "s"], ["y"])],
        [("x", "float32", [rows, 2])],
        [("y", "float32", [rows, *shape[1:]] if len(shape) > 1 else shape)],
        {"w": WEIGHT, "s": np.array(shape)},
    )


def test_a_fixed_batch_is_freed_in_a_copy(saved):
    path = reshaped(saved, [1, 3, 1])
    before = path.read_bytes()
    written, said = mend.fix(path)
    assert (written.name, path.read_bytes()) == ("model.fixed.onnx", before)
    assert said[0] == "the first dimension of 1 input and 1 output was 1 and is free"
    assert said[1].startswith("1 Reshape copy it")
    assert "at 1 row a call and at 2" in said[2]
    onnx.checker.check_model(onnx.load(written), full_check=True)
    runner = OnnxRuntimeRunner(written, Target())
    assert runner.signature.is_batched
    rows = RANDOM.standard_normal((5, 2)).astype(np.float32)
    np.testing.assert_allclose(runner.run({"x": rows})["y"][:, :, 0], rows @ WEIGHT, rtol=1e-5)


def test_a_batch_of_several_rows_is_proved_at_one_row_too(saved):
    said = mend.fix(reshaped(saved, [4, 1, 3], rows=4))[1]
    assert "at 4 rows a call and at 8, 1" in said[2]


def test_a_mended_model_has_nothing_to_mend(saved):
    written, _ = mend.fix(reshaped(saved, [1, 3, 1]))
    assert mend.fix(written) == (written, ())


def test_weights_that_are_inputs_become_weights(saved):
    weight = ("w", "float32", [2, 3])
    path = saved(
        [node("MatMul", ["x", "w"], ["y"])],
        [("x", "float32", [None, 2]), weight],
        [("y", "float32", [None, 3])],
        {"w": WEIGHT},
        ir_version=3,
    )
    written, said = mend.fix(path)
    assert said[0] == "1 weights are no inputs any more"
    mended = onnx.load(written)
    assert [one.name for one in mended.graph.input] == ["x"]
    assert mended.ir_version == 4


REFUSED = {
    "a constant shape over rows": (lambda saved: reshaped(saved, [12], rows=4), "Reshape 'y' makes the constant shape [12]"),
    "an expanded batch": (
        lambda saved: saved(
            [node("ReduceMax", ["x"], ["m"], keepdims=1), node("Expand", ["m", "s"], ["y"])],
            [("x", "float32", [4, 2])],
            [("y", "float32", [4, 2])],
            {"s": np.array([4, 2])},
        ),
        "Expand 'y' makes the constant shape [4, 2]",
    ),
    "rows that depend on each other": (
        lambda saved: saved(
            [node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["y"])],
            [("x", "float32", [4, 2])],
            [("y", "float32", [4, 2])],
            {"a": np.array([0])},
        ),
        "rows depend on each other",
    ),
    "an answer without rows": (
        lambda saved: saved([node("ReduceSum", ["x"], ["y"], keepdims=0)], [X], [("y", "float32", [])]),
        "output 'y' has no rows",
    ),
    "a table of as many rows": (
        lambda saved: saved(
            [node("Add", ["x", "w"], ["y"])],
            [("x", "float32", [4, 2])],
            [("y", "float32", [4, 2])],
            {"w": np.arange(8, dtype=np.float32).reshape(4, 2)},
        ),
        "it does not run with 8 rows",
    ),
    "a zero that means none": (
        lambda saved: saved(
            [node("Reshape", ["x", "s"], ["y"], allowzero=1)],
            [X],
            [("y", "float32", [1, 2, 1])],
            {"s": np.array([1, 2, 1])},
        ),
        "Reshape 'y' makes the constant shape [1, 2, 1]",
    ),
    "inputs of several first dimensions": (
        lambda saved: saved([node("MatMul", ["x", "z"], ["y"])], [X, ("z", "float32", [2, 3])], [("y", "float32", [1, 3])]),
        "the inputs differ in it: 'x' 1, 'z' 2",
    ),
    "an input without dimensions": (
        lambda saved: saved([node("Mul", ["x", "z"], ["y"])], [X, ("z", "float32", [])], [("y", "float32", [1, 2])]),
        "input 'z' has no first dimension",
    ),
}


@pytest.mark.parametrize(("build", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_freed_is_refused_and_nothing_is_written(saved, build, why):
    path = build(saved)
    with pytest.raises(Refused, match="cannot be freed") as error:
        mend.fix(path)
    assert why in error.value.found
    assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]


def test_only_onnx_is_mended(tmp_path):
    with pytest.raises(Refused, match="is not ONNX"):
        mend.fix(tmp_path / "model.joblib")
    with pytest.raises(Refused, match="there is no file"):
        mend.fix(tmp_path / "model.onnx")


def test_a_copy_that_answers_otherwise_is_not_written(saved, monkeypatch):
    """The proof is one: a mend that changes the weights does not pass it."""
    path = reshaped(saved, [1, 3, 1])

    def wrong(proto):
        result, said = mended(proto)
        result.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(WEIGHT + 1, "w"))
        return result, said

    mended = mend.mended
    monkeypatch.setattr(mend, "mended", wrong)
    with pytest.raises(Refused, match="cannot be freed"):
        mend.fix(path)
    assert not path.with_suffix(".fixed.onnx").exists()


def test_mending_does_not_touch_what_it_is_given(onnx_model):
    proto = onnx_model([node("Relu", ["x"], ["y"])], [X], [("y", "float32", [1, 2])])
    before = proto.SerializeToString()
    result, _ = mend.mended(proto)
    assert proto.SerializeToString() == before
    assert result.SerializeToString() != before


def test_the_verb_says_what_it_did(saved):
    path = reshaped(saved, [1, 3, 1])
    done = CliRunner().invoke(command, [str(path), "--fix"])
    assert done.exit_code == 0, done.output
    assert f"written: {path.with_suffix('.fixed.onnx')}" in done.output
    again = CliRunner().invoke(command, [str(path.with_suffix(".fixed.onnx")), "--fix"])
    assert "nothing to mend" in again.output
