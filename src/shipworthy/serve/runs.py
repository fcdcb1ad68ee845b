"""Batches run: requests put together, their rows taken apart again; in smaller pieces where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.protocols import Array, Runner
from shipworthy.serve.parts import bytes_by_row, joined
from shipworthy.serve.texts import written_by_row

# What runtimes say when memory is short: onnxruntime's arenas, CUDA, TensorRT, OpenVINO, C++.
SHORT_OF_MEMORY = ("failed to allocate memory", "bfcarena", "bfc_arena", "out of memory", "outofmemory", "bad_alloc")

log = logging.getLogger(__name__)


class Unforeseen(Failed):
    """What a run ended with is none of our errors: the log has it. Once more would end so again. HTTP 500."""


class ByRow(dict[str, "list[bytes] | None"]):
    """The rows of each output as bytes, made of all of them at once when somebody asks first."""

    def __init__(self, outputs: Mapping[str, Array], made: Callable[[Array], list[bytes] | None]) -> None:
        self._outputs = outputs
        self._made = made

    def __missing__(self, name: str) -> list[bytes] | None:
        self[name] = rows = self._made(self._outputs[name])
        return rows


class Batch:
    """The outputs of one run, rows along their first axes; what is made of all of them at once is made here.

    ``texts`` has the numbers of each row as JSON (see ``texts.written_by_row``), ``raws`` their bytes
    (``parts.bytes_by_row``).
    """

    __slots__ = ("outputs", "raws", "texts")

    def __init__(self, outputs: dict[str, Array]) -> None:
        self.outputs = outputs
        self.texts = ByRow(outputs, written_by_row)
        self.raws = ByRow(outputs, bytes_by_row)


class Share(Mapping[str, Array]):
    """What one request gets of a batch: its rows of each output, cut out when they are asked for; all, without ``end``."""

    __slots__ = ("_end", "_start", "batch")

    def __init__(self, batch: Batch, start: int = 0, end: int | None = None) -> None:
        self.batch = batch
        self._start = start
        self._end = end

    def __getitem__(self, name: str) -> Array:
        array = self.batch.outputs[name]
        return array if self._end is None else array[self._start : self._end]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.outputs)

    def __len__(self) -> int:
        return len(self.batch.outputs)

    def part(self, place: int, rows: int) -> Share:
        """So many rows of it, from ``place`` times as many on."""
        start = self._start + place * rows
        return Share(self.batch, start, start + rows)

    def texts(self, name: str, count: int) -> list[bytes] | None:
        """The numbers of an output in so many equal parts, as JSON, flat and without brackets; ``None`` as ``Batch.texts``."""
        rows = self.batch.texts[name]
        return None if rows is None else _in_equal_parts(rows[self._start : self._end], count, b",")

    def raws(self, name: str, count: int) -> list[bytes]:
        """The bytes of an output in so many equal parts, rows along its first axis."""
        rows = self.batch.raws[name] if count > 1 or self._end is not None else None
        if rows is None:
            return [part.tobytes() for part in np.split(self[name], count)] if count > 1 else [self[name].tobytes()]
        return _in_equal_parts(rows[self._start : self._end], count, b"")


Answer = Share | ShipworthyError


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
            return [error] if len(batch) == 1 else self._sorted_out(batch)
        except Exception:  # whatever it was, every caller gets an answer
            log.exception("a batch of %d requests could not be run", len(batch))
            return [Unforeseen("internal error: the server's log says more")] * len(batch)
        finally:
            if self.max_rows < rows:
                log.warning("memory does not suffice for batches of %d rows: from now on %d at most", rows, self.max_rows)

    def _together(self, batch: Sequence[Asked]) -> list[Share]:
        if len(batch) == 1:
            return [Share(Batch(self._in_parts(batch[0])))]
        inputs = {name: joined([one.inputs[name] for one in batch]) for name in batch[0].inputs}
        whole = Batch(self._call(inputs, sum([one.rows for one in batch])))
        answers = []
        at = 0
        for one in batch:
            answers.append(Share(whole, at, at + one.rows))
            at += one.rows
        return answers

    def _sorted_out(self, batch: Sequence[Asked]) -> list[Answer]:
        """After a failed batch: what cannot be read takes no other with it, and what cannot be run neither."""
        unread: dict[int, Answer] = {}
        for place, one in enumerate(batch):
            try:
                one.inputs = {name: np.asarray(array) for name, array in one.inputs.items()}
            except ShipworthyError as error:
                unread[place] = error
        rest = [one for place, one in enumerate(batch) if place not in unread]
        answers = iter(self.run(rest) if unread and rest else [self._alone(one) for one in rest])
        return [unread[place] if place in unread else next(answers) for place in range(len(batch))]

    def _alone(self, one: Asked) -> Answer:
        try:
            return Share(Batch(self._in_parts(one)))
        except ShipworthyError as error:
            return error

    def _in_parts(self, one: Asked) -> dict[str, Array]:
        """One alone; in parts, when it is larger than the largest batch."""
        inputs = {name: np.asarray(array) for name, array in one.inputs.items()}
        step = self.max_rows
        if one.rows <= step or not self._splits:
            return self._call(inputs, one.rows)
        starts = range(0, one.rows, step)
        return _joined([self._call(_cut(inputs, at, at + step), min(step, one.rows - at)) for at in starts])

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


def _in_equal_parts(rows: list[bytes], count: int, between: bytes) -> list[bytes]:
    step = len(rows) // count
    return rows if step == 1 else [between.join(rows[at : at + step]) for at in range(0, len(rows), step)]


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
