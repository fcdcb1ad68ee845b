"""Each pass keeps the laws of the seam, says why it cannot be applied, and keeps near the original's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.backends import external
from shipworthy.optimize import reasons
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic, Int8Static
from shipworthy.optimize.nodes import outline
from shipworthy.optimize.precision import Half
from shipworthy.records import Target
from shipworthy.testing import laws

X86, TENSORRT = Target(), Target(int8="s8s8_symmetric")
PASSES = {
    "graph": (Graph(), X86),
    "fp16": (Half(), X86),
    "int8_dynamic": (Int8Dynamic(), X86),
    "int8_dynamic_reduced": (Int8Dynamic(types="u8s8_reduced"), Target(int8="u8s8_reduced")),
    "int8_static": (Int8Static(), X86),
    "int8_static_per_tensor": (Int8Static(per_channel=False), X86),
    "int8_static_percentile": (Int8Static(method="percentile"), X86),
    "int8_static_entropy": (Int8Static(method="entropy"), X86),
    "int8_static_reduced": (Int8Static("u8s8_reduced"), Target(int8="u8s8_reduced")),
    "int8_static_arm": (Int8Static("s8s8"), Target(int8="s8s8")),
    "int8_static_tensorrt": (Int8Static("s8s8_symmetric"), TENSORRT),
}
QUANTIZING = [name for name in PASSES if name.startswith("int8")]


@pytest.fixture(params=PASSES)
def one(request):
    return PASSES[request.param]


@pytest.mark.parametrize("law", laws.PASS, ids=lambda law: law.__name__)
def test_the_laws_of_passes(law, one, digits, tmp_path):
    law(one[0], laws.Bench(Path(digits.model.path), tmp_path, digits.train.inputs, one[1]))


@pytest.mark.parametrize("law", laws.PASS, ids=lambda law: law.__name__)
def test_the_laws_of_passes_on_a_convolutional_network(law, one, cnn, images, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(cnn, path)
    (tmp_path / "bench").mkdir()
    law(one[0], laws.Bench(path, tmp_path / "bench", images, one[1]))


def test_options_tell_every_two_passes_apart():
    told = [(one.name, str(sorted(one.options.items()))) for one, _ in PASSES.values()]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("name", QUANTIZING)
def test_what_is_quantized_is_not_quantized_again(name, digits, tmp_path):
    one, target = PASSES[name]
    for first in QUANTIZING:
        PASSES[first][0].apply(Path(digits.model.path), tmp_path / "r.onnx", digits.train.inputs)
        reason = one.requires(tmp_path / "r.onnx", target, digits.train.inputs)
        assert reason == "the model is quantized already"


@pytest.mark.parametrize("operator", ["MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulNBits"])
def test_what_somebody_else_has_quantized_is_not_quantized_again(operator, onnx_model):
    nodes = [helper.make_node(operator, ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    proto = onnx_model(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], {})
    assert reasons.quantized(proto) == "the model is quantized already"
    proto.graph.node[0].op_type = "MatMul"
    assert reasons.quantized(proto) == ""


@pytest.mark.parametrize("kind", ["BatchNormalization", "Dropout"])
def test_a_graph_in_training_mode_is_skipped(kind, one, onnx_model, saved):
    scales = {name: np.ones(4, np.float32) for name in ("s", "b", "m", "v")}
    weights = {"w": np.ones((4, 4), np.float32), "ratio": np.float32(0.5), "mode": np.array(True), **scales}
    node = {
        "BatchNormalization": helper.make_node(kind, ["h", "s", "b", "m", "v"], ["y", "m1", "v1"], "bn", training_mode=1),
        "Dropout": helper.make_node(kind, ["h", "ratio", "mode"], ["y"], "drop"),
    }[kind]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), node]
    path = saved(onnx_model(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights))
    reason = one[0].requires(path, one[1], {"x": np.ones((4, 4), np.float32)})
    assert reason == f"the graph is in training mode ({kind} '{node.name}'): export the model in evaluation mode"


def test_evaluation_mode_is_not_training_mode(one, onnx_model, saved):
    weights = {"w": np.ones((4, 4), np.float32), "ratio": np.float32(0.5), "mode": np.array(False)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Dropout", ["h", "ratio", "mode"], ["y"])]
    path = saved(onnx_model(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights))
    assert one[0].requires(path, one[1], {"x": np.ones((4, 4), np.float32)}) == ""


ROWS = {
    "no rows at all": ({}, "for the inputs none, and the model takes image"),
    "another input": ({"picture": np.zeros((2, 3, 16, 16), np.float32)}, "for the inputs picture, and the model takes image"),
    "no row": ({"image": np.zeros((0, 3, 16, 16), np.float32)}, "do not fit the input 'image': float32 [0, 3, 16, 16]"),
    "another size": ({"image": np.zeros((2, 3, 8, 16), np.float32)}, "[2, 3, 8, 16], not [None, 3, 16, 16]"),
    "another rank": ({"image": np.zeros((2, 3), np.float32)}, "do not fit the input 'image': float32 [2, 3]"),
    "another dtype": ({"image": np.zeros((2, 3, 16, 16))}, "do not fit the input 'image': float64"),
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("name", [name for name in PASSES if name.startswith("int8_static") or name == "fp16"])
def test_calibration_rows_that_do_not_fit_are_said(case, name, cnn, saved):
    rows, says = ROWS[case]
    one, target = PASSES[name]
    assert says in one.requires(saved(cnn), target, rows)


def test_too_few_rows_for_a_fixed_batch_are_said(onnx_model, saved):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.ones((4, 4), np.float32)}
    path = saved(onnx_model([node], [("x", "float32", [8, 4])], [("y", "float32", [8, 4])], weights))
    reason = Int8Static().requires(path, X86, {"x": np.ones((7, 4), np.float32)})
    assert reason == "the calibration rows do not fit the input 'x': 7 rows, not at least the 8 of one batch"
    assert Int8Static().requires(path, X86, {"x": np.ones((8, 4), np.float32)}) == ""


def test_rows_of_different_numbers_are_said(onnx_model, saved):
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    inputs = [("x", "float32", [None, 4]), ("z", "float32", [None, 4])]
    path = saved(onnx_model([node], inputs, [("y", "float32", [None, 4])]))
    rows = {"x": np.ones((4, 4), np.float32), "z": np.ones((5, 4), np.float32)}
    assert Int8Static().requires(path, X86, rows) == "the inputs of the calibration rows have different numbers of rows"


@pytest.mark.parametrize("name", QUANTIZING)
def test_nothing_to_quantize_is_said(name, onnx_model, saved):
    path = saved(
        onnx_model([helper.make_node("Add", ["x", "x"], ["y"])], [("x", "float32", [None])], [("y", "float32", [None])])
    )
    one, target = PASSES[name]
    reason = one.requires(path, target, {"x": np.ones(4, np.float32)})
    kinds = "Gemm, MatMul" if "dynamic" in name else "Conv, Gemm, MatMul"
    assert reason == f"the model has no {kinds} to quantize"


def test_static_int8_needs_calibration_and_the_others_do_not(digits):
    for name, (one, target) in PASSES.items():
        reason = one.requires(Path(digits.model.path), target, None)
        assert ("calibration" in reason) == name.startswith("int8_static")
        assert bool(reason) == name.startswith("int8_static")


def outside(proto, path):
    """The model, its weights in a file beside it."""
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)


def copied(proto):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def test_weights_in_another_file_are_read_and_the_result_is_one_file(one, cnn, images, answers, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    inside, beside, result = tmp_path / "in" / "one.onnx", tmp_path / "in" / "two.onnx", tmp_path / "out" / "r.onnx"
    onnx.save(cnn, inside)
    outside(copied(cnn), beside)
    assert any(external.outside(outline(beside)))
    assert one[0].requires(beside, one[1], images) == ""
    one[0].apply(beside, result, images)
    assert list((tmp_path / "out").iterdir()) == [result]
    got = result.read_bytes()
    one[0].apply(inside, result, images)
    np.testing.assert_allclose(
        answers(result, images)["logits"], answers_of(got, tmp_path, answers, images), atol=1e-6, err_msg="the same weights"
    )


def answers_of(data, folder, answers, rows):
    (folder / "got.onnx").write_bytes(data)
    return answers(folder / "got.onnx", rows)["logits"]
