from __future__ import annotations

import pytest

from shipworthy.errors import Refused
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import fit
from shipworthy.serve.tensors import DATATYPES


def spec(name, shape, dtype="float32"):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


TWO = Signature(
    inputs=(spec("a", (None, 2)), spec("b", (None,), "str")),
    outputs=(spec("label", (None,), "int64"), spec("scores", (None, 3)), spec("value", (None, 1))),
)
FIXED = Signature(inputs=(spec("a", (4, None)), spec("b", ())), outputs=(spec("y", (None,)),))


@pytest.mark.parametrize(
    ("signature", "entries", "rows"),
    [
        (TWO, [("a", "FP32", (3, 2)), ("b", "BYTES", (3,))], 3),
        (TWO, [("b", "BYTES", (1,)), ("a", "FP32", (1, 2))], 1),
        (FIXED, [("a", "FP32", (4, 9)), ("b", "FP32", ())], 1),
    ],
)
def test_rows(signature, entries, rows):
    assert fit.check(entries, signature, DATATYPES) == rows


@pytest.mark.parametrize(
    ("signature", "entries", "what", "found"),
    [
        (TWO, [], "the inputs are not those of the model", "none"),
        (TWO, [("a", "FP32", (3, 2))], "the inputs are not those of the model", "a"),
        (TWO, [("a", "FP32", (3, 2))] * 2, "the inputs are not those of the model", "a, a"),
        (TWO, [("a", "FP64", (3, 2)), ("b", "BYTES", (3,))], "'a' does not fit", "FP64 [3, 2]"),
        (TWO, [("a", "FP32", (3, 3)), ("b", "BYTES", (3,))], "'a' does not fit", "FP32 [3, 3]"),
        (TWO, [("a", "FP32", (3, 2)), ("b", "BYTES", (3, 1))], "'b' does not fit", "BYTES [3, 1]"),
        (TWO, [("a", "FP32", (-3, 2)), ("b", "BYTES", (3,))], "'a': a dimension is negative", "[-3, 2]"),
        (TWO, [("a", "FP32", (3, 2)), ("b", "BYTES", (2,))], "the inputs differ in their number of rows", "'a' 3, 'b' 2"),
        (TWO, [("a", "FP32", (0, 2)), ("b", "BYTES", (0,))], "'a' has no rows", ""),
        (FIXED, [("a", "FP32", (5, 1)), ("b", "FP32", ())], "'a' does not fit", "FP32 [5, 1]"),
    ],
)
def test_misfits_are_refused(signature, entries, what, found):
    with pytest.raises(Refused, match=what) as caught:
        fit.check(entries, signature, DATATYPES)
    assert caught.value.found == found


def test_outputs():
    assert fit.wanted([], TWO) == ("label", "scores", "value")
    assert fit.wanted(["value", "label"], TWO) == ("value", "label")
    for names, what in ((["z"], "output 'z' does not exist"), (["label", "label"], "output 'label' is asked for twice")):
        with pytest.raises(Refused, match=what):
            fit.wanted(names, TWO)


def test_what_an_output_can_say():
    one = Signature(inputs=(), outputs=TWO.outputs[:2])
    assert fit.scores(one).name == "scores"
    assert fit.number_a_row(TWO).name == "value"
    assert fit.number_a_row(FIXED).name == "y"
    for which, signature in ((fit.scores, TWO), (fit.scores, FIXED), (fit.number_a_row, one)):
        with pytest.raises(Refused, match="this model does not have"):
            which(signature)
