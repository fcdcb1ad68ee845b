"""The proof over HTTP: what the differences, the accuracy and the gap are counted from."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from shipworthy import verification
from shipworthy.data import Dataset
from shipworthy.measure import exact, share
from shipworthy.records import Exchange
from shipworthy.serve.verify import Sent

ROWS = Dataset("d", "d", {"x": np.zeros((4, 1), np.float32)}, np.array([0, 1, 1, 0]))
EXPECTED = {"label": np.array([0, 1, 1, 0]), "p": np.float32([[0.1], [0.2], [0.3], [0.4]])}


def sent(answered, **changed):
    """Answers of the rows that are answered, as expected but for ``changed``."""
    mask = np.array(answered, bool)
    outputs = {name: array[mask] for name, array in (EXPECTED | changed).items()}
    return Sent(outputs, mask, requests=4, answered=int(mask.sum()), latencies_ms=np.array([1.0, 2.0, 3.0]), failure="")


def exchange(*arguments, rows=ROWS, **changed):
    return verification._exchange("json", sent(*arguments, **changed), rows, EXPECTED, "label")


def test_all_answered_as_expected():
    one = exchange([1, 1, 1, 1])
    assert (one.requests, one.answered, one.rows, one.accuracy_percent, one.largest_difference) == (4, 4, 4, 100, 0)
    assert (one.p50_ms, one.p99_ms) == (2, pytest.approx(2.98))


def test_a_row_without_an_answer_is_wrong_and_the_others_are_compared_with_their_own_rows():
    one = exchange([0, 0, 1, 1])
    assert (one.answered, one.accuracy_percent, one.largest_difference) == (2, 50, 0)


def test_the_largest_difference_of_any_output_is_found():
    one = exchange([1, 1, 1, 1], p=EXPECTED["p"] + np.float32([[0], [0.25], [-0.5], [0]]))
    assert one.largest_difference == pytest.approx(0.5)
    assert one.accuracy_percent == 100
    assert exchange([1, 1, 1, 1], label=np.array([0, 1, 1, 3])).largest_difference == 3


def test_without_labels_there_is_no_accuracy():
    assert exchange([1, 1, 1, 1], rows=Dataset("d", "d", ROWS.inputs)).accuracy_percent is None


@pytest.mark.parametrize(
    ("answer", "expected", "difference"),
    [
        (np.array(["a", "b"], object), np.array(["a", "b"]), 0),
        (np.array(["a", "b"], object), np.array(["a", "c"]), 1),
        (np.uint8([0, 255]), np.uint8([255, 0]), 255),
        (np.array([True]), np.array([False]), 1),
        (np.float64([1100.0, 0.5]), np.float64([1000.0, 0.45]), 0.1),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
        (np.float32([-np.inf, np.nan, 1]), np.float32([-np.inf, np.nan, 1]), 0),
        (np.float32([-np.inf, 1]), np.float32([0, 1]), sys.float_info.max),
        (np.float32([np.nan, 1]), np.float32([0, 1]), sys.float_info.max),
    ],
    ids=["same texts", "texts", "unsigned", "bool", "relative", "none", "not finite alike", "infinity", "NaN"],
)
def test_differences_of_every_kind(answer, expected, difference):
    assert verification._difference(answer, expected) == pytest.approx(difference)


def test_the_gap_is_that_of_the_worse_encoding():
    measured = share("accuracy_percent", 3, 4, "")

    def at(percent):
        return Exchange(
            encoding="json", requests=4, answered=4, rows=4, accuracy_percent=percent, largest_difference=0, p50_ms=1, p99_ms=1
        )

    assert verification._gap(measured, [at(75), at(75)]) == 0
    assert verification._gap(measured, [at(75), at(50)]) == 25
    assert verification._gap(measured, [at(100), at(75)]) == -25
    assert verification._gap(None, [at(75)]) is None
    assert verification._gap(measured, [at(None)]) is None


def test_the_same_counts_give_no_gap_at_all():
    """Measured and served accuracy come from one formula: equal counts are equal numbers, not nearly equal ones."""
    for hits in range(451):
        measured, served = share("accuracy_percent", hits, 450, ""), share("accuracy_percent", hits, 450, "").median
        assert measured.median - served == 0
    assert exact("a", "", 1.0, "").median == 1
