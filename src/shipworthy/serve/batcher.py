"""Requests to batches and back: whatever is ready, until a turn of the loop brings no more, is one batch.

An idle server so adds no delay and a busy one batches by itself. Rows are counted, never requests; only requests of one
shape share a batch; each gets exactly its own rows back. A run that takes long goes to a thread (the runtime lets other
Python code run meanwhile), so that the loop keeps reading. What would wait too long is refused at once (``admission``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shipworthy.errors import Unavailable
from shipworthy.protocols import Runner
from shipworthy.serve import admission
from shipworthy.serve.admission import Pace
from shipworthy.serve.order import Ended, Order
from shipworthy.serve.runs import Answer, Runs
from shipworthy.serve.statistics import CANCELLED, EXPIRED, LATE, REJECTED, Statistics

# A run in the loop that takes longer than this is the last one there.
LONGEST_INLINE_NS = 20_000_000
# While runs are shorter than this, a full batch is handed to a busy thread before that asks for it: the loop, when it has
# much to read and to refuse, comes back to the thread so late that it would stand still meanwhile.
LONGEST_AHEAD_NS = 50_000_000
# How often those who wait behind long runs are looked through for whose time has passed.
SWEEP_SECONDS = 0.1
# How often at most they are looked through because somebody is to be refused.
CLEAR_NS = 10_000_000


@dataclass(frozen=True)
class Plan:
    """How a model is run: rows of the largest batch, threads that run batches (0: the loop itself); and what may wait.

    ``max_rows`` 0: a request is run as it came, neither with others nor in parts. ``queue_rows`` and ``queue_bytes`` (of
    inputs) bound what waits, ``max_wait_ms`` how long (0: as its caller does; ``None``: ``admission.USUAL_RUNS``).
    """

    max_rows: int = 64
    threads: int = 0
    queue_rows: int = 16384
    queue_bytes: int = 256_000_000
    max_wait_ms: float | None = None


class Batcher:
    """The one queue before a runner; everything but ``_run_in_thread`` happens in the loop's thread."""

    def __init__(self, runner: Runner, plan: Plan, statistics: Statistics) -> None:
        signature = runner.signature
        self._plan = plan
        self._mixes = plan.max_rows > 0 and signature.is_batched
        self._runs = Runs(runner, plan.max_rows, splits=self._mixes)
        self._statistics = statistics
        self._waiting: list[Order] = []
        self._waiting_rows = self._waiting_bytes = 0
        # Of the rows that wait, those of jobs with a priority: they come before all others.
        self._urgent_rows = 0
        # When each run that a thread is making began, oldest first; and the rows of batches that threads have ahead of them.
        self._begun: list[int] = []
        self._ahead: deque[int] = deque()
        self._turning = self._sweeping = False
        # Batches that were taken out of the queue: what came into it since the last may be made wider.
        self._taken = 0
        self._seen = self._cleared_ns = 0
        self._threads = plan.threads
        self._pool = ThreadPoolExecutor(plan.threads, "runner") if plan.threads else None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Where only the rows are free, all requests have one shape, and nobody needs to look.
        self._keyed = any(n is None for spec in signature.inputs for n in spec.shape[1:])
        # Whether a job that waits has a priority or a timeout.
        self._ordered = False
        self._pace = Pace()
        self._limit()

    @property
    def plan(self) -> Plan:
        """How the model was to be run; ``max_rows`` says what is so now."""
        return self._plan

    @property
    def max_rows(self) -> int:
        """Rows of the largest batch: those of the plan, or fewer, once memory did not suffice for them."""
        return self._runs.max_rows

    @property
    def waiting(self) -> int:
        """Requests that no run has taken yet."""
        return sum([job.count for job in self._waiting])

    @property
    def waiting_rows(self) -> int:
        """Rows that no run has taken yet."""
        return self._waiting_rows

    def submit(self, job: Order) -> None:
        """Take a job; refuse it at once when too much waits, or when it would wait too long."""
        size = job.bytes = job.bytes or admission.size_bytes(job.inputs)
        if (
            job.deadline_ns
            or self._waiting_rows + job.rows > self._easy_rows
            or self._waiting_bytes + size > self._plan.queue_bytes
        ):
            refusal = self._refusal(job)
            if refusal:
                job.done(None, refusal)
                return
        self._statistics.in_flight += 1
        job.taken = self._taken
        job.arrived_ns = time.monotonic_ns()
        if self._keyed:
            job.key = tuple(array.shape[1:] for array in job.inputs.values())
        if job.priority or job.deadline_ns:
            self._ordered = True
            self._urgent_rows += job.rows if job.priority else 0
        self._waiting.append(job)
        self._waiting_rows += job.rows
        self._waiting_bytes += size
        if not self._turning:
            self._turning = True
            self._at_next_turn()

    @property
    def groups(self) -> bool:
        """Whether one job may stand for several requests: where the loop runs them, all have come about at once."""
        return self._mixes and not self._keyed and self._pool is None

    def widen(self, job: Order, rows: int, size: int) -> bool:
        """Let a job stand for one more request, if it is as new as that and nobody has to look closer before that may wait."""
        if (
            job.taken != self._taken
            or job.rows + rows > self._runs.max_rows
            or self._waiting_rows + rows > self._easy_rows
            or self._waiting_bytes + size > self._plan.queue_bytes
        ):
            return False
        self._statistics.in_flight += 1
        job.rows += rows
        job.bytes += size
        self._waiting_rows += rows
        self._waiting_bytes += size
        return True

    def narrow(self, job: Order, rows: int, size: int) -> bool:
        """Let a job stand for one request less, whose caller has gone, unless a run has taken it."""
        if job not in self._waiting:
            return False
        self._statistics.dropped(CANCELLED, job.wire)
        job.rows -= rows
        job.bytes -= size
        job.cancelled = not job.rows
        self._waiting_rows -= rows
        self._waiting_bytes -= size
        return True

    def overloaded(self, wire: int) -> Unavailable | None:
        """Why any request without priority is refused now, be it of one row: a large one need not be read first."""
        return self._refusal(Order({}, 1, wire=wire)) if self._waiting_rows >= self._easy_rows else None

    def _refusal(self, job: Order) -> Unavailable | None:
        """Why a job may not wait; whoever finds nobody before them may always.

        Nobody is refused for those whose callers have gone: a client that asks and resets would lock all others out.
        """
        threads = max(1, self._threads)
        if not self._waiting and len(self._begun) < threads:
            return None
        now = time.monotonic_ns()
        rows = sum(self._ahead) + (self._urgent_rows if job.priority else self._waiting_rows)
        wait_ns = admission.wait_ns(self._pace, rows, self._begun, threads, now)
        until_ns = job.deadline_ns - now if job.deadline_ns else math.inf
        if self._waiting and (
            self._waiting_rows + job.rows > self._plan.queue_rows or self._waiting_bytes + job.bytes > self._plan.queue_bytes
        ):
            outcome, what = REJECTED, "the queue is full"
        elif wait_ns > admission.allowed_ns(self._pace, self._longest_ns, until_ns):
            outcome, what = LATE, "the answer would come too late"
        else:
            return None
        if now - self._cleared_ns > CLEAR_NS:
            self._clear(now)
            return self._refusal(job)
        self._statistics.turned_away(outcome, job.wire)
        return Unavailable(
            what,
            found=f"{self._waiting_rows} rows ({self._waiting_bytes / 1e6:.1f} MB) wait, one more for {wait_ns / 1e6:.0f} ms",
            next="try again later",
            retry_after_seconds=admission.retry_after_seconds(wait_ns),
        )

    def _turn(self) -> None:
        """Run what waits, unless more has come since the loop turned last: then look once more what is ready.

        An idle server loses 3 µs to that, a busy one fills its batches: 15 % less CPU a request of a light model.
        """
        if self._seen < self._waiting_rows < self._runs.max_rows:
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
        while self._waiting and (self._pool is None or len(self._begun) < self._threads or self._may_run_ahead()):
            batch = self._next()
            if not batch:
                continue
            start = time.monotonic_ns()
            if self._pool is None:
                answers = self._runs.run(batch)
                took = time.monotonic_ns() - start
                self._pace_is(self._pace.after(sum([job.rows for job in batch]), took))
                self._finish(batch, answers, start, took)
                if took > LONGEST_INLINE_NS:
                    self._leave_the_loop()
            else:
                if len(self._begun) < self._threads:
                    self._begun.append(start)
                else:
                    self._ahead.append(sum([job.rows for job in batch]))
                self._pool.submit(self._run_in_thread, batch)
        if self._waiting and not self._sweeping and self._loop:
            self._sweeping = True
            self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _may_run_ahead(self) -> bool:
        """Whether a busy thread gets a batch beforehand: a full one, of which none is urgent or may yet expire."""
        return (
            len(self._ahead) < self._threads
            and self._waiting_rows >= self._runs.max_rows
            and not self._ordered
            and 0 < self._pace.run_ns < LONGEST_AHEAD_NS
        )

    def _leave_the_loop(self) -> None:
        """A run took long after all (its cost may depend on its input): from now on a thread makes them."""
        self._threads = 1
        self._pool = ThreadPoolExecutor(1, "runner")

    def _next(self) -> list[Order]:
        """The next batch, out of the queue: the most urgent job, and those of its shape that fit beside it."""
        self._taken += 1
        waiting = self._waiting
        most = self._runs.max_rows
        now = time.monotonic_ns()
        if (
            self._mixes
            and not self._ordered
            and not self._keyed
            and self._waiting_rows <= most
            and now - waiting[0].arrived_ns <= self._longest_ns
        ):
            batch = [job for job in waiting if not job.cancelled]  # the common case: everything that waits
            if len(batch) == len(waiting):
                self._waiting = []
                self._waiting_rows = self._waiting_bytes = 0
                return batch
        if self._ordered:
            waiting.sort(key=lambda job: job.priority or 1 << 62)
        batch = []
        left: list[Order] = []
        rows = 0
        for job in waiting:
            if self._is_over(job, now):
                self._drop(job, now)
            elif not batch or (self._mixes and job.key == batch[0].key and rows + job.rows <= most):
                batch.append(job)
                rows += job.rows
                self._take_out(job)
            else:
                left.append(job)
        self._waiting = left
        self._ordered = self._ordered and bool(left)
        return batch

    def _sweep(self) -> None:
        """Let go of whose time has passed while all threads are busy."""
        self._sweeping = False
        self._clear(time.monotonic_ns())
        self._begin()

    def _clear(self, now: int) -> None:
        """Let go of whom nobody waits for any more, and of whose time has passed."""
        self._cleared_ns = now
        left: list[Order] = []
        for job in self._waiting:
            if self._is_over(job, now):
                self._drop(job, now)
            else:
                left.append(job)
        self._waiting = left

    def _is_over(self, job: Order, now: int) -> bool:
        """Whether a job is not to be run any more: nobody waits for it, or it is too late."""
        return job.cancelled or 0 < job.deadline_ns <= now or now - job.arrived_ns > self._longest_ns

    def _take_out(self, job: Order) -> None:
        self._waiting_rows -= job.rows
        self._waiting_bytes -= job.bytes
        if job.priority:
            self._urgent_rows -= job.rows

    def _drop(self, job: Order, now: int) -> None:
        self._take_out(job)
        if job.cancelled:
            self._statistics.dropped(CANCELLED, job.wire, job.count)
            return
        self._statistics.dropped(EXPIRED, job.wire, job.count)
        passed = "the request's timeout" if 0 < job.deadline_ns <= now else "the longest wait for a run"
        wait_ns = admission.wait_ns(self._pace, self._waiting_rows, self._begun, max(1, self._threads), now)
        job.done(
            None,
            Unavailable(
                f"{passed} passed while it waited",
                found=f"{(now - job.arrived_ns) / 1e6:.1f} ms",
                retry_after_seconds=admission.retry_after_seconds(wait_ns),
            ),
        )

    def _run_in_thread(self, batch: list[Order]) -> None:
        start = time.monotonic_ns()
        answers = self._runs.run(batch)
        took = time.monotonic_ns() - start
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._after, batch, answers, start, took)

    def _after(self, batch: list[Order], answers: list[Answer], start: int, took: int) -> None:
        end = start + took
        # Runs end about in the order in which they began. What a thread needs between two runs counts as well.
        self._pace_is(self._pace.after(sum([job.rows for job in batch]), end - self._begun.pop(0)))
        if self._ahead:
            self._ahead.popleft()
            self._begun.append(end)
        self._begin()  # the next batch runs while these answers are written
        self._finish(batch, answers, start, took)

    def _finish(self, batch: list[Order], answers: list[Answer], start: int, took: int) -> None:
        self._statistics.batch(sum([job.rows for job in batch]), took)
        ended = Ended(self._statistics, start, took)
        for job, answer in zip(batch, answers, strict=True):
            job.end(answer, ended)
        ended.count()

    def _pace_is(self, pace: Pace) -> None:
        """Remember how fast runs are."""
        self._pace = pace
        if not pace.is_near(self._limited):
            self._limit()

    def _limit(self) -> None:
        """What follows from the pace for those who wait."""
        self._limited = self._pace
        self._longest_ns = admission.longest_ns(self._pace, self._plan.max_wait_ms)
        self._easy_rows = admission.easy_rows(self._pace, self._longest_ns, max(1, self._threads), self._plan.queue_rows)
