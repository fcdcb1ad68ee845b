"""The figures of the answers: the metric with its margin, what of the original's is kept, and how far they agree with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shipworthy.data import Dataset
from shipworthy.errors import Failed
from shipworthy.measure import accuracy, metrics, own
from shipworthy.measure.metrics import Numbers, Score
from shipworthy.measure.statistics import interval, share
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Figure, Metric

DRAWS, LEAST_DRAWS = 1000, 50
# Rows times draws, and times two for each class that has an area of its own: some seconds of work.
WORK = 200_000_000


@dataclass(frozen=True)
class Scored:
    """A metric of all rows, and of each draw of a bootstrap over them; the same draws for every variant."""

    value: float
    draws: Numbers


def figures(
    metric: Metric, answers: Mapping[str, Arrays], data: Dataset, output: str, folder: Path
) -> dict[str, tuple[Figure, ...]]:
    """The figures of every variant's answers, by name.

    Args:
        metric: what says how good they are.
        answers: outputs of every variant, the original's first.
        data: rows that were answered; without labels there is no metric but ``cosine``, which is of the original's answers.
        output: the output that is compared.
        folder: for what goes to the user's function.

    Raises:
        Refused: labels that the output cannot be compared with, or a function of the user's that failed.
        Failed: answers that are no numbers; the message names the variant.
    """
    original = next(iter(answers.values()))
    labels = data.labels
    if labels is None and metric.name == "cosine":
        labels = original[output]
    scores: dict[str, Scored] = {}
    for name, outputs in answers.items():
        if labels is None:
            break
        try:
            scores[name] = _scored(metric, outputs, labels, output, folder)
        except Failed as error:
            raise Failed(f"variant '{name}' could not be judged: {error.what}", found=error.found, next=error.next) from None
    whose = "" if data.digest else "made-up "
    return {
        name: (
            *(_metric(metric, scores[name], next(iter(scores.values())), data, output) if scores else ()),
            agreement(metric, outputs[output], original[output], f"{whose}rows, by output '{output}'"),
        )
        for name, outputs in answers.items()
    }


def _scored(metric: Metric, outputs: Arrays, labels: Array, output: str, folder: Path) -> Scored:
    if ":" in metric.name:
        return Scored(*own.score(metric.name, outputs, labels, folder))
    width = 2 * outputs[output].size // len(labels) if metric.name == "auc" else 1
    return bootstrap(metrics.score(metric, outputs, labels, output), len(labels), width)


def bootstrap(score: Score, rows: int, width: int = 1) -> Scored:
    """The metric of all rows, and of seeded draws of as many rows with replacement; fewer draws of very many rows."""
    draws = min(DRAWS, max(LEAST_DRAWS, WORK // (rows * width)))
    return Scored(score(np.ones(rows)), np.array([score(counts) for counts in _counts(rows, draws)]))


def _counts(rows: int, draws: int) -> Iterator[Numbers]:
    generator = np.random.default_rng(0)
    for _ in range(draws):
        yield np.bincount(generator.integers(rows, size=rows), minlength=rows).astype(np.float64)


def _metric(metric: Metric, ours: Scored, original: Scored, data: Dataset, output: str) -> list[Figure]:
    if metric.unit == "%":
        hits, before = (round(one.value * data.rows / 100) for one in (ours, original))
        how = f"{hits} of {data.rows} evaluation rows right by output '{output}'"
        made = [share(metric.figure, hits, data.rows, how)]
        how = f"{hits} rows right, {before} by the original; interval by bootstrap of the same rows for both"
    else:
        by = f" by output '{output}'" if ":" not in metric.name else ""
        how = f"{metric.name} of {data.rows} evaluation rows{by}; interval by bootstrap of the rows"
        made = [interval(metric.figure, metric.unit, ours.value, ours.draws, data.rows, how)]
        how = f"{ours.value:.4g}, {original.value:.4g} of the original; interval by bootstrap of the same rows for both"
    top, bottom = (ours, original) if metric.more else (original, ours)
    if bottom.value > 0:
        shared = min(len(top.draws), len(bottom.draws))
        above, below = top.draws[:shared], bottom.draws[:shared]
        usable = below > 0
        kept = 100 * above[usable] / below[usable]
        made.append(interval(metric.kept, "%", 100 * top.value / bottom.value, kept, data.rows, how))
    return made


def agreement(metric: Metric, answer: Array, original: Array, rows: str) -> Figure:
    """How far the answers agree with the original's, in percent.

    Of labels and scores it is the share of rows with the same label, or the same best class; of other numbers 100 less the
    relative difference, the mean over the rows (the norm of the difference over that of the original's row, at most 1).
    """
    count = len(answer)
    scores = accuracy.is_scores(original) and original.shape[1] > 1 and metrics.family(metric.name) not in metrics.BY_VALUE
    if scores or original.dtype.kind != "f":
        ours, theirs = (np.argmax(one, axis=1) if scores else one.reshape(count, -1) for one in (answer, original))
        same = (ours == theirs).reshape(count, -1).all(axis=1)
        hits = int(same.sum())
        return share("agreement_percent", hits, count, f"{hits} of {count} {rows} answered as the original does")
    ours, theirs = (one.reshape(count, -1).astype(np.float64) for one in (answer, original))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    apart = np.where((ours == theirs).all(axis=1), 0.0, np.minimum(np.nan_to_num(apart, nan=1.0, posinf=1.0), 1.0))
    scored = bootstrap(lambda counts: float(100 * (1 - counts @ apart / counts.sum())), count)
    how = f"100 % less the relative difference from the original's answers, the mean of {count} {rows}"
    return interval("agreement_percent", "%", scored.value, scored.draws, count, how)
