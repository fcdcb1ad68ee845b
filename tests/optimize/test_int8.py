"""INT8: in the types of the target, near the original, and nowhere it does not belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy.backends.notes import misplaced, notes
from shipworthy.backends.onnx_graph import nodes
from shipworthy.errors import Refused
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic, Int8Static
from shipworthy.optimize.nodes import outline
from shipworthy.records import Target

INT8, UINT8, INT32, FLOAT = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.FLOAT
TYPES = ("u8s8", "u8s8_reduced", "s8s8", "s8s8_symmetric")
MADE = {
    "int8_dynamic": Int8Dynamic(),
    "int8_static": Int8Static(),
    "int8_static_per_tensor": Int8Static(per_channel=False),
    "int8_static_percentile": Int8Static(method="percentile"),
    "int8_static_entropy": Int8Static(method="entropy"),
    "int8_static_reduced": Int8Static("u8s8_reduced"),
    "int8_static_arm": Int8Static("s8s8"),
    "int8_static_tensorrt": Int8Static("s8s8_symmetric"),
}


def held(graph):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("name", MADE)
def test_int8_gives_nearly_every_label(name, digits, answers, tmp_path):
    clean, result = tmp_path / "c.onnx", tmp_path / "r.onnx"
    Graph().apply(Path(digits.model.path), clean, None)
    MADE[name].apply(clean, result, digits.train.inputs)
    before, after = (answers(path, digits.evaluation.inputs) for path in (digits.model.path, result))
    assert (before["label"] == after["label"]).mean() >= 0.98
    assert 0 < np.abs(before["probabilities"] - after["probabilities"]).max() < 0.25, "it is quantized, and near"
    if name != "int8_static_tensorrt":  # its weights are floats in the file: TensorRT quantizes them when it builds
        big = {tensor.data_type for tensor in onnx.load(result).graph.initializer if np.prod(tensor.dims) > 100}
        assert big == {INT8}
        assert result.stat().st_size < 0.5 * clean.stat().st_size


@pytest.mark.parametrize("name", MADE)
def test_int8_of_a_convolutional_network_is_near(name, cnn, images, saved, answers, tmp_path):
    path, result = saved(cnn), tmp_path / "r.onnx"
    MADE[name].apply(path, result, images)
    before, after = (answers(one, images)["logits"] for one in (path, result))
    noise = 20 * np.log10(np.linalg.norm(before) / np.linalg.norm(before - after))
    assert 15 < noise < 80, f"{noise:.1f} dB of signal over noise"


@pytest.mark.parametrize("types", TYPES)
def test_types_are_those_of_the_target(types, cnn, images, saved, tmp_path):
    Int8Static(types).apply(saved(cnn), tmp_path / "r.onnx", images)
    proto = onnx.load(tmp_path / "r.onnx")
    onnx.checker.check_model(proto, full_check=True)
    graph, tensors = proto.graph, held(proto.graph)
    points = [tensors[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    weights = [array for array in tensors.values() if array.ndim > 1]
    biases = [tensors[n.input[0]].dtype for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in tensors]
    assert len(weights) == 6
    reader = next(node.op_type for node in graph.node if {"s1", "s1_QuantizeLinear_Input"} & set(node.input))
    assert reader == ("QuantizeLinear" if types == "s8s8_symmetric" else "Relu"), "a sum stays float on a CPU"
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv", "Add", "Gemm"}
    assert {point.dtype for point in points} == {np.dtype("uint8" if types.startswith("u8") else "int8")}
    if types == "s8s8_symmetric":
        assert not any(point.any() for point in points), "no zero point"
        assert {array.dtype for array in weights} == {np.dtype("float32")}, "floats, each with its Q and DQ"
        assert np.dtype("int32") not in biases
    else:
        assert {array.dtype for array in weights} == {np.dtype("int8")}
        assert np.dtype("int32") in biases
        widest = max(int(np.abs(array.astype(int)).max()) for array in weights)
        assert widest == (64 if types == "u8s8_reduced" else 127)
    assert notes(outline(tmp_path / "r.onnx")) == {"int8": types}


@pytest.mark.parametrize("types", ["u8s8", "s8s8_symmetric"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_have_a_scale_an_output_channel_or_one(types, per_channel, cnn, images, saved, tmp_path):
    Int8Static(types, per_channel=per_channel).apply(saved(cnn), tmp_path / "r.onnx", images)
    graph = onnx.load(tmp_path / "r.onnx").graph
    tensors = held(graph)
    kinds = ("QuantizeLinear",) if types == "s8s8_symmetric" else ("DequantizeLinear",)
    weights = [node for node in graph.node if node.op_type in kinds and tensors.get(node.input[0], np.zeros(0)).ndim > 1]
    scales = sorted(tensors[node.input[1]].size for node in weights)
    assert scales == ([10, *[16] * 5] if per_channel else [1] * 6)


def test_for_tensorrt_a_sum_of_convolutions_is_quantized_and_one_with_a_constant_is_not(onnx_model, saved, tmp_path):
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(3, 3, 1, 1)).astype(np.float32), "c": np.float32([1000.0])}
    given = [
        helper.make_node("Add", ["x", "c"], ["shifted"], "scaler"),
        helper.make_node("Conv", ["shifted", "w"], ["a"], "conv"),
        helper.make_node("Add", ["a", "shifted"], ["y"], "residual"),
    ]
    shape = [None, 3, 4, 4]
    path = saved(onnx_model(given, [("x", "float32", shape)], [("y", "float32", shape)], weights))
    Int8Static("s8s8_symmetric").apply(path, tmp_path / "r.onnx", {"x": random.normal(size=(8, 3, 4, 4)).astype(np.float32)})
    graph = onnx.load(tmp_path / "r.onnx").graph
    by_name = {node.name: node for node in graph.node}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    assert by_name["scaler"].input[0] == "x"
    assert readers[by_name["residual"].output[0]] == "QuantizeLinear"


def test_sums_between_matrices_stay_float(onnx_model, saved, tmp_path):
    """In a transformer the residual holds large values that eight bits would lose."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)}
    given = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "x"], ["y"], "residual")]
    path = saved(onnx_model(given, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights))
    Int8Static("s8s8_symmetric").apply(path, tmp_path / "r.onnx", {"x": np.ones((8, 4), np.float32)})
    graph = onnx.load(tmp_path / "r.onnx").graph
    assert next(node for node in graph.node if node.name == "residual").output[0] == "y"
    assert [node.op_type for node in graph.node].count("QuantizeLinear") == 3, "the matrix, what it takes and gives"


