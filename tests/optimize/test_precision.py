"""16 bits in the graph: half the size, near the same numbers, and float32 where the values leave the range."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shipworthy.backends.notes import notes
from shipworthy.backends.onnx_types import element_types
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Refused
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Static
from shipworthy.optimize.nodes import outline
from shipworthy.optimize.precision import Half
from shipworthy.records import Target

FP16, BF16 = Half(), Half("bfloat16")
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
GPU = Target(runtime="tensorrt", device="cuda", precisions=("float32", "float16", "bfloat16"), int8="s8s8_symmetric")
ROWS = {"x": np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)}
X, Y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])


def lowered(path, result, rows=None, one=FP16):
    one.apply(path, result, rows)
    proto = onnx.load(result)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def kept(path):
    return json.loads(notes(outline(path))["float32_nodes"])


def matrices(*names, size=4):
    random = np.random.default_rng(5)
    return {name: random.normal(size=(size, size)).astype(np.float32) for name in names}


@pytest.mark.parametrize("rows", [True, False], ids=["with rows", "without rows"])
def test_half_the_size_and_near_the_same_numbers(rows, cnn, images, saved, answers, tmp_path):
    path, result = saved(cnn), tmp_path / "r.onnx"
    proto = lowered(path, result, images if rows else None)
    assert {tensor.data_type for tensor in proto.graph.initializer} == {HALF}
    weights = sum(len(tensor.raw_data) for tensor in cnn.graph.initializer)
    assert sum(len(tensor.raw_data) for tensor in proto.graph.initializer) == weights / 2
    before, after = (answers(one, images)["logits"] for one in (path, result))
    assert 0 < np.abs(after - before).max() < 0.01 * np.abs(before).max()
    assert OnnxRuntimeRunner(result, Target()).signature == OnnxRuntimeRunner(path, Target()).signature
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2, "at the borders, and nowhere else"
    assert notes(outline(result)) == {"precision": "float16", "float32_nodes": "{}"}


def test_a_trained_model_keeps_its_labels(digits, answers, tmp_path):
    clean, result = tmp_path / "c.onnx", tmp_path / "r.onnx"
    Graph().apply(Path(digits.model.path), clean, None)
    lowered(clean, result, digits.train.inputs)
    before, after = (answers(one, digits.evaluation.inputs) for one in (clean, result))
    assert (before["label"] == after["label"]).mean() >= 0.995
    assert 0 < np.abs(before["probabilities"] - after["probabilities"]).max() < 0.01


def test_bfloat16_is_rounded_to_the_nearest(onnx_model, saved, tmp_path):
    values = np.float32([[1.0, 1.00390625, 1.01171875, -3.1415927], [1e38, 1e-30, 0, 65504]])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = saved(onnx_model([node], [("x", "float32", [None, 2])], [("y", "float32", [None, 4])], {"w": values}))
    proto = lowered(path, tmp_path / "r.onnx", one=BF16)
    (weight,) = proto.graph.initializer
    assert weight.data_type == TensorProto.BFLOAT16
    bits = np.frombuffer(weight.raw_data, np.uint16).astype(np.uint32) << 16
    expected = np.float32([[1.0, 1.0, 1.015625, -3.140625], [bits.view(np.float32)[4], bits.view(np.float32)[5], 0, 65536]])
    np.testing.assert_array_equal(bits.view(np.float32).reshape(2, 4), expected)
    np.testing.assert_allclose(bits.view(np.float32).reshape(2, 4), values, rtol=2**-8)


def test_bfloat16_answers_near_the_original(onnx_model, saved, tmp_path):
    """Asked of ONNX's own evaluator: onnxruntime has no kernels for it on the CPU."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    model = onnx_model(nodes, [X], [Y], matrices("w", "v"))
    proto = lowered(saved(model), tmp_path / "r.onnx", ROWS, BF16)
    before, after = (ReferenceEvaluator(one).run(None, ROWS)[0] for one in (model, proto))
    assert after.dtype == np.float32
    assert 0 < np.abs(before - after).max() < 0.03 * np.abs(before).max()


def test_where_bfloat16_cannot_run_is_said(cnn, saved, onnx_model):
    path = saved(cnn)
    assert BF16.requires(path, Target(), None) == "the target has no bfloat16: it computes in float32"
    here = Target(precisions=("float32", "bfloat16"))
    assert BF16.requires(path, here, None).startswith("onnxruntime does not run bfloat16 on cpu: ")
    assert BF16.requires(path, GPU, None) == ""
    assert FP16.requires(path, Target(), None) == "", "it is half the size there, too"


