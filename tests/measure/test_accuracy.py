"""Which output is compared with labels, and how often it is right; what cannot be compared is refused."""

from __future__ import annotations

import numpy as np
import pytest

from shipworthy.errors import Refused
from shipworthy.measure.accuracy import hits, prediction_output
from shipworthy.records import Signature, TensorSpec

LABEL, TEXT = TensorSpec(name="label", dtype="int64", shape=(None,)), TensorSpec(name="text", dtype="str", shape=(None,))
SCORES = TensorSpec(name="scores", dtype="float32", shape=(None, 3))
VALUE, IMAGE = (
    TensorSpec(name="value", dtype="float32", shape=(None,)),
    TensorSpec(name="im", dtype="uint8", shape=(None, 3, 3)),
)


def signature(*outputs):
    return Signature(inputs=(), outputs=outputs)


@pytest.mark.parametrize(
    ("outputs", "wanted", "found"),
    [
        ((LABEL, SCORES), "", "label"),
        ((SCORES, LABEL), "", "label"),
        ((SCORES, TEXT), "", "text"),
        ((VALUE, IMAGE, SCORES), "", "scores"),
        ((LABEL, SCORES), "scores", "scores"),
        ((LABEL, VALUE), "value", "value"),
    ],
)
def test_the_output_that_is_compared(outputs, wanted, found):
    assert prediction_output(signature(*outputs), wanted).name == found


def test_no_output_can_be_compared():
    with pytest.raises(Refused, match="no output of the model can be compared") as caught:
        prediction_output(signature(VALUE, IMAGE))
    assert "value: float32 [?]" in caught.value.found
    with pytest.raises(Refused, match="no output 'labels'") as caught:
        prediction_output(signature(LABEL, SCORES), "labels")
    assert "'label', 'scores'" in caught.value.found


@pytest.mark.parametrize(
    ("answer", "labels", "expected"),
    [
        (np.array([1, 2, 3]), np.array([1, 0, 3]), 2),
        (np.array([1, 2, 3]), np.array([1.0, 2.0, 4.0]), 2),
        (np.array([[1], [2]]), np.array([1, 2]), 2),
        (np.array([True, False]), np.array([True, True]), 1),
        (np.array(["a", "b"], object), np.array(["a", "c"]), 1),
        (np.array(["a", "bb"]), np.array(["a", "bb"], object), 2),
        (np.float32([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), np.array([1, 0, 0]), 3),
        (np.float32([[0.1, 0.9], [0.8, 0.2]]), np.array([0, 1], np.uint8), 0),
        (np.array([1.5, 2.5]), np.array([1.5, 2.0]), 1),
    ],
    ids=["labels", "float labels", "column", "bool", "texts", "texts as objects", "scores", "wrong scores", "values"],
)
def test_rows_that_are_right(answer, labels, expected):
    found = hits({"other": np.zeros(9), "out": answer}, labels, "out")
    assert found == expected
    assert type(found) is int


@pytest.mark.parametrize(
    ("answer", "labels", "says"),
    [
        (np.float32([[0.1, 0.9]]), np.array([1.0]), "labels float64"),
        (np.float32([[0.1, 0.9]]), np.array(["b"]), "labels <U1"),
        (np.array([1]), np.array(["1"]), "output 'out' int64"),
        (np.array(["1"], object), np.array([1]), "output 'out' object"),
        (np.float32([[0.9], [0.2]]), np.array([1, 0]), "scores [2, 1]"),
        (np.float32([[0.9], [0.2]]), np.array([0, 0]), "scores [2, 1]"),
        (np.float32([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 2]), "labels from 1 to 2"),
        (np.float32([[0.1, 0.9], [0.8, 0.2]]), np.array([-1, 1]), "labels from -1 to 1"),
        (np.array([[1, 0], [0, 1]]), np.array([0, 1]), "[2, 2] for 2 rows"),
        (np.zeros((2, 3, 3), np.float32), np.array([0, 1]), "[2, 3, 3] for 2 rows"),
    ],
    ids=[
        "float",
        "text",
        "text for numbers",
        "number for texts",
        "one score",
        "one score, one class",
        "from 1",
        "below 0",
        "two a row",
        "image",
    ],
)
def test_what_cannot_be_compared_is_refused(answer, labels, says):
    with pytest.raises(Refused, match=r"compared|different kinds") as caught:
        hits({"out": answer}, labels, "out")
    assert says in caught.value.found
    assert caught.value.next