def test_named_nodes_stay_float(cnn, images, saved, answers, tmp_path):
    path = saved(cnn)
    one = Int8Static(float_nodes=("Conv:c0", "Gemm:logits"))
    assert one.options["float_nodes"] == ["Conv:c0", "Gemm:logits"]
    one.apply(path, tmp_path / "some.onnx", images)
    Int8Static().apply(path, tmp_path / "all.onnx", images)
    tensors = held(onnx.load(tmp_path / "some.onnx").graph)
    assert sorted(name for name, array in tensors.items() if array.ndim > 1 and array.dtype == np.float32) == ["c0.w", "g.w"]
    before = answers(path, images)["logits"]
    apart = [np.abs(answers(tmp_path / name, images)["logits"] - before).max() for name in ("some.onnx", "all.onnx")]
    assert apart[0] < apart[1]


def test_ranges_serve_for_any_choice_of_nodes(cnn, images, saved, tmp_path):
    path, some = saved(cnn), Int8Static(float_nodes=("Conv:a1",))
    ranges = Int8Static().ranges(path, images)
    some.quantize(path, tmp_path / "one.onnx", ranges)
    some.apply(path, tmp_path / "other.onnx", images)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_an_outlier_in_the_rows_does_not_ruin_what_is_clipped(method, onnx_model, saved, answers, tmp_path):
    """One value of 1000 among thousands near 1 takes all levels of ``minmax``."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(32, 32)).astype(np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = saved(onnx_model([node], [("x", "float32", [None, 32])], [("y", "float32", [None, 32])], weights))
    rows = random.normal(size=(2000, 32)).astype(np.float32)
    spoiled = rows.copy()
    spoiled[7, 3] = 1000 if method == "percentile" else 60
    apart = {}
    for name in ("minmax", method):
        Int8Static(method=name, percent=99.9).apply(path, tmp_path / "r.onnx", {"x": spoiled})
        before, after = (answers(one, {"x": rows})["y"] for one in (path, tmp_path / "r.onnx"))
        apart[name] = float(np.sqrt(np.mean((before - after) ** 2)))
    assert apart[method] < apart["minmax"] / 3


def test_the_percentile_shapes_the_result(cnn, images, saved, tmp_path):
    path, made = saved(cnn), []
    for percent in (90.0, 99.999):
        one = Int8Static(method="percentile", percent=percent)
        assert one.options["percent"] == percent
        one.apply(path, tmp_path / "r.onnx", images)
        made.append((tmp_path / "r.onnx").read_bytes())
    assert made[0] != made[1]


def test_a_bias_of_two_dimensions_is_taken(taken, answers, tmp_path):
    """Converters write Gemm's bias as [1, n]; the quantizer alone takes [n]."""
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in (("w", (4, 3)), ("b", (1, 3)))}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    model = taken([node], [("x", "float32", [None, 4])], [("y", "float32", [None, 3])], weights)
    rows = {"x": generator.normal(size=(80, 4)).astype(np.float32)}
    Int8Static().apply(Path(model.path), tmp_path / "r.onnx", rows)
    np.testing.assert_allclose(answers(tmp_path / "r.onnx", rows)["y"], answers(model.path, rows)["y"], atol=0.15)


