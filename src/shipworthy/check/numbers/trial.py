"""The rows that the laws of numbers try, as many as the model is fast enough for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from shipworthy.check.subject import Subject
from shipworthy.data import Dataset, made_up
from shipworthy.protocols import Array, Arrays, Runner

# Parity takes all rows that it can in this time; every other law the few that it needs.
PARITY_SECONDS = 2.0
LAW_SECONDS = 1.0
# A law that could not even make its fewest calls in this time is left out.
LONGEST_SECONDS = 5.0
MOST_ROWS = 32
# One call of parity takes about as long as this and no more rows, so that what is between the nodes fits in memory.
CALL_SECONDS = 0.25
CALL_ROWS = 4096


@dataclass(frozen=True)
class Trial:
    """Rows for the model, and how long one call takes.

    ``data`` are the evaluation rows, or made-up ones where they are not ``real``; ``least`` is the number of rows of the
    smallest call, ``free`` whether calls of any number of rows may be made of them, ``seconds`` how long the smallest takes.
    """

    data: Dataset
    real: bool
    least: int
    free: bool
    seconds: float = 0.0

    def affords(self, calls: int) -> bool:
        """Whether so many of the smallest calls are quick enough for one law."""
        return calls * self.seconds <= LONGEST_SECONDS

    def count(self, seconds: float, most: int, calls: int = 1) -> int:
        """How many rows, at most ``most``, can be run ``calls`` times each in the time; the smallest call's at least."""
        if not self.free:
            return self.least
        return max(self.least, min(most, self.data.rows, int(seconds / max(self.seconds, 1e-9) / calls)))

    def rows(self, count: int) -> dict[str, Array]:
        """So many rows, from the first to the last at even distances."""
        if not self.free:
            return self.data.take(0, self.least) if self.real else dict(self.data.inputs)
        if count >= self.data.rows:
            return dict(self.data.inputs)
        return picked(self.data.inputs, np.linspace(0, self.data.rows - 1, count).astype(np.int64))

    def said(self, rows: Arrays) -> str:
        """What findings call these rows."""
        if not self.real and not self.free:
            return "made-up inputs"
        count = len(next(iter(rows.values())))
        return f"{count} of {self.data.rows} rows" if self.real else f"{count} made-up rows"


def prepare(subject: Subject) -> Trial:
    """The rows for this model, after two calls with the fewest of them: one to warm up, one to be timed.

    Raises:
        Refused: the rows are not for this model.
        Failed: the runtime could not run them.
    """
    signature = subject.model.signature
    firsts = [spec.shape[0] if spec.shape else 0 for spec in signature.inputs]
    fixed = [first for first in firsts if first is not None]
    least = max(fixed, default=1)
    data = subject.data
    real = data is not None and data.rows >= least and all(first in (None, least) for first in firsts if fixed)
    trial = Trial(data if real and data else made_up(signature, least if fixed else MOST_ROWS), real, least, free=not fixed)
    smallest = trial.rows(least)
    subject.runner.run(smallest)
    started = perf_counter()
    subject.runner.run(smallest)
    return replace(trial, seconds=perf_counter() - started)


def answers(runner: Runner, trial: Trial) -> tuple[dict[str, Array], dict[str, Array]]:
    """As many rows as the time allows, in calls that fit in memory, and the answers to all.

    Where the answers are not one a row, those of the first call: calls cannot be joined then.
    """
    inputs = trial.rows(trial.count(PARITY_SECONDS, trial.data.rows))
    rows = len(next(iter(inputs.values())))
    step = trial.count(CALL_SECONDS, CALL_ROWS)
    parts = []
    for start in range(0, rows, step):
        part = {name: array[start : start + step] for name, array in inputs.items()}
        parts.append(runner.run(part))
        if step < rows and not row_by_row(parts[0], step):
            return part, parts[0]
    return inputs, {
        name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]
    }


def picked(inputs: Arrays, places: Array) -> dict[str, Array]:
    """These rows, in this order."""
    return {name: np.ascontiguousarray(array[places]) for name, array in inputs.items()}


def row_by_row(answers: Mapping[str, Array], rows: int) -> bool:
    """Whether every answer has a row for each row of the call."""
    return all(answer.ndim and len(answer) == rows for answer in answers.values())
