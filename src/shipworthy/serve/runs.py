"""Batches run: requests put together, their rows taken apart again; in smaller pieces where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.protocols import Array, Runner

# What runtimes say when memory is short: onnxruntime's arenas, CUDA, TensorRT, OpenVINO, C++.
SHORT_OF_MEMORY = ("failed to allocate memory", "bfcarena", "bfc_arena", "out of memory", "outofmemory", "bad_alloc")

Answer = dict[str, Array] | ShipworthyError

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What is to be run: arrays of the signature's dtypes, so many rows along their first axes."""

    inputs: dict[str, Array]
    rows: int


class Runs:
    """A runner, and the rows that it is given at once: fewer, once its memory did not suffice."""

    def __init__(self, runner: Runner, max_rows: int, *, splits: bool) -> None:
        """Store them; ``splits``: rows may be put together and taken apart."""
        self._runner = runner
        self._splits = splits
        self.max_rows = max_rows

    def run(self, batch: Sequence[Asked]) -> list[Answer]:
        """An answer to each, whatever happens; in any thread."""
        rows = self.max_rows
        try:
            return list(self._together(batch))
        except ShipworthyError as error:
            return [error] if len(batch) == 1 else [self._alone(one) for one in batch]
        except Exception:  # whatever it was, every caller gets an answer
            log.exception("a batch of %d requests could not be run", len(batch))
            return [Failed("internal error: the server's log says more")] * len(batch)
        finally:
            if self.max_rows < rows:
                log.warning("memory does not suffice for batches of %d rows: from now on %d at most", rows, self.max_rows)

    def _together(self, batch: Sequence[Asked]) -> list[dict[str, Array]]:
        if len(batch) == 1:
            return [self._in_parts(batch[0])]
        inputs = {name: np.concatenate([one.inputs[name] for one in batch]) for name in batch[0].inputs}
        outputs = self._call(inputs, sum([one.rows for one in batch]))
        answers = []
        at = 0
        for one in batch:
            answers.append({name: array[at : at + one.rows] for name, array in outputs.items()})
            at += one.rows
        return answers

    def _alone(self, one: Asked) -> Answer:
        """After a failed batch each is tried by itself: one that cannot be run takes no other with it."""
        try:
            return self._in_parts(one)
        except ShipworthyError as error:
            return error

    def _in_parts(self, one: Asked) -> dict[str, Array]:
        """One alone; in parts, when it is larger than the largest batch."""
        step = self.max_rows
        if one.rows <= step or not self._splits:
            return self._call(one.inputs, one.rows)
        starts = range(0, one.rows, step)
        return _joined([self._call(_cut(one.inputs, at, at + step), min(step, one.rows - at)) for at in starts])

    def _call(self, inputs: dict[str, Array], rows: int) -> dict[str, Array]:
        """One run, or two of half the rows when memory does not suffice, down to single rows."""
        try:
            return self._runner.run(inputs)
        except (ShipworthyError, MemoryError) as error:
            half = rows // 2
            if not half or not self._splits or not is_short_of_memory(error):
                raise
        self.max_rows = max(1, min(self.max_rows, half))
        return _joined([self._call(_cut(inputs, 0, half), half), self._call(_cut(inputs, half, rows), rows - half)])


def is_short_of_memory(error: BaseException) -> bool:
    """Whether the error, or what caused it, says that memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    said = f"{error} {error.__cause__ or ''}".lower()
    return any(words in said for words in SHORT_OF_MEMORY)


def _cut(inputs: dict[str, Array], start: int, end: int) -> dict[str, Array]:
    return {name: array[start:end] for name, array in inputs.items()}


def _joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