def test_what_turns_out_not_to_be_quantizable_is_refused(onnx_model, saved, tmp_path):
    """Weights that the quantizer does not take: it would hand back the model as it was."""
    weights = {"w": np.ones((4, 4), np.float16)}
    node = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=FLOAT),
    ]
    path = saved(onnx_model(node, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights))
    with pytest.raises(Refused, match="nothing in the model could be quantized"):
        Int8Static().apply(path, tmp_path / "r.onnx", {"x": np.ones((4, 4), np.float32)})
    assert not (tmp_path / "r.onnx").exists()


def test_an_activation_that_is_not_finite_is_refused(onnx_model, saved, tmp_path):
    weights = {"w": np.ones((4, 4), np.float32), "nought": np.float32([0])}
    given = [helper.make_node("Div", ["x", "nought"], ["d"]), helper.make_node("MatMul", ["d", "w"], ["y"])]
    path = saved(onnx_model(given, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights))
    with pytest.raises(Refused, match="the activation 'd' is not finite"):
        Int8Static().apply(path, tmp_path / "r.onnx", {"x": np.ones((4, 4), np.float32)})


def test_an_old_operator_set_is_said(onnx_model, saved):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.ones((4, 4), np.float32)}
    path = saved(
        onnx_model([node], [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], weights, opset=12, ir_version=7)
    )
    reason = Int8Static().requires(path, Target(), {"x": np.ones((4, 4), np.float32)})
    assert reason == "operator set 12 is older than 13: export the model again"


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("wanted", TYPES)
def test_a_file_made_for_one_device_is_refused_on_another(types, wanted, cnn, images, saved, tmp_path):
    target = Target(int8=wanted)
    reason = Int8Static(types).requires(saved(cnn), target, images)
    Int8Static(types).apply(saved(cnn), tmp_path / "r.onnx", images)
    said = misplaced(outline(tmp_path / "r.onnx"), target)
    if types == wanted:
        assert (reason, said) == ("", "")
    else:
        assert reason == f"it makes INT8 as {types}, and the target takes {wanted}"
        assert said == f"its INT8 is {types}, and the target takes {wanted}"
    assert Int8Static(types).devices == (("cuda",) if types == "s8s8_symmetric" else ("cpu",))


@pytest.mark.parametrize("wanted", TYPES)
def test_dynamic_int8_is_for_every_cpu_and_not_for_tensorrt(wanted, cnn, saved, tmp_path):
    target = Target(int8=wanted)
    Int8Dynamic().apply(saved(cnn), tmp_path / "r.onnx", None)
    here, said = Int8Dynamic().requires(saved(cnn), target, None), misplaced(outline(tmp_path / "r.onnx"), target)
    assert (here == "") == (said == "") == (wanted != "s8s8_symmetric")
    assert misplaced(outline(saved(cnn)), target) == "", "what is not quantized is at home everywhere"


def test_dynamic_int8_has_seven_bits_where_sums_would_saturate(cnn, saved, tmp_path):
    widest = []
    for types in ("u8s8", "u8s8_reduced"):
        Int8Dynamic(types=types).apply(saved(cnn), tmp_path / "r.onnx", None)
        arrays = held(onnx.load(tmp_path / "r.onnx").graph).values()
        widest.append(max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8))
    assert widest == [127, 64]


def test_nodes_of_branches_are_nodes(onnx_model):
    shape = helper.make_tensor_value_info("then", FLOAT, [None, 2])
    scaler = helper.make_node("Scaler", ["x"], ["then"], domain="ai.onnx.ml", offset=[0.0, 0.0], scale=[2.0, 2.0])
    then = helper.make_graph([scaler], "then", [], [shape])
    shape = helper.make_tensor_value_info("else", FLOAT, [None, 2])
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["else"])], "else", [], [shape])
    given = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["y"], then_branch=then, else_branch=other),
    ]
    proto = onnx_model(given, [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], domains={"ai.onnx.ml": 3})
    assert [node.op_type for node in nodes(proto.graph)] == ["ReduceMax", "Cast", "If", "Relu", "Scaler"]
