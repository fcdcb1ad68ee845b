"""How good answers are, by name: each metric as a function of how often every row counts. Pure.

Rows that count several times, or not at all, are what a bootstrap draws; a metric of counted rows needs no copies of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shipworthy.errors import Failed, Refused
from shipworthy.measure import accuracy
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Metric, Signature, TensorSpec

Numbers = npt.NDArray[np.float64]
Score = Callable[[Numbers], float]
"""Rows counted so often, [rows], to the metric of them; NaN where these rows do not define it."""

BY_CLASS = {"accuracy", "top_k", "f1", "auc"}
BY_VALUE = {"rmse", "mae", "cosine"}
LESS = {"rmse", "mae"}
TWO = 2
# Rows whose scores are copied at a time.
BLOCK = 4096


def named(name: str) -> Metric:
    """The metric that a word of ``[data] metric`` names; of a function of the user's, all but its code."""
    if ":" in name:
        return Metric(name=name, figure="metric", unit="")
    if family(name) in {"accuracy", "top_k"}:
        return Metric(name=name, figure=f"{name}_percent")
    return Metric(name=name, figure=name, unit="", more=name not in LESS)


def family(name: str) -> str:
    """The name without its number: ``top_5`` is ``top_k``."""
    return re.sub(r"^top_\d+$", "top_k", name)


def output(metric: Metric, signature: Signature, wanted: str = "") -> TensorSpec:
    """The output that the metric is of: the one named, else the first that it can be of.

    Raises:
        Refused: no output of that name, or none that can be compared.
    """
    kind = family(metric.name)
    if not wanted and kind in {"top_k", "auc", *BY_VALUE}:
        most = None if kind in BY_VALUE else accuracy.MATRIX
        for spec in signature.outputs:
            flat = len(spec.shape) == 1
            if spec.dtype.startswith("float") and (most is None or len(spec.shape) == most or (flat and kind == "auc")):
                return spec
        raise Refused(
            f"no output of the model can be compared by {metric.name}",
            found=", ".join(str(spec) for spec in signature.outputs),
            expected="scores of the classes" if kind in BY_CLASS else "an output of floats",
            next="name another metric under [data]",
        )
    if not wanted and ":" in metric.name:
        return next(iter(signature.outputs))
    return accuracy.prediction_output(signature, wanted)


def fit(metric: Metric, labels: Array) -> None:
    """See that labels can tell a good model from a bad one.

    Raises:
        Refused: all rows have one label, which any model that always says it would be right on; texts as values.
    """
    kind = family(metric.name)
    if kind in BY_CLASS and labels.ndim == 1 and (labels == labels[0]).all():
        raise Refused(
            f"{metric.name} says nothing of one class",
            found=f"all {len(labels)} evaluation rows have the label {str(labels[0])[:80]}",
            expected="rows of at least two classes: a model that always says the same would be right on all of these",
            next="write evaluation rows of every class, shuffled before they were split",
        )
    if kind in BY_VALUE and labels.dtype.kind not in "fiub":
        raise Refused(
            f"{metric.name} needs labels that are numbers",
            found=f"labels {labels.dtype}",
            next="write the labels as numbers, or name another metric under [data]",
        )


def score(metric: Metric, outputs: Arrays, labels: Array, name: str) -> Score:
    """The metric of these answers, as a function of how often each row counts.

    Args:
        metric: not the user's.
        outputs: one array an output, rows along the first axis.
        labels: one a row.
        name: the output that is compared.

    Raises:
        Refused: labels that the output cannot be compared with.
        Failed: answers that are no numbers.
    """
    kind, answer = family(metric.name), outputs[name]
    if kind == "accuracy":
        return _share(accuracy.right(answer, labels, name))
    if kind == "top_k":
        return _share(_among(answer, labels, name, int(metric.name.removeprefix("top_"))))
    if kind == "f1":
        return _f1(accuracy.predicted(answer, labels, name), labels)
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        bad = int((~np.isfinite(answer.reshape(len(answer), -1))).any(axis=1).sum())
        raise Failed(f"{metric.name} is of numbers", found=f"NaN or infinity in {bad} of {len(answer)} rows of output '{name}'")
    if kind == "auc":
        return _auc(answer, labels, name)
    ours, theirs = _values(metric, answer, labels, name)
    if kind == "cosine":
        return _mean(_cosine(ours, theirs))
    if kind == "mae":
        return _mean(np.abs(ours - theirs).mean(axis=1))
    squares = _mean(((ours - theirs) ** 2).mean(axis=1))
    return lambda counts: float(np.sqrt(squares(counts)))


