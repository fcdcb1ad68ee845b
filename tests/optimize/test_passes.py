"""Each pass keeps the laws of the seam, and its numbers stay near the original's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic, Int8Static
from shipworthy.optimize.nodes import nodes
from shipworthy.records import Target
from shipworthy.testing import laws

PASSES = {
    "graph": Graph(),
    "int8_dynamic": Int8Dynamic(),
    "int8_static": Int8Static(),
    "int8_static_per_tensor": Int8Static(per_channel=False),
}
QUANTIZING = [name for name in PASSES if name != "graph"]


@pytest.fixture(params=PASSES)
def one(request):
    return PASSES[request.param]


@pytest.mark.parametrize("law", laws.PASS, ids=lambda law: law.__name__)
def test_the_laws_of_passes(law, one, digits, tmp_path):
    law(one, laws.Bench(Path(digits.model.path), tmp_path, digits.train.inputs))


def answers(path, rows):
    return OnnxRuntimeRunner(Path(path), Target()).run(rows)


def test_the_graph_pass_changes_no_number(digits, tmp_path):
    Graph().apply(Path(digits.model.path), tmp_path / "r.onnx", None)
    before, after = (answers(path, digits.evaluation.inputs) for path in (digits.model.path, tmp_path / "r.onnx"))
    np.testing.assert_array_equal(after["label"], before["label"])
    np.testing.assert_allclose(after["probabilities"], before["probabilities"], atol=1e-5)
    kinds = [[node.op_type for node in onnx.load(path).graph.node] for path in (digits.model.path, tmp_path / "r.onnx")]
    assert len(kinds[1]) < len(kinds[0]), "there was something to fold"


@pytest.mark.parametrize("name", QUANTIZING)
def test_int8_gives_nearly_every_label(name, digits, tmp_path):
    clean, result = tmp_path / "c.onnx", tmp_path / "r.onnx"
    Graph().apply(Path(digits.model.path), clean, None)
    PASSES[name].apply(clean, result, digits.train.inputs)
    before, after = (answers(path, digits.evaluation.inputs) for path in (digits.model.path, result))
    assert (before["label"] == after["label"]).mean() >= 0.98
    assert 0 < np.abs(before["probabilities"] - after["probabilities"]).max() < 0.25, "it is quantized, and near"
    weights = {
        tensor.data_type for tensor in onnx.load(result).graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] > 1
    }
    assert weights == {onnx.TensorProto.INT8}
    assert result.stat().st_size < 0.5 * clean.stat().st_size


def test_static_activations_are_unsigned_and_weights_are_per_channel(digits, tmp_path):
    for name, scales in (("int8_static", {64, 10}), ("int8_static_per_tensor", {1})):
        result = tmp_path / f"{name}.onnx"
        PASSES[name].apply(Path(digits.model.path), result, digits.train.inputs)
        graph = onnx.load(result).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        points = {tensors[n.input[2]].data_type for n in graph.node if n.op_type == "QuantizeLinear"}
        assert points == {onnx.TensorProto.UINT8}
        quantized = [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
        scale = {n.input[0]: tensors[n.input[1]] for n in graph.node if n.op_type == "DequantizeLinear"}
        assert {int(np.prod(scale[name].dims)) for name in quantized} == scales


@pytest.mark.parametrize("name", QUANTIZING)
def test_what_is_quantized_is_not_quantized_again(name, digits, tmp_path):
    for first in QUANTIZING:
        PASSES[first].apply(Path(digits.model.path), tmp_path / "r.onnx", digits.train.inputs)
        reason = PASSES[name].requires(tmp_path / "r.onnx", Target(), digits.train.inputs)
        assert reason == "the model is quantized already"


def test_static_int8_needs_calibration_and_the_others_do_not(digits):
    for name, one in PASSES.items():
        reason = one.requires(Path(digits.model.path), Target(), None)
        assert ("calibration" in reason) == name.startswith("int8_static")
        assert bool(reason) == name.startswith("int8_static")


def branch(kind, name, **attributes):
    """A graph of one node from the outer ``x``."""
    node = helper.make_node(kind, ["x"], [name], **attributes)
    shape = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2])
    return helper.make_graph([node], name, [], [shape])


def branching():
    scaler = branch("Scaler", "then", domain="ai.onnx.ml", offset=[0.0, 0.0], scale=[2.0, 2.0])
    return [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["any"], ["y"], then_branch=scaler, else_branch=branch("Relu", "else")),
    ]


def test_nodes_of_branches_are_nodes(onnx_model):
    proto = onnx_model(branching(), [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], domains={"ai.onnx.ml": 3})
    assert [node.op_type for node in nodes(proto.graph)] == ["ReduceMax", "Cast", "If", "Relu", "Scaler"]


def test_the_graph_pass_keeps_the_operator_sets_of_branches(taken, tmp_path):
    model = taken(
        branching(), [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], domains={"ai.onnx.ml": 3, "a.b": 1}
    )
    Graph().apply(Path(model.path), tmp_path / "r.onnx", None)
    result = onnx.load(tmp_path / "r.onnx")
    onnx.checker.check_model(result, full_check=True)
    assert {one.domain: one.version for one in result.opset_import} == {"": 21, "ai.onnx.ml": 3}


def test_a_bias_of_two_dimensions_is_taken(taken, tmp_path):
    """Converters write Gemm's bias as [1, n]; the quantizer alone takes [n]."""
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in (("w", (4, 3)), ("b", (1, 3)))}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    model = taken([node], [("x", "float32", [None, 4])], [("y", "float32", [None, 3])], weights)
    rows = {"x": generator.normal(size=(80, 4)).astype(np.float32)}
    Int8Static().apply(Path(model.path), tmp_path / "r.onnx", rows)
    np.testing.assert_allclose(answers(tmp_path / "r.onnx", rows)["y"], answers(model.path, rows)["y"], atol=0.15)
