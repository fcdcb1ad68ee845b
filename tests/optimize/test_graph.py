"""The graph pass: the same numbers, fewer nodes, each weight once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.optimize.graph import Graph
from shipworthy.optimize.tidy import drop_dead, merge

SQUARE = [("x", "float32", [None, 4])], [("y", "float32", [None, 4])]


def test_the_graph_pass_changes_no_number(digits, answers, tmp_path):
    Graph().apply(Path(digits.model.path), tmp_path / "r.onnx", None)
    before, after = (answers(path, digits.evaluation.inputs) for path in (digits.model.path, tmp_path / "r.onnx"))
    np.testing.assert_array_equal(after["label"], before["label"])
    np.testing.assert_allclose(after["probabilities"], before["probabilities"], atol=1e-5)
    kinds = [[node.op_type for node in onnx.load(path).graph.node] for path in (digits.model.path, tmp_path / "r.onnx")]
    assert len(kinds[1]) < len(kinds[0]), "there was something to fold"


def branch(kind, name, weight="", **attributes):
    """A graph of one node from the outer ``x``, and of an outer weight where it is named."""
    node = helper.make_node(kind, ["x", weight] if weight else ["x"], [name], **attributes)
    shape = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2])
    return helper.make_graph([node], name, [], [shape])


def branching():
    scaler = branch("Scaler", "then", domain="ai.onnx.ml", offset=[0.0, 0.0], scale=[2.0, 2.0])
    return [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["any"], ["y"], then_branch=scaler, else_branch=branch("Relu", "else")),
    ]


def test_the_graph_pass_keeps_the_operator_sets_of_branches(taken, tmp_path):
    model = taken(
        branching(), [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], domains={"ai.onnx.ml": 3, "a.b": 1}
    )
    Graph().apply(Path(model.path), tmp_path / "r.onnx", None)
    result = onnx.load(tmp_path / "r.onnx")
    onnx.checker.check_model(result, full_check=True)
    assert {one.domain: one.version for one in result.opset_import} == {"": 21, "ai.onnx.ml": 3}


def tower(weights):
    """A matrix after the other."""
    names = ["x", *(f"h{n}" for n in range(len(weights) - 1)), "y"]
    return [helper.make_node("MatMul", [names[n], w], [names[n + 1]]) for n, w in enumerate(weights)]


def test_equal_weights_stand_in_the_file_once(onnx_model, saved, answers, tmp_path):
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(4, 4)).astype(np.float32) for _ in range(2))
    path = saved(onnx_model(tower(["a", "b", "a2", "a3"]), *SQUARE, {"a": a, "b": b, "a2": a.copy(), "a3": a.copy()}))
    Graph().apply(path, tmp_path / "r.onnx", None)
    assert len(onnx.load(tmp_path / "r.onnx").graph.initializer) == 2
    rows = {"x": random.normal(size=(5, 4)).astype(np.float32)}
    np.testing.assert_array_equal(answers(path, rows)["y"], answers(tmp_path / "r.onnx", rows)["y"])


@pytest.mark.parametrize(
    ("other", "shape"),
    [
        (np.float32([[1, 2], [3, 5]]), "value"),
        (np.float32([[1, 2, 3, 4]]), "shape"),
        (np.float32([[1, 2], [3, 4]]).view(np.int32), "type"),
    ],
    ids=["value", "shape", "type"],
)
def test_only_weights_of_the_same_type_shape_and_bytes_are_equal(onnx_model, other, shape):
    proto = onnx_model([], *SQUARE, {"a": np.float32([[1, 2], [3, 4]]), "b": other})
    assert merge(proto) == 0
    assert len(proto.graph.initializer) == 2


def test_weights_that_are_inputs_or_outputs_stay(onnx_model):
    """A caller may give another value for the one, and asks for the other by name."""
    same = np.ones((4, 4), np.float32)
    outputs = [("y", "float32", [None, 4]), ("b", "float32", [4, 4])]
    inputs = [("x", "float32", [None, 4]), ("c", "float32", [4, 4])]
    proto = onnx_model(tower(["a", "b", "c", "d"]), inputs, outputs, dict.fromkeys("abcd", same))
    assert merge(proto) == 1
    assert [tensor.name for tensor in proto.graph.initializer] == ["a", "b", "c"]
    assert [node.input[1] for node in proto.graph.node] == ["a", "b", "c", "a"]


def test_weights_that_branches_read_are_merged_too(onnx_model, saved, answers, tmp_path):
    values = np.float32([[3, 5]])
    given = [
        *branching()[:2],
        helper.make_node("If", ["any"], ["y"], then_branch=branch("Mul", "then", "b"), else_branch=branch("Mul", "else", "b")),
        helper.make_node("Mul", ["x", "a"], ["z"]),
    ]
    shape = [None, 2]
    proto = onnx_model(
        given, [("x", "float32", shape)], [("y", "float32", shape), ("z", "float32", shape)], {"a": values, "b": values}
    )
    before = saved(proto, "before.onnx")
    assert merge(proto) == 1
    rows = {"x": np.float32([[1, 2], [3, 4]])}
    after = answers(saved(proto, "after.onnx"), rows)
    for name, array in answers(before, rows).items():
        np.testing.assert_array_equal(after[name], array)


def test_what_nothing_reads_goes(onnx_model, saved, answers, tmp_path):
    """A chain that ends nowhere goes with its weights, although its first node reads what is needed."""
    same = np.float32(np.eye(4) * 2)
    nodes = [
        *tower(["a", "b"]),
        helper.make_node("MatMul", ["h0", "c"], ["dead"]),
        helper.make_node("Softmax", ["dead"], ["deader"]),
    ]
    weights = {"a": same, "b": same + 1, "c": same + 2, "nobody": same + 3}
    path = saved(onnx_model(nodes, *SQUARE, weights))
    Graph().apply(path, tmp_path / "r.onnx", None)
    graph = onnx.load(tmp_path / "r.onnx").graph
    assert [node.op_type for node in graph.node] == ["MatMul", "MatMul"]
    assert len(graph.initializer) == 2
    rows = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    np.testing.assert_array_equal(answers(path, rows)["y"], answers(tmp_path / "r.onnx", rows)["y"])


def test_what_only_a_branch_reads_stays(onnx_model):
    nodes = [
        helper.make_node("Relu", ["x"], ["inner"]),
        helper.make_node("Relu", ["x"], ["dead"]),
        helper.make_node("If", ["c"], ["y"], then_branch=reader("inner"), else_branch=reader("w")),
    ]
    weights = {"c": np.array(True), "w": np.float32([1, 2]), "nobody": np.float32([1, 2])}
    proto = onnx_model(nodes, [("x", "float32", [2])], [("y", "float32", [2])], weights)
    assert drop_dead(proto) == 2
    assert [node.op_type for node in proto.graph.node] == ["Relu", "If"]
    assert {tensor.name for tensor in proto.graph.initializer} == {"c", "w"}
    onnx.checker.check_model(proto, full_check=True)


def test_a_weight_that_a_caller_may_give_stays_though_nothing_reads_it(onnx_model):
    """Without its value the caller would have to give it: another signature."""
    proto = onnx_model(tower(["a"]), [*SQUARE[0], ("c", "float32", [2])], SQUARE[1], {"a": np.eye(4), "c": np.float32([1, 2])})
    assert drop_dead(proto) == 0


def reader(name):
    """A branch that reads a tensor from around it."""
    node = helper.make_node("Neg", [name], [f"neg_{name}"])
    return helper.make_graph([node], "branch", [], [helper.make_tensor_value_info(f"neg_{name}", onnx.TensorProto.FLOAT, [2])])
