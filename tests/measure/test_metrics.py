"""Every metric against scikit-learn's on rows drawn at random, counted rows against copied ones; what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shipworthy.errors import Failed, Refused
from shipworthy.measure import metrics
from shipworthy.records import Metric, Signature, TensorSpec

WORDS = ("accuracy", "top_5", "f1", "auc", "rmse", "mae", "cosine")
LABEL = TensorSpec(name="label", dtype="int64", shape=(None,))
SCORES = TensorSpec(name="scores", dtype="float32", shape=(None, 3))
VALUE = TensorSpec(name="value", dtype="float32", shape=(None, 1))
LINE = TensorSpec(name="line", dtype="float64", shape=(None,))


def score(name, answer, labels, counts=None):
    counts = np.ones(len(labels)) if counts is None else np.asarray(counts, float)
    return metrics.score(metrics.named(name), {"out": np.asarray(answer)}, np.asarray(labels), "out")(counts)


@st.composite
def scored_rows(draw, classes=None):
    """Scores [rows, classes] without ties, labels in which every class occurs, and how often each row counts."""
    classes = classes or draw(st.integers(2, 5))
    rows = draw(st.integers(classes, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = generator.permutation(np.r_[np.arange(classes), generator.integers(classes, size=rows - classes)])
    counts = generator.integers(1, 4, size=rows)
    return generator.permutation(rows * classes).reshape(rows, classes) / (rows * classes), labels, counts


@st.composite
def values(draw):
    """Answers and labels as numbers [rows, columns], and how often each row counts."""
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return generator.normal(size=shape), generator.normal(size=shape), generator.integers(1, 4, size=shape[0])


# ---------------------------------------------------------------- against scikit-learn


@settings(max_examples=80, deadline=None)
@given(scored_rows(), st.integers(1, 6))
def test_top_k_is_scikit_learns(drawn, most):
    from sklearn.metrics import top_k_accuracy_score  # noqa: PLC0415

    answer, labels, counts = drawn
    classes = answer.shape[1]
    wanted = 1.0
    if most < classes:
        theirs = answer[:, 1] if classes == 2 else answer
        if classes == 2:
            theirs = (answer[:, 1] > answer[:, 0]).astype(float)  # of two classes it takes the score of the second, from 0.5
        wanted = top_k_accuracy_score(labels, theirs, k=most, labels=range(classes), sample_weight=counts)
    assert score(f"top_{most}", answer, labels, counts) == pytest.approx(100 * wanted)


@settings(max_examples=80, deadline=None)
@given(scored_rows())
def test_f1_is_scikit_learns(drawn):
    from sklearn.metrics import f1_score  # noqa: PLC0415

    answer, labels, counts = drawn
    said = answer.argmax(axis=1)
    wanted = f1_score(labels, said, average="macro", sample_weight=counts)
    assert score("f1", answer, labels, counts) == pytest.approx(wanted)
    assert score("f1", said, labels, counts) == pytest.approx(wanted)
    words = np.array(["a", "bb", "c", "d", "e"], object)
    assert score("f1", words[said], words[labels].astype(str), counts) == pytest.approx(wanted)


@settings(max_examples=80, deadline=None)
@given(scored_rows(), st.booleans())
def test_auc_is_scikit_learns(drawn, ties):
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    answer, labels, counts = drawn
    answer = np.round(answer, 1) if ties else answer
    one_by_one = [roc_auc_score(labels == one, answer[:, one], sample_weight=counts) for one in range(answer.shape[1])]
    wanted = one_by_one[1] if answer.shape[1] == 2 else np.mean(one_by_one)
    assert score("auc", answer, labels, counts) == pytest.approx(wanted)


@settings(max_examples=40, deadline=None)
@given(scored_rows(classes=2), st.sampled_from([(-1,), (-1, 1)]))
def test_auc_of_one_score_a_row(drawn, shape):
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    answer, labels, _ = drawn
    wanted = roc_auc_score(labels, answer[:, 1])
    assert score("auc", answer[:, 1].reshape(shape), labels) == pytest.approx(wanted)
    assert score("auc", answer[:, 1].reshape(shape), np.array(["no", "yes"])[labels]) == pytest.approx(wanted)


@settings(max_examples=60, deadline=None)
@given(values())
def test_errors_of_values_are_scikit_learns(drawn):
    from sklearn.metrics import mean_absolute_error, mean_squared_error  # noqa: PLC0415

    ours, theirs, counts = drawn
    assert score("mae", ours, theirs, counts) == pytest.approx(mean_absolute_error(theirs, ours, sample_weight=counts))
    assert score("rmse", ours, theirs, counts) == pytest.approx(mean_squared_error(theirs, ours, sample_weight=counts) ** 0.5)


@settings(max_examples=60, deadline=None)
@given(values())
def test_cosine_is_scikit_learns(drawn):
    from sklearn.metrics.pairwise import cosine_similarity  # noqa: PLC0415

    ours, theirs, _ = drawn
    wanted = np.diag(cosine_similarity(ours, theirs)).mean()
    assert score("cosine", ours, theirs) == pytest.approx(wanted)


# ---------------------------------------------------------------- laws


@settings(max_examples=60, deadline=None)
@given(scored_rows(), st.sampled_from(["accuracy", "top_2", "f1", "auc"]))
def test_a_row_that_counts_twice_is_two_rows(drawn, name):
    answer, labels, counts = drawn
    assert score(name, answer, labels, counts) == pytest.approx(
        score(name, np.repeat(answer, counts, axis=0), np.repeat(labels, counts))
    )


@settings(max_examples=60, deadline=None)
@given(scored_rows(), st.sampled_from(["accuracy", "top_2", "f1", "auc"]), st.data())
def test_a_row_that_does_not_count_is_not_there(drawn, name, data):
    answer, labels, counts = drawn
    gone = data.draw(st.integers(0, len(labels) - 1))
    kept = np.arange(len(labels)) != gone
    assume(len(np.unique(labels[kept])) == answer.shape[1])  # without a class it is another question
    counts = np.where(kept, counts, 0)
    assert score(name, answer, labels, counts) == pytest.approx(score(name, answer[kept], labels[kept], counts[kept]))


@settings(max_examples=40, deadline=None)
@given(scored_rows(classes=4))
def test_one_of_the_best_one_is_the_accuracy(drawn):
    answer, labels, counts = drawn
    tied = np.round(answer, 1)
    assert score("top_1", tied, labels, counts) == pytest.approx(score("accuracy", tied, labels, counts))
    assert score("top_4", tied, labels, counts) == 100


def test_more_rows_than_a_block_are_all_scored(monkeypatch):
    answer = np.random.default_rng(0).random((50, 4))
    labels = np.arange(50) % 4
    whole = score("top_2", answer, labels)
    monkeypatch.setattr(metrics, "BLOCK", 7)
    assert score("top_2", answer, labels) == whole
    assert 0 < whole < 100


def test_a_score_that_is_no_number_is_among_none():
    assert score("top_2", np.float32([[np.nan, 1, 2], [0, 1, 2]]), [0, 2]) == 50


def test_half_precision_is_scored_in_full():
    answer = np.full((100_000, 1), 0.1, np.float16)
    assert score("mae", answer, np.zeros((100_000, 1))) == pytest.approx(float(np.float16(0.1)), rel=1e-9)


def test_vectors_without_a_direction():
    assert score("cosine", [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]) == pytest.approx(2 / 3)


def test_draws_without_a_class_are_no_number():
    answer, labels = [0.1, 0.9, 0.8], [0, 1, 1]
    assert np.isnan(score("auc", answer, labels, [0, 2, 1]))
    assert np.isnan(score("auc", [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]], labels, [0, 2, 1]))


def test_a_class_that_a_draw_lacks_is_left_out_of_the_mean():
    scores = [[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.6, 0.2, 0.2]]
    assert score("f1", [0, 1, 0], [0, 1, 2], [1, 1, 0]) == 1
    assert score("auc", scores, [0, 1, 2], [1, 1, 0]) == 1


# ---------------------------------------------------------------- names and outputs


@pytest.mark.parametrize(
    ("name", "figure", "unit", "more", "kept"),
    [
        ("accuracy", "accuracy_percent", "%", True, "accuracy_kept_percent"),
        ("top_5", "top_5_percent", "%", True, "top_5_kept_percent"),
        ("f1", "f1", "", True, "f1_kept_percent"),
        ("auc", "auc", "", True, "auc_kept_percent"),
        ("cosine", "cosine", "", True, "cosine_kept_percent"),
        ("rmse", "rmse", "", False, "rmse_kept_percent"),
        ("mae", "mae", "", False, "mae_kept_percent"),
        ("score.py:wer", "metric", "", True, "metric_kept_percent"),
    ],
)
def test_a_name_says_figure_unit_and_direction(name, figure, unit, more, kept):
    metric = metrics.named(name)
    assert (metric.name, metric.figure, metric.unit, metric.more, metric.kept) == (name, figure, unit, more, kept)


def test_the_accuracy_is_the_metric_by_default():
    assert metrics.named("accuracy") == Metric()


@pytest.mark.parametrize(
    ("name", "outputs", "found"),
    [
        ("accuracy", (LABEL, SCORES), "label"),
        ("f1", (SCORES, LABEL), "label"),
        ("top_5", (LABEL, SCORES), "scores"),
        ("auc", (LABEL, SCORES), "scores"),
        ("auc", (LABEL, LINE, SCORES), "line"),
        ("rmse", (LABEL, VALUE), "value"),
        ("mae", (LINE, VALUE), "line"),
        ("cosine", (LABEL, SCORES), "scores"),
        ("a.py:f", (LINE, LABEL), "line"),
    ],
)
def test_the_output_that_a_metric_is_of(name, outputs, found):
    signature = Signature(inputs=(), outputs=outputs)
    assert metrics.output(metrics.named(name), signature).name == found
    for one in outputs:
        assert metrics.output(metrics.named(name), signature, one.name) == one


@pytest.mark.parametrize("name", ["top_5", "auc", "rmse", "cosine"])
def test_a_model_without_such_an_output(name):
    with pytest.raises(Refused, match=f"no output of the model can be compared by {name}") as caught:
        metrics.output(metrics.named(name), Signature(inputs=(), outputs=(LABEL,)))
    assert "label: int64 [?]" in caught.value.found
    with pytest.raises(Refused, match="no output 'other'"):
        metrics.output(metrics.named(name), Signature(inputs=(), outputs=(LABEL,)), "other")


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("name", ["accuracy", "top_5", "f1", "auc"])
@pytest.mark.parametrize("labels", [np.zeros(9, int), np.array(["yes"] * 3), np.array([True])], ids=["0", "yes", "one row"])
def test_one_class_says_nothing(name, labels):
    with pytest.raises(Refused, match=f"{name} says nothing of one class") as caught:
        metrics.fit(metrics.named(name), labels)
    assert str(labels[0]) in caught.value.found
    metrics.fit(metrics.named(name), np.array([0, 1]))


def test_values_may_be_all_the_same_but_not_texts():
    for name in ("rmse", "mae", "cosine", "a.py:f"):
        metrics.fit(metrics.named(name), np.zeros(3))
    with pytest.raises(Refused, match="rmse needs labels that are numbers"):
        metrics.fit(metrics.named("rmse"), np.array(["a", "b"]))


TWO_BY_TWO = np.float32([[0.1, 0.9], [0.8, 0.2]])


@pytest.mark.parametrize(
    ("name", "answer", "labels", "says"),
    [
        ("top_5", np.array([1, 2]), [1, 2], "top_5 needs scores"),
        ("top_5", TWO_BY_TWO, [1, 2], "cannot be compared with scores"),
        ("top_5", TWO_BY_TWO, ["a", "b"], "cannot be compared with scores"),
        ("f1", TWO_BY_TWO, [0.0, 1.0], "cannot be compared with scores"),
        ("f1", np.array([1, 2]), ["1", "2"], "different kinds"),
        ("auc", np.float32([0.1, 0.2, 0.3]), [0, 1, 2], "auc of one score a row needs two classes"),
        ("auc", TWO_BY_TWO, [1, 2], "cannot be compared with scores"),
        ("rmse", TWO_BY_TWO, [1.0, 2.0], "rmse needs as many values"),
        ("cosine", TWO_BY_TWO, np.ones((2, 3)), "cosine needs as many values"),
        ("mae", np.float32([[1], [2]]), [1.0, 2.0, 3.0], "mae needs as many values"),
    ],
)
def test_what_cannot_be_compared_is_refused(name, answer, labels, says):
    with pytest.raises(Refused, match=says) as caught:
        score(name, answer, labels)
    assert caught.value.found
    assert caught.value.next


@pytest.mark.parametrize("name", ["auc", "rmse", "mae", "cosine"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers(name, bad):
    with pytest.raises(Failed, match=f"{name} is of numbers") as caught:
        score(name, np.float32([[0.1, bad], [0.8, 0.2]]), np.array([0, 1]))
    assert caught.value.found == "NaN or infinity in 1 of 2 rows of output 'out'"
