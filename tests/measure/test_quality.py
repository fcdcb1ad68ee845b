"""The figures of answers: their margin covers the truth, what is kept is paired, agreement needs no labels."""

from __future__ import annotations

import numpy as np
import pytest

from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused
from shipworthy.measure import metrics, quality


def taken(name, answers, labels, tmp_path, digest="d"):
    rows = len(next(iter(answers.values())))
    data = Dataset("d", digest, {"x": np.zeros(rows, np.float32)}, None if labels is None else np.asarray(labels))
    answers = {variant: {"out": np.asarray(one)} for variant, one in answers.items()}
    made = quality.figures(metrics.named(name), answers, data, "out", tmp_path)
    return {variant: {one.name: one for one in figures} for variant, figures in made.items()}


def ends(figure):
    return figure.low, figure.median, figure.high


LABELS = np.array([0, 1] * 50)
WRONG_IN_10 = np.where(np.arange(100) < 10, 1 - LABELS, LABELS)
WRONG_IN_20 = np.where(np.arange(100) < 20, 1 - LABELS, LABELS)


def test_shares_have_wilsons_margin_and_what_is_kept_a_paired_one(tmp_path):
    found = taken("accuracy", {"original": WRONG_IN_10, "int8": WRONG_IN_20}, LABELS, tmp_path)
    assert list(found["int8"]) == ["accuracy_percent", "accuracy_kept_percent", "agreement_percent"]
    assert ends(found["int8"]["accuracy_percent"]) == pytest.approx((71.12, 80, 86.66), abs=0.01)
    low, median, high = ends(found["int8"]["accuracy_kept_percent"])
    assert median == pytest.approx(100 * 80 / 90)
    assert 80 < low < 84
    assert 93 < high < 96
    assert ends(found["original"]["accuracy_kept_percent"]) == (100, 100, 100), "the same draws for both"
    assert found["int8"]["accuracy_percent"].how == "80 of 100 evaluation rows right by output 'out'"
    assert found["int8"]["accuracy_kept_percent"].how.startswith("80 rows right, 90 by the original")
    assert {one.samples for one in found["int8"].values()} == {100}


def test_the_same_rows_always_have_the_same_margin(tmp_path):
    pair = {"original": LABELS, "int8": WRONG_IN_20}
    assert taken("f1", pair, LABELS, tmp_path) == taken("f1", pair, LABELS, tmp_path)


@pytest.mark.parametrize("name", ["f1", "rmse"])
def test_the_margin_narrows_with_the_root_of_the_rows(name, tmp_path):
    generator = np.random.default_rng(1)
    wide = {}
    for rows in (200, 3200):
        labels = generator.integers(2, size=rows)
        answer = np.where(generator.random(rows) < 0.2, 1 - labels, labels)
        low, median, high = ends(taken(name, {"original": answer.astype(float)}, labels, tmp_path)["original"][name])
        assert low < median < high
        wide[rows] = high - low
    assert wide[200] / wide[3200] == pytest.approx(4, rel=0.3)


def test_the_margin_covers_the_truth_nineteen_times_in_twenty(tmp_path):
    """The mean absolute error of a hundred normal errors is the square root of 2/pi, in the long run."""
    generator, covered = np.random.default_rng(2), 0
    for _ in range(100):
        low, _, high = ends(taken("mae", {"original": generator.normal(size=100)}, np.zeros(100), tmp_path)["original"]["mae"])
        covered += low < np.sqrt(2 / np.pi) < high
    assert covered >= 88


def test_of_an_error_less_is_kept_when_it_grows(tmp_path):
    labels = np.zeros(4)
    found = taken("rmse", {"original": np.full(4, 1.0), "int8": np.full(4, 1.25)}, labels, tmp_path)
    assert ends(found["int8"]["rmse"]) == (1.25, 1.25, 1.25)
    assert found["int8"]["rmse_kept_percent"].median == pytest.approx(80)
    assert "rmse of 4 evaluation rows by output 'out'" in found["int8"]["rmse"].how
    assert "1.25, 1 of the original" in found["int8"]["rmse_kept_percent"].how


