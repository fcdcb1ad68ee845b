"""Area graph of a file: nodes that onnxruntime has no kernel for, with their names, and no other node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from shipworthy.check.graph import kernels
from shipworthy.check.subject import Origin

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])
# onnxruntime has no CPU kernel for it, and ONNX allows it.
NONE = {"op_type": "Asinh", "inputs": ["d"], "outputs": ["e"]}


@pytest.fixture
def look(onnx_model, tmp_path):
    def of(*arguments, **options):
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_model(*arguments, **options).SerializeToString())
        return list(kernels.look(Origin(path, path)))

    return of


def test_the_nodes_without_a_kernel_are_named(look):
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node(**NONE, name="first"),
        helper.make_node("Asinh", ["e"], ["f"], name="second"),
        helper.make_node("Asinh", ["x"], ["z"], name="float32 has one"),
        helper.make_node("Cast", ["f"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["g", "z"], ["y"]),
    ]
    (finding,) = look(nodes, [X], [Y])
    assert (finding.law, finding.severity, finding.place) == ("graph.kernel", "error", "node first (Asinh)")
    assert "2 nodes: Asinh 'first', Asinh 'second'" in finding.evidence
    assert "float32 has one" not in finding.evidence


def test_a_node_in_a_branch_is_told_in_the_words_of_the_runtime(look):
    def branch(name):
        nodes = [helper.make_node("Asinh", ["d"], [name], name="inside")]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)])

    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("If", ["c"], ["e"], then_branch=branch("n"), else_branch=branch("m")),
        helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
    ]
    (finding,) = look(nodes, [X, ("c", "bool", [])], [Y])
    assert finding.law == "graph.kernel"
    assert "Asinh" in finding.evidence


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_runs_is_not_accused(look, dtype):
    """float16 has few kernels of its own here: onnxruntime casts, and a look at its registry would be wrong."""
    weight = np.ones((64, 64), dtype)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Softplus", ["m"], ["y"])]
    assert look(nodes, [("x", dtype, [None, 64])], [("y", dtype, [None, 64])], {"w": weight}) == []


def test_functions_are_inlined_before_anybody_is_accused(look):
    """MeanVarianceNormalization of opset 13 is a function to onnxruntime where it has no kernel of that type."""
    assert look([helper.make_node("Celu", ["x"], ["y"])], [X], [Y]) == []
    assert look([helper.make_node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=1)], [X], [Y],
                {"s": np.ones(2, np.float32)}) == []  # fmt: skip


def test_other_refusals_are_left_to_area_format(look, tmp_path):
    assert look([helper.make_node("Mine", ["x"], ["y"], domain="own")], [X], [Y], domains={"own": 1}) == []
    assert look([helper.make_node("Relu", ["nowhere"], ["y"])], [X], [Y]) == []
    for name in ("broken.onnx", "model.joblib"):
        (tmp_path / name).write_bytes(b"no model")
        assert list(kernels.look(Origin(tmp_path / name, tmp_path / name))) == []