def _share(rows: npt.NDArray[np.bool_]) -> Score:
    mean = _mean(rows.astype(np.float64))
    return lambda counts: 100 * mean(counts)


def _mean(rows: Numbers) -> Score:
    return lambda counts: float(counts @ rows / counts.sum())


def _among(answer: Array, labels: Array, name: str, most: int) -> npt.NDArray[np.bool_]:
    """Whether the label is among the best so many scores; of equal scores the first is best, as it is for the accuracy."""
    if not accuracy.is_scores(answer):
        raise Refused(
            f"top_{most} needs scores of the classes",
            found=f"output '{name}' {answer.dtype} {list(answer.shape)}",
            next="name an output of scores as prediction under [data]",
        )
    accuracy.fit_scores(answer, labels, name)
    parts = [slice(start, start + BLOCK) for start in range(0, len(labels), BLOCK)]
    return np.concatenate([_before(answer[part], labels[part]) < most for part in parts])


def _before(answer: Array, labels: Array) -> Numbers:
    """How many scores of each row are better than the label's; infinity where that is NaN."""
    scores, places = answer.astype(np.float64), labels.astype(np.int64)[:, None]
    own = np.take_along_axis(scores, places, axis=1)
    earlier = np.arange(answer.shape[1]) < places
    better = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return np.asarray(np.where(np.isnan(own[:, 0]), np.inf, better))


def _f1(predicted: Array, labels: Array) -> Score:
    """The mean over the classes, those that rows have or are said to have, of the harmonic mean of precision and recall."""
    classes, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    real, said = codes[: len(labels)], codes[len(labels) :]
    right = real == said

    def mean(counts: Numbers) -> float:
        hits, has, gets = (
            np.bincount(rows, weights=weights, minlength=len(classes))
            for rows, weights in ((real, counts * right), (real, counts), (said, counts))
        )
        there = has + gets > 0
        return float(np.mean(2 * hits[there] / (has + gets)[there]))

    return mean


def _auc(answer: Array, labels: Array, name: str) -> Score:
    """The area under the ROC curve: of two classes that of the second; of more the mean of each against the rest."""
    if answer.size == len(answer):
        classes = np.unique(labels)
        if labels.ndim != 1 or len(classes) != TWO:
            raise Refused(
                "auc of one score a row needs two classes",
                found=f"labels of {len(classes)} classes, output '{name}' {list(answer.shape)}",
                next="name an output with a score for each class as prediction under [data]",
            )
        return _area(answer.reshape(len(answer)), np.asarray(labels == classes[1], dtype=np.bool_))
    accuracy.fit_scores(answer, labels, name)
    which = [1] if answer.shape[1] == TWO else [int(one) for one in np.unique(labels.astype(np.int64))]
    areas = [_area(answer[:, one], np.asarray(labels == one, dtype=np.bool_)) for one in which]

    def mean(counts: Numbers) -> float:
        of = [area(counts) for area in areas]
        known = [one for one in of if not np.isnan(one)]
        return float(np.mean(known)) if known else np.nan

    return mean


def _area(scores: Array, positive: npt.NDArray[np.bool_]) -> Score:
    """How often a row of the class scores above one that is not; equal scores count half."""
    order = np.argsort(scores, kind="stable")
    in_order = scores[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    ours = positive[order]

    def area(counts: Numbers) -> float:
        weights = counts[order]
        yes = np.add.reduceat(weights * ours, starts)
        no = np.add.reduceat(weights * ~ours, starts)
        pairs = yes.sum() * no.sum()
        return float(yes @ (np.cumsum(no) - no / 2) / pairs) if pairs else np.nan

    return area


def _values(metric: Metric, answer: Array, labels: Array, name: str) -> tuple[Numbers, Numbers]:
    if answer.dtype.kind not in "fiub" or len(answer) != len(labels) or answer.size != labels.size:
        raise Refused(
            f"{metric.name} needs as many values in the labels as in the answers",
            found=f"labels {list(labels.shape)}, output '{name}' {answer.dtype} {list(answer.shape)}",
            next="name another output as prediction under [data], or another metric",
        )
    return answer.reshape(len(answer), -1).astype(np.float64), labels.reshape(len(labels), -1).astype(np.float64)


def _cosine(ours: Numbers, theirs: Numbers) -> Numbers:
    """Of every row; 1 where both are zero, 0 where one is."""
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    product = lengths[0] * lengths[1]
    same = np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(product > 0, np.clip((ours * theirs).sum(axis=1) / product, -1, 1), same))