def test_convolutions_have_no_bfloat16_before_operator_set_22(cnn, onnx_model, saved, tmp_path):
    proto = lowered(saved(cnn), tmp_path / "r.onnx", one=BF16)
    convolutions = {name for node in proto.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert {types[name] for name in convolutions} == {FLOAT}
    assert types["g.w_bfloat16"] == TensorProto.BFLOAT16
    alone = onnx_model([cnn.graph.node[0]], [("image", "float32", [None, 3, 16, 16])], [("c0", "float32", [None, 16, 16, 16])])
    alone.graph.initializer.extend(one for one in cnn.graph.initializer if one.name.startswith("c0"))
    with pytest.raises(Refused, match="no weight can be bfloat16") as error:
        BF16.apply(saved(alone), tmp_path / "r.onnx", None)
    assert "operator set" in error.value.found


def test_weights_beyond_the_range_keep_their_node_in_float32(onnx_model, saved, answers, tmp_path):
    weights = matrices("w", "v") | {"big": np.float32([70000.0]), "small": np.float32([1e-9])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Mul", ["a", "big"], ["b"], "widen"),
        helper.make_node("Div", ["b", "big"], ["c"]),
        helper.make_node("Add", ["c", "small"], ["d"], "epsilon"),
        helper.make_node("MatMul", ["d", "v"], ["y"], "last"),
    ]
    path, result = saved(onnx_model(nodes, [X], [Y], weights)), tmp_path / "r.onnx"
    proto = lowered(path, result)
    assert kept(result) == {
        "widen": "the largest value of 'big' is 7e+04",
        "Div:c": "the largest value of 'big' is 7e+04",
        "epsilon": "the largest value of 'small' is 1e-09",
    }
    assert {t.name: t.data_type for t in proto.graph.initializer} == {
        "big": FLOAT,
        "small": FLOAT,
        "w_float16": HALF,
        "v_float16": HALF,
    }
    before, after = (answers(one, ROWS)["y"] for one in (path, result))
    np.testing.assert_allclose(after, before, atol=0.01 * np.abs(before).max())


def test_activations_beyond_the_range_keep_their_nodes_in_float32(onnx_model, saved, answers, tmp_path):
    """The weights are harmless; only the rows show that the middle overflows."""
    weights = matrices("w", "v") | {"up": np.float32([300.0]), "down": np.float32([1 / 9000])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Mul", ["a", "up"], ["b"], "up1"),
        helper.make_node("Mul", ["b", "up"], ["c"], "up2"),
        helper.make_node("Mul", ["c", "down"], ["d"], "down"),
        helper.make_node("MatMul", ["d", "v"], ["y"], "last"),
    ]
    path, result = saved(onnx_model(nodes, [X], [Y], weights)), tmp_path / "r.onnx"
    rows = {"x": ROWS["x"] / 4}
    lowered(path, result, rows)
    assert list(kept(result)) == ["down", "up2"]
    assert all("'c' goes from" in reason for reason in kept(result).values())
    before, after = (answers(one, rows)["y"] for one in (path, result))
    np.testing.assert_allclose(after, before, atol=0.01 * np.abs(before).max())
    lowered(path, result)
    assert kept(result) == {}, "without rows nobody can know"


def test_blocked_operators_and_integers_stay(onnx_model, saved, answers, tmp_path):
    weights = matrices("w", "v") | {"column": np.array([0, 2]), "axes": np.array([1])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Exp", ["a"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["s"]),
        helper.make_node("Div", ["e", "s"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    path = saved(onnx_model(nodes, [X], [Y, ("label", "int64", [None])], weights))
    proto = lowered(path, tmp_path / "r.onnx", ROWS)
    types = element_types(proto)
    assert types["e"] == types["s"] == FLOAT
    assert {types[node.input[1]] for node in proto.graph.node if node.op_type == "MatMul"} == {HALF}
    before, after = (answers(one, ROWS) for one in (path, tmp_path / "r.onnx"))
    np.testing.assert_allclose(after["y"], before["y"], atol=0.01)
    np.testing.assert_array_equal(after["label"], before["label"])


def test_a_weight_that_both_kinds_of_nodes_read_stands_there_in_both_types(onnx_model, saved, answers, tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Exp", ["w"], ["e"]),
        helper.make_node("MatMul", ["a", "e"], ["y"]),
    ]
    path = saved(onnx_model(nodes, [X], [Y], matrices("w")))
    proto = lowered(path, tmp_path / "r.onnx")
    assert {t.name: t.data_type for t in proto.graph.initializer} == {"w": FLOAT, "w_float16": HALF}
    before, after = (answers(one, ROWS)["y"] for one in (path, tmp_path / "r.onnx"))
    np.testing.assert_allclose(after, before, atol=0.01 * np.abs(before).max())


def test_constants_inputs_that_are_outputs_and_shapes(onnx_model, saved, answers, tmp_path):
    """A Constant node is a weight; a shape is taken from the tensor as it is; a middle tensor can be an output, too."""
    held = numpy_helper.from_array(matrices("w")["w"])
    nodes = [
        helper.make_node("Constant", [], ["w"], value=held),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["middle"]),
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("MatMul", ["middle", "w"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["y"]),
    ]
    path = saved(onnx_model(nodes, [X], [Y, ("middle", "float32", [None, 4])]))
    proto = lowered(path, tmp_path / "r.onnx")
    assert [t.data_type for t in proto.graph.initializer] == [HALF]
    shape = next(node for node in proto.graph.node if node.op_type == "Shape")
    assert list(shape.input) == ["a_float16"]
    before, after = (answers(one, ROWS) for one in (path, tmp_path / "r.onnx"))
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=0.01 * np.abs(array).max())


def test_branches_stay_as_they_are_and_read_float32(onnx_model, saved, answers, tmp_path):
    shape = helper.make_tensor_value_info("t", FLOAT, [None, 4])
    then = helper.make_graph([helper.make_node("MatMul", ["a", "w"], ["t"])], "then", [], [shape])
    shape = helper.make_tensor_value_info("u", FLOAT, [None, 4])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["u"])], "other", [], [shape])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("ReduceMax", ["a"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["b"], then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    path = saved(onnx_model(nodes, [X], [Y], matrices("w", "v")))
    proto = lowered(path, tmp_path / "r.onnx", ROWS)
    assert {t.name for t in proto.graph.initializer} == {"w", "w_float16", "v_float16"}
    before, after = (answers(one, ROWS)["y"] for one in (path, tmp_path / "r.onnx"))
    np.testing.assert_allclose(after, before, atol=0.01 * np.abs(before).max())


def test_loops_stay_as_they_are(onnx_model, saved, answers, tmp_path):
    """Their definition binds what goes in to what comes out, but the body is float32."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["state", "w"], ["next"])],
        "body",
        [info("turn", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("state", FLOAT, [None, 4])],
        [info("on", TensorProto.BOOL, []), info("next", FLOAT, [None, 4])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Loop", ["turns", "", "a"], ["b"], body=body),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    path = saved(onnx_model(nodes, [X], [Y], matrices("w", "v") | {"turns": np.array(2)}))
    lowered(path, tmp_path / "r.onnx", ROWS)
    before, after = (answers(one, ROWS)["y"] for one in (path, tmp_path / "r.onnx"))
    np.testing.assert_allclose(after, before, atol=0.01 * np.abs(before).max())


def test_weights_that_a_caller_could_give_are_weights(cnn, saved, tmp_path):
    """Old exporters list every weight among the inputs; left there, each would be cast while the model runs."""
    listed = onnx.ModelProto()
    listed.CopyFrom(cnn)
    for tensor in cnn.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, FLOAT, tensor.dims))
    proto = lowered(saved(listed), tmp_path / "r.onnx")
    assert [one.name for one in proto.graph.input] == ["image"]
    assert {tensor.data_type for tensor in proto.graph.initializer} == {HALF}


def test_an_activation_that_is_not_finite_is_refused(onnx_model, saved, tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Div", ["a", "nought"], ["y"])]
    path = saved(onnx_model(nodes, [X], [Y], matrices("w") | {"nought": np.float32([0])}))
    with pytest.raises(Refused, match="the activation 'y' is not finite"):
        FP16.apply(path, tmp_path / "r.onnx", ROWS)
    assert not (tmp_path / "r.onnx").exists()


def test_a_model_without_float32_weights_is_refused(onnx_model, saved, tmp_path):
    node = helper.make_node("Add", ["x", "x"], ["y"])
    with pytest.raises(Refused, match="no weight can be float16"):
        FP16.apply(saved(onnx_model([node], [X], [Y])), tmp_path / "r.onnx", None)


def test_int8_for_tensorrt_is_fp16_between(cnn, images, saved, answers, tmp_path):
    """Its remainder in float32 would make INT8 slower than fp16; the INT8 of a CPU stays as it is."""
    path, quantized, result = saved(cnn), tmp_path / "q.onnx", tmp_path / "r.onnx"
    Int8Static("s8s8_symmetric").apply(path, quantized, images)
    assert FP16.requires(quantized, GPU, images) == ""
    assert FP16.requires(quantized, Target(), images) == "the model is quantized already"
    proto = lowered(quantized, result, images)
    assert {element_types(proto)[node.output[0]] for node in proto.graph.node if node.op_type == "Conv"} == {HALF}
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2, "none parts an operator from its INT8"
    assert {t.data_type for t in proto.graph.initializer if len(t.dims) > 1} == {HALF}
    before, after = (answers(one, images)["logits"] for one in (quantized, result))
    assert np.abs(after - before).max() < 0.1 * np.abs(before).max()


def test_int8_before_operator_set_19_stays_float32(cnn, images, saved, tmp_path):
    """DequantizeLinear gives float32 only there, and a Cast after it would cost the INT8."""
    older = onnx.ModelProto()
    older.CopyFrom(cnn)
    older.opset_import[0].version = 17
    quantized = tmp_path / "q.onnx"
    Int8Static("s8s8_symmetric").apply(saved(older), quantized, images)
    with pytest.raises(Refused, match="no weight can be float16") as error:
        FP16.apply(quantized, tmp_path / "r.onnx", images)
    assert error.value.found == "its INT8 input is float32 before operator set 19, or by its range"
