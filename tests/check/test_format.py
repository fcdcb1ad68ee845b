"""Area format: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from shipworthy.check import format as format_area
from shipworthy.check.subject import Origin

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])


def relu():
    return [helper.make_node("Relu", ["x"], ["y"])]


def said(findings):
    return [(finding.severity, finding.place) for finding in findings]


@pytest.mark.parametrize(
    ("opset", "ir_version", "expected"),
    [
        (17, 8, []),
        (21, 10, []),
        (16, 10, [("warning", "opset 16")]),
        (13, 7, [("warning", "opset 13")]),
        (22, 10, [("warning", "opset 22")]),
        (23, 11, [("warning", "opset 23"), ("warning", "IR version 11")]),
        (21, 12, [("warning", "IR version 12")]),
    ],
)
def test_format_says_what_not_every_target_takes(taken, origin, opset, ir_version, expected):
    model = taken(relu(), [X], [Y], opset=opset, ir_version=ir_version)
    found = list(format_area.look(origin(model)))
    assert said(found) == expected
    assert all(finding.law.startswith("format.") and finding.mend and finding.evidence for finding in found)


def misshaped():
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return nodes, [X], [("y", "float32", [None, 5])]


@pytest.mark.parametrize("broken", ["cycle", "unknown operator", "wrong type"])
def test_format_finds_a_broken_graph(tmp_path, onnx_model, broken):
    proto = onnx_model(relu(), [X], [Y])
    node = proto.graph.node[0]
    if broken == "cycle":
        node.input[0] = "y"
    elif broken == "unknown operator":
        node.op_type = "NoSuchOperator"
    else:
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path = tmp_path / "broken.onnx"
    path.write_bytes(proto.SerializeToString())
    found = list(format_area.look(Origin(path, path)))
    assert said(found) == [("error", str(path))]
    assert found[0].mend


def test_format_finds_a_shape_that_does_not_follow(taken, origin):
    model = taken(*misshaped())
    assert said(format_area.look(origin(model))) == [("error", model.source.path)]


def test_format_finds_what_the_runtime_lets_pass(taken, origin):
    model = taken(relu(), [("x", "float32", None)], [("y", "float32", None)])
    found = list(format_area.look(origin(model)))
    assert said(found) == [("error", model.source.path)]
    assert "shape" in found[0].evidence
