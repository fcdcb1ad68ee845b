"""Area numbers: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from shipworthy import check
from shipworthy.check import numbers


def of_numbers(report):
    return [one for one in report.findings if one.law.startswith("numbers.")]


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
    finding = numbers.compare("y", answer, expected)
    assert (finding.law, finding.severity, finding.place) == ("numbers.parity", severity, "output y")
    assert says in finding.evidence
    assert bool(finding.mend) == (severity == "error")


def test_parity_holds_for_a_converted_model(digits):
    framework = check.reference(digits.model, trust=True)
    report = check.run(digits.model, digits.evaluation, framework)
    assert report.model == digits.model.digest
    assert "numbers" in report.laws
    found = of_numbers(report)
    assert [(one.law, one.severity, one.place) for one in found] == [
        ("numbers.parity", "note", "output label"),
        ("numbers.parity", "note", "output probabilities"),
    ]
    assert "400 of 400 rows" in found[0].evidence


def test_parity_finds_another_model(digits):
    """The framework of one model beside the ONNX of another: every output is wrong."""
    scaler = StandardScaler().fit(digits.evaluation.inputs["X"])

    def other(inputs):
        scores = scaler.transform(inputs["X"])[:, 10:20]
        return [scores.argmax(axis=1), scores]

    errors = check.run(digits.model, digits.evaluation, other).errors
    assert [one.place for one in errors] == ["output label", "output probabilities"]
    for one in errors:
        assert "with and without its optimisations, and ONNX's reference in" in one.evidence
        assert one.evidence.endswith("agree: the conversion is wrong")


def test_parity_without_rows_warns_and_without_a_framework_says_so(digits):
    framework = check.reference(digits.model, trust=True)
    warned = of_numbers(check.run(digits.model, None, framework))
    assert [(one.law, one.severity, one.place) for one in warned] == [("numbers.parity", "warning", "[data] evaluation")]
    noted = of_numbers(check.run(digits.model, digits.evaluation, None))
    assert [(one.law, one.severity, one.place) for one in noted] == [("numbers.parity", "note", "model")]
