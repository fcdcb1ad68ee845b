"""Requests to batches and back: whatever is ready, until a turn of the loop brings no more, is one batch.

An idle server so adds no delay and a busy one batches by itself. Rows are counted, never requests; only requests of one
shape share a batch; each gets exactly its own rows back. A run that takes long goes to a thread (the runtime lets other
Python code run meanwhile), so that the loop keeps reading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shipworthy.errors import Failed, ShipworthyError, Unavailable
from shipworthy.protocols import Array, Runner
from shipworthy.records import Signature
from shipworthy.serve.statistics import Statistics

# A run in the loop that takes longer than this is the last one there.
LONGEST_INLINE_NS = 20_000_000

Done = Callable[[dict[str, Array] | None, ShipworthyError | None], None]
Key = tuple[tuple[int, ...], ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a model is run: rows of the largest batch, threads that run batches (0: the loop itself), rows that may wait.

    ``max_rows`` 0: a request is run as it came, neither with others nor in parts.
    """

    max_rows: int = 64
    threads: int = 0
    queue_rows: int = 16384


class Order:
    """One request on its way to the runtime.

    ``inputs`` are checked arrays of the signature's dtypes, rows along the first axis; ``done`` is called once, in the
    loop's thread, with the outputs by name or with an error. ``deadline_ns`` is of ``time.monotonic_ns`` (0: none);
    ``priority`` 1 is served first, 0 means the default, after all others. Set ``cancelled`` when the caller has gone.
    """

    __slots__ = ("arrived_ns", "cancelled", "deadline_ns", "inputs", "key", "priority", "rows")

    def __init__(self, inputs: dict[str, Array], rows: int, deadline_ns: int = 0, priority: int = 0) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.cancelled = False
        self.arrived_ns = 0
        self.key: Key = ()

    def done(self, outputs: dict[str, Array] | None, error: ShipworthyError | None) -> None:
        """Take the answer."""
        raise NotImplementedError


class Job(Order):
    """An order whose answer goes to a function."""

    __slots__ = ("_done",)

    def __init__(self, inputs: dict[str, Array], rows: int, done: Done, deadline_ns: int = 0, priority: int = 0) -> None:
        super().__init__(inputs, rows, deadline_ns, priority)
        self._done = done

    def done(self, outputs: dict[str, Array] | None, error: ShipworthyError | None) -> None:
        """Hand it on."""
        self._done(outputs, error)


