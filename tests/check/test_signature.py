"""Area signature: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from onnx import helper

from shipworthy import check
from shipworthy.check import signature
from shipworthy.records import TensorSpec

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])


def relu():
    return [helper.make_node("Relu", ["x"], ["y"])]


def said(findings):
    return [(finding.severity, finding.place) for finding in findings]


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
