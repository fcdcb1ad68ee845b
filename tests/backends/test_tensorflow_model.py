"""The ONNX of a conversion is the same bytes each time, whatever the converter calls its constants."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shipworthy.backends import tensorflow_model

SHAPES = {"y": [None, 2], "z": [None, 2], "fixed": [2]}


def built(first, second, unused, order, number=7):
    """``y = x @ W; z = Add(y, c)`` in a branch that also reads ``W``; weights under those names, in that order."""
    branch = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", first], [f"m__{number}"], f"inner__{number}"),
            helper.make_node("Add", [f"m__{number}", second], ["b"], "sum"),
        ],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [None, 2])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", first], ["y"], "dense/MatMul"),
        helper.make_node("If", ["on"], ["z"], "if", then_branch=branch, else_branch=branch),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2]),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()]
    arrays = {first: np.eye(2, dtype=np.float32), second: np.ones(2, np.float32), unused: np.zeros(3, np.float32)}
    arrays["fixed"] = np.full(2, 7, np.float32)
    weights = [numpy_helper.from_array(arrays[name], name) for name in order]
    imports = [helper.make_opsetid(domain, version) for domain, version in (("", 18), ("ai.onnx.ml", 2))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights, doc_string="/somewhere")
    return helper.make_model(graph, opset_imports=imports, ir_version=11, doc_string="/somewhere")


def test_weights_are_called_by_the_node_that_reads_them_first():
    one, other = (
        built("w__1", "c__2", "u", ["w__1", "c__2", "u", "fixed"]),
        built("c__9", "a", "w", ["fixed", "w", "a", "c__9"], number=31),
    )
    for proto in (one, other):
        tensorflow_model._clean(proto, 10)
        onnx.checker.check_model(proto, full_check=True)
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert [tensor.name for tensor in one.graph.initializer] == ["fixed", "dense/MatMul/1", "sum/1"]
    assert [numpy_helper.to_array(tensor).sum() for tensor in one.graph.initializer] == [14, 2, 2]
    assert [(entry.domain, entry.version) for entry in one.opset_import] == [("", 18)]
    assert (one.ir_version, one.doc_string, one.graph.doc_string) == (10, "", "")
