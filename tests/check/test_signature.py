"""Area signature: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy import check
from shipworthy.check import signature
from shipworthy.records import TensorSpec

from .small import X, Y, relu, said


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
def test_signature_wants_a_free_first_dimension(taken, subject, given, taken_out, expected):
    model = taken(relu(), [("x", "float32", given)], [("y", "float32", taken_out)])
    assert said(signature.look(subject(model))) == expected


def test_signature_names_the_free_dimensions(taken, subject):
    model = taken(relu(), [("x", "float32", [None, 3, None])], [("y", "float32", [None, 3, None])])
    assert "[2]" in next(signature.look(subject(model))).evidence


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_model_without_inputs_or_outputs_cannot_be_served(taken, kind):
    if kind == "input":
        model = taken([helper.make_node("Relu", ["w"], ["y"])], [], [Y], {"w": np.ones((3, 2), np.float32)})
    else:
        model = taken(relu(), [X], [])
    errors = check.run(model).errors
    assert [(one.law, one.place, one.evidence) for one in errors] == [
        ("signature.ends", "model", f"it has no {kind}: there is nothing to serve")
    ]


def test_a_signature_is_read_from_the_record_not_the_file(taken, subject):
    """The law speaks of the signature that all later stages use."""
    one = subject(taken(relu(), [X], [Y]))
    fixed = msgspec.structs.replace(one.model.signature, inputs=(TensorSpec(name="x", dtype="float32", shape=(7, 2)),))
    changed = replace(one, model=msgspec.structs.replace(one.model, signature=fixed))
    assert said(signature.look(changed)) == [("error", "input x: float32 [7, 2]")]


def test_an_input_that_leads_nowhere_is_named(taken, subject):
    nodes = [*relu(), helper.make_node("Neg", ["u"], ["dead"])]
    model = taken(nodes, [X, ("z", "float32", [None, 1]), ("u", "float32", [None, 1])], [Y])
    found = [one.place for one in signature.look(subject(model)) if one.law == "signature.unused"]
    assert found == ["input z: float32 [?, 1]", "input u: float32 [?, 1]"]


def test_an_input_that_only_a_branch_reads_is_used(taken, subject):
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "inner", [], [helper.make_empty_tensor_value_info("n")])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["m"])], "other", [], [helper.make_empty_tensor_value_info("m")])
    nodes = [
        helper.make_node("ReduceMax", ["c"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["b"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=other),
    ]
    model = taken(nodes, [X, ("c", "float32", [None])], [Y])
    assert said(signature.look(subject(model))) == []


def test_weights_that_are_inputs_are_counted(taken, subject):
    weight = np.ones((2, 2), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = taken([node], [X, ("w", "float32", [2, 2])], [Y], {"w": weight})
    found = list(signature.look(subject(model)))
    assert [(one.law, one.severity, one.place) for one in found] == [("signature.weights", "warning", "initializer w")]
    assert "1 of 1 weights" in found[0].evidence
    assert list(signature.look(subject(taken([node], [X], [Y], {"w": weight})))) == []


@pytest.mark.parametrize(("dtype", "laws"), [("float64", ["float64"]), ("float16", ["float16", "float16"]), ("int64", [])])
def test_numbers_that_travel_badly(taken, subject, dtype, laws):
    model = taken([helper.make_node("Identity", ["x"], ["y"])], [("x", dtype, [None, 2])], [("y", dtype, [None, 2])])
    assert [one.law for one in signature.look(subject(model))] == [f"signature.{law}" for law in laws]
