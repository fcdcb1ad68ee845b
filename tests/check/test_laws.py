"""Each law fires where it should, and is silent where it should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper
from sklearn.preprocessing import StandardScaler

from shipworthy import check
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check import format as format_law
from shipworthy.check import parity, signature
from shipworthy.check.intake import read_proto
from shipworthy.check.subject import Subject
from shipworthy.data import Dataset
from shipworthy.records import Target, TensorSpec

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])


def relu():
    return [helper.make_node("Relu", ["x"], ["y"])]


def subject(model, data=None, reference=None):
    path = Path(model.path)
    return Subject(model, read_proto(path), OnnxRuntimeRunner(path, Target()), data, reference)


def said(findings):
    return [(finding.severity, finding.place) for finding in findings]


# ---------------------------------------------------------------- format


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
def test_format_says_what_not_every_target_takes(taken, opset, ir_version, expected):
    model = taken(relu(), [X], [Y], opset=opset, ir_version=ir_version)
    found = list(format_law.law(subject(model)))
    assert said(found) == expected
    assert all(finding.law == "format" and finding.mend and finding.evidence for finding in found)


def misshaped():
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return nodes, [X], [("y", "float32", [None, 5])]


@pytest.mark.parametrize("broken", ["cycle", "unknown operator", "wrong type"])
def test_format_finds_a_broken_graph(taken, broken):
    one = subject(taken(relu(), [X], [Y]))
    node = one.proto.graph.node[0]
    if broken == "cycle":
        node.input[0] = "y"
    elif broken == "unknown operator":
        node.op_type = "NoSuchOperator"
    else:
        one.proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    found = list(format_law.law(one))
    assert said(found) == [("error", one.model.source.path)]
    assert found[0].mend


def test_format_finds_a_shape_that_does_not_follow(taken):
    model = taken(*misshaped())
    assert said(format_law.law(subject(model))) == [("error", model.source.path)]


def test_format_finds_what_the_runtime_lets_pass(taken):
    model = taken(relu(), [("x", "float32", None)], [("y", "float32", None)])
    found = list(format_law.law(subject(model)))
    assert said(found) == [("error", model.source.path)]
    assert "shape" in found[0].evidence


# ---------------------------------------------------------------- signature


@pytest.mark.parametrize(
    ("given", "taken_out", "expected"),
    [
        ([None, 2], [None, 2], []),
        ([4, 2], [4, 2], [("error", "input x: float32 [4, 2]"), ("warning", "output y: float32 [4, 2]")]),
        ([], [], [("error", "input x: float32 []"), ("error", "output y: float32 []")]),
        ([None, None], [None, None], [("note", "input x: float32 [?, ?]")]),
        ([None, 3, None], [None, 3, None], [("note", "input x: float32 [?, 3, ?]")]),
        ([None], [None], []),
    ],
)
def test_signature_wants_a_free_first_dimension(taken, given, taken_out, expected):
    model = taken(relu(), [("x", "float32", given)], [("y", "float32", taken_out)])
    assert said(signature.law(subject(model))) == expected


def test_signature_names_the_free_dimensions(taken):
    model = taken(relu(), [("x", "float32", [None, 3, None])], [("y", "float32", [None, 3, None])])
    assert "[2]" in next(signature.law(subject(model))).evidence


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_model_without_inputs_or_outputs_cannot_be_served(taken, kind):
    if kind == "input":
        model = taken([helper.make_node("Relu", ["w"], ["y"])], [], [Y], {"w": np.ones((3, 2), np.float32)})
    else:
        model = taken(relu(), [X], [])
    errors = check.run(model).errors
    assert [(one.law, one.place, one.evidence) for one in errors] == [
        ("signature", "model", f"it has no {kind}: there is nothing to serve")
    ]


# ---------------------------------------------------------------- parity


def rows(count=1000):
    return np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("answer", "expected", "severity", "says"),
    [
        (rows(), rows(), "note", "difference 0 over 1000 rows"),
        (rows(), rows().astype(np.float64) + 9e-5, "note", "over 1000 rows"),
        (rows(), rows() + 0.1, "error", "first row that differs is 0"),
        (np.float32([[1], [2]]), np.array([1.0, 2.0]), "note", "difference 0"),
        (np.float32([[1e6]]), np.array([1e6 + 900]), "note", "over 1 rows"),
        (np.float32([[1e6]]), np.array([1e6 + 1100]), "error", "first row that differs is 0"),
        (np.float32([[1], [np.nan]]), np.array([1.0, 2.0]), "error", "first row that differs is 1"),
        (np.float32([[1], [2]]), np.array([1.0, np.nan]), "error", "first row that differs is 1"),
        (rows(10), rows(11), "error", "shape [10, 2] instead of [11, 2]"),
        (rows(10), rows(10)[:, :1], "error", "shape [10, 2] instead of [10, 1]"),
        (np.arange(1000), np.arange(1000), "note", "1000 of 1000 rows equal"),
        (np.arange(1000), np.where(np.arange(1000) < 5, -1, np.arange(1000)), "warning", "995 of 1000 rows equal"),
        (np.arange(1000), np.where(np.arange(1000) < 6, -1, np.arange(1000)), "error", "994 of 1000 rows equal"),
        (np.array(["a", "b"], object), np.array(["a", "b"]), "note", "2 of 2 rows"),
        (np.array(["a", "b"], object), np.array(["a", "c"]), "error", "1 of 2 rows"),
        (np.array([[1, 0], [0, 1]]), np.array([[1, 1], [0, 1]]), "error", "1 of 2 rows"),
    ],
)
def test_parity_compares_one_output(answer, expected, severity, says):
    finding = parity.compare("y", answer, expected)
    assert (finding.law, finding.severity, finding.place) == ("parity", severity, "output y")
    assert says in finding.evidence
    assert bool(finding.mend) == (severity == "error")


def test_parity_holds_for_a_converted_model(digits):
    framework = check.reference(digits.model, trust=True)
    report = check.run(digits.model, digits.evaluation, framework)
    assert report.model == digits.model.digest
    assert report.laws == ("format", "signature", "parity")
    assert [(one.law, one.severity, one.place) for one in report.findings] == [
        ("parity", "note", "output label"),
        ("parity", "note", "output probabilities"),
    ]
    assert "400 of 400 rows" in report.findings[0].evidence


def test_parity_finds_another_model(digits):
    """The framework of one model beside the ONNX of another: every output is wrong."""
    scaler = StandardScaler().fit(digits.evaluation.inputs["X"])

    def other(inputs):
        scores = scaler.transform(inputs["X"])[:, 10:20]
        return [scores.argmax(axis=1), scores]

    errors = check.run(digits.model, digits.evaluation, other).errors
    assert [one.place for one in errors] == ["output label", "output probabilities"]


def test_parity_without_rows_warns_and_without_a_framework_says_so(digits):
    framework = check.reference(digits.model, trust=True)
    warned = check.run(digits.model, None, framework).findings
    assert [(one.law, one.severity, one.place) for one in warned] == [("parity", "warning", "[data] evaluation")]
    noted = check.run(digits.model, digits.evaluation, None).findings
    assert [(one.law, one.severity, one.place) for one in noted] == [("parity", "note", "model")]


# ---------------------------------------------------------------- run


def test_every_law_is_applied_and_announced(taken):
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text, record.done, record.total))

    check.run(taken(relu(), [X], [Y]), sink=Ear())
    assert heard == [("check", name, done, 3) for done, name in enumerate(check.LAWS)]


def test_errors_of_several_laws_stand_side_by_side(taken):
    model = taken(relu(), [("x", "float32", None)], [("y", "float32", None)], opset=13, ir_version=7)
    report = check.run(model)
    assert {one.law for one in report.errors} == {"format", "signature"}
    assert ("warning", "opset 13") in said(report.findings)


def test_a_signature_is_read_from_the_record_not_the_file(taken):
    """The law speaks of the signature that all later stages use."""
    one = subject(taken(relu(), [X], [Y]))
    fixed = msgspec.structs.replace(one.model.signature, inputs=(TensorSpec(name="x", dtype="float32", shape=(7, 2)),))
    changed = replace(one, model=msgspec.structs.replace(one.model, signature=fixed))
    assert said(signature.law(changed)) == [("error", "input x: float32 [7, 2]")]


def test_data_of_another_name_is_no_dataset_of_this_model(taken):
    model = taken(relu(), [X], [Y])
    wrong = Dataset("d", "", {"z": rows(3)})
    with pytest.raises(Exception, match="inputs are not those of the model"):
        check.run(model, wrong, lambda inputs: [inputs["z"]])