class Batcher:
    """The one queue before a runner; everything but ``_run`` happens in the loop's thread."""

    def __init__(self, runner: Runner, plan: Plan, statistics: Statistics) -> None:
        self._runner = runner
        self._plan = plan
        self._statistics = statistics
        self._waiting: list[Order] = []
        self._waiting_rows = 0
        self._busy = 0
        self._turning = False
        self._seen = 0
        self._threads = plan.threads
        self._pool = ThreadPoolExecutor(plan.threads, "runner") if plan.threads else None
        self._loop: asyncio.AbstractEventLoop | None = None
        signature = runner.signature
        self._mixes = plan.max_rows > 0 and _is_batched(signature)
        # Where only the rows are free, all requests have one shape, and nobody needs to look.
        self._keyed = any(n is None for spec in signature.inputs for n in spec.shape[1:])
        # Whether a job that waits has a priority or a timeout.
        self._ordered = False

    @property
    def plan(self) -> Plan:
        """How the model is run."""
        return self._plan

    @property
    def waiting_rows(self) -> int:
        """Rows that no run has taken yet."""
        return self._waiting_rows

    def submit(self, job: Order) -> None:
        """Take a job; refuse it at once when too many rows wait."""
        waiting = self._waiting
        if waiting and self._waiting_rows + job.rows > self._plan.queue_rows:
            self._statistics.rejected += 1
            job.done(None, Unavailable("the queue is full", found=f"{self._waiting_rows} rows wait", next="try again later"))
            return
        job.arrived_ns = time.monotonic_ns()
        if self._keyed:
            job.key = tuple(array.shape[1:] for array in job.inputs.values())
        if job.priority or job.deadline_ns:
            self._ordered = True
        waiting.append(job)
        self._waiting_rows += job.rows
        if not self._turning:
            self._turning = True
            self._at_next_turn()

    def close(self) -> None:
        """End the threads, after the batches that they run."""
        if self._pool:
            self._pool.shutdown(wait=False)

    def _turn(self) -> None:
        """Run what waits, unless more has come since the loop turned last: then look once more what is ready.

        An idle server loses 3 µs to that, a busy one fills its batches: 15 % less CPU a request of a light model.
        """
        if self._seen < self._waiting_rows < self._plan.max_rows:
            self._seen = self._waiting_rows
            self._at_next_turn()
            return
        self._seen = 0
        self._turning = False
        self._begin()

    def _at_next_turn(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)

    def _begin(self) -> None:
        while self._waiting and (self._pool is None or self._busy < self._threads):
            batch = self._next()
            if not batch:
                continue
            if self._pool is None:
                answers, start, took = self._run(batch)
                self._finish(batch, answers, start, took)
                if took > LONGEST_INLINE_NS:
                    self._leave_the_loop()
            else:
                self._busy += 1
                self._pool.submit(self._run_in_thread, batch)

    def _leave_the_loop(self) -> None:
        """A run took long after all (its cost may depend on its input): from now on a thread makes them."""
        self._threads = 1
        self._pool = ThreadPoolExecutor(1, "runner")

    def _next(self) -> list[Order]:
        """The next batch, out of the queue: the most urgent job, and those of its shape that fit beside it."""
        waiting = self._waiting
        if self._mixes and not self._ordered and not self._keyed and self._waiting_rows <= self._plan.max_rows:
            batch = [job for job in waiting if not job.cancelled]  # the common case: everything that waits
            if len(batch) == len(waiting):
                self._waiting = []
                self._waiting_rows = 0
                return batch
        now = time.monotonic_ns()
        if self._ordered:
            waiting.sort(key=lambda job: job.priority or 1 << 62)
        batch = []
        left: list[Order] = []
        rows = 0
        for job in waiting:
            if job.cancelled or (job.deadline_ns and now >= job.deadline_ns):
                self._drop(job)
            elif not batch or (self._mixes and job.key == batch[0].key and rows + job.rows <= self._plan.max_rows):
                batch.append(job)
                rows += job.rows
                self._waiting_rows -= job.rows
            else:
                left.append(job)
        self._waiting = left
        self._ordered = self._ordered and bool(left)
        return batch

    def _drop(self, job: Order) -> None:
        self._waiting_rows -= job.rows
        if job.cancelled:
            self._statistics.cancelled += 1
            return
        self._statistics.expired += 1
        waited_ms = (time.monotonic_ns() - job.arrived_ns) / 1e6
        job.done(None, Unavailable("the request's timeout passed while it waited", found=f"{waited_ms:.1f} ms"))

    def _run(self, batch: list[Order]) -> tuple[list[dict[str, Array] | ShipworthyError], int, int]:
        """The answers of a batch, when its run began and how long it took (ns); in the loop or in a thread."""
        start = time.monotonic_ns()
        try:
            answers: list[dict[str, Array] | ShipworthyError] = list(self._together(batch))
        except ShipworthyError as error:
            answers = [error] if len(batch) == 1 else [self._alone(job) for job in batch]
        except Exception:  # whatever it was, every caller gets an answer
            log.exception("a batch of %d requests could not be run", len(batch))
            answers = [Failed("internal error: the server's log says more")] * len(batch)
        return answers, start, time.monotonic_ns() - start

    def _together(self, batch: list[Order]) -> list[dict[str, Array]]:
        if len(batch) == 1:
            return [self._split(batch[0])]
        inputs = {name: np.concatenate([job.inputs[name] for job in batch]) for name in batch[0].inputs}
        outputs = self._runner.run(inputs)
        answers = []
        at = 0
        for job in batch:
            answers.append({name: array[at : at + job.rows] for name, array in outputs.items()})
            at += job.rows
        return answers

    def _split(self, job: Order) -> dict[str, Array]:
        """One job alone; in parts, when it is larger than the largest batch."""
        step = self._plan.max_rows
        if job.rows <= step or not self._mixes:
            return self._runner.run(job.inputs)
        parts = [
            self._runner.run({name: array[start : start + step] for name, array in job.inputs.items()})
            for start in range(0, job.rows, step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _alone(self, job: Order) -> dict[str, Array] | ShipworthyError:
        """After a failed batch each job is tried by itself: one that cannot be run takes no other with it."""
        try:
            return self._split(job)
        except ShipworthyError as error:
            return error

    def _run_in_thread(self, batch: list[Order]) -> None:
        result = self._run(batch)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._after, batch, *result)

    def _after(self, batch: list[Order], answers: list[dict[str, Array] | ShipworthyError], start: int, took: int) -> None:
        self._busy -= 1
        self._begin()  # the next batch runs while these answers are written
        self._finish(batch, answers, start, took)

    def _finish(self, batch: list[Order], answers: list[dict[str, Array] | ShipworthyError], start: int, took: int) -> None:
        now, statistics = time.monotonic_ns(), self._statistics
        statistics.batch(sum([job.rows for job in batch]), took)
        for job, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ShipworthyError):
                statistics.failed(now - job.arrived_ns)
                job.done(None, answer)
            else:
                statistics.succeeded(now - job.arrived_ns, start - job.arrived_ns, took)
                job.done(answer, None)


def _is_batched(signature: Signature) -> bool:
    """Whether rows lie along the first axis of every input and output."""
    return all(spec.shape and spec.shape[0] is None for spec in (*signature.inputs, *signature.outputs))