def test_nothing_can_be_kept_of_nothing(tmp_path):
    found = taken("rmse", {"original": np.full(4, 1.0), "exact": np.zeros(4)}, np.zeros(4), tmp_path)
    assert list(found["exact"]) == ["rmse", "agreement_percent"]


def test_cosine_without_labels_is_of_the_original(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    found = taken("cosine", {"original": vectors, "turned": np.roll(vectors, 1, axis=0)}, None, tmp_path)
    assert found["original"]["cosine"].median == 1
    assert found["turned"]["cosine"].median == 0
    assert list(taken("rmse", {"original": vectors}, None, tmp_path)["original"]) == ["agreement_percent"]


def test_whose_answers_are_no_numbers_is_said(tmp_path):
    bad = np.array([1.0, np.nan])
    with pytest.raises(Failed, match="variant 'fp16' could not be judged: rmse is of numbers"):
        taken("rmse", {"original": np.ones(2), "fp16": bad}, np.ones(2), tmp_path)
    with pytest.raises(Refused, match="rmse needs as many values"):
        taken("rmse", {"original": np.ones((2, 2))}, np.ones(2), tmp_path)


# ---------------------------------------------------------------- agreement


@pytest.mark.parametrize(
    ("name", "original", "answer", "percent"),
    [
        ("accuracy", [1, 2, 3, 4], [1, 2, 3, 5], 75),
        ("accuracy", [[1, 2], [3, 4]], [[1, 2], [3, 5]], 50),
        ("accuracy", np.array(["a", "b"], object), np.array(["a", "c"], object), 50),
        ("accuracy", np.float32([[0.1, 0.9], [0.8, 0.2]]), np.float32([[0.4, 0.6], [0.3, 0.7]]), 50),
        ("auc", np.float32([[0.0], [4.0]]), np.float32([[0.0], [3.0]]), 87.5),
        ("rmse", np.float32([[3.0, 4.0]]), np.float32([[3.0, 1.0]]), 40),
        ("rmse", np.float32([1, 1]), np.float32([1, 9]), 50),
        ("rmse", np.float32([1, 1]), np.float32([1, np.nan]), 50),
        ("rmse", np.float32([0, 1]), np.float32([1, 1]), 50),
        ("cosine", np.ones((2, 2, 2)), np.ones((2, 2, 2)), 100),
    ],
    ids=["labels", "two a row", "texts", "scores", "one score", "values", "at most all", "nan", "zero", "image"],
)
def test_agreement(name, original, answer, percent, tmp_path):
    found = taken(name, {"original": original, "other": answer}, None, tmp_path)
    low, median, high = ends(found["other"]["agreement_percent"])
    assert median == pytest.approx(percent)
    assert low <= median <= high
    assert found["original"]["agreement_percent"].median == 100


def test_agreement_says_what_it_is_of(tmp_path):
    pair = {"original": [1, 2], "other": [1, 3]}
    assert taken("accuracy", pair, None, tmp_path)["other"]["agreement_percent"].how == (
        "1 of 2 rows, by output 'out' answered as the original does"
    )
    assert "1 of 2 made-up rows" in taken("accuracy", pair, None, tmp_path, digest="")["other"]["agreement_percent"].how


def test_an_area_for_each_class_takes_fewer_draws(tmp_path, monkeypatch):
    """Of 20,000 rows and 20 classes as many as two seconds have room for."""
    seen = []
    monkeypatch.setattr(
        quality, "bootstrap", lambda _, rows, width=1: seen.append((rows, width)) or quality.Scored(1.0, np.ones(1))
    )
    taken("auc", {"original": np.eye(20)}, np.arange(20), tmp_path)
    assert seen == [(20, 40)]


def test_many_rows_take_fewer_draws():
    calls = []

    def score(counts):
        calls.append(len(counts))
        return 0.0

    quality.bootstrap(score, 10)
    assert len(calls) == 1001
    calls.clear()
    quality.bootstrap(score, 1_000_000, width=2)
    assert len(calls) == 101
