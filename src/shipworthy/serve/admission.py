"""Who may wait before a model, by how fast it has been run: pure rules.

A request whose run could not begin, or whose answer would not be there, in time is refused at once. A queue that may grow
longer than that answers nobody more: what is in it comes too late, and the work on it is lost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shipworthy.protocols import Array

# What the last run weighs in the means.
LAST = 0.1
# How far apart two paces may be and count as one.
NEAR = 0.05
# Up to this share of its limit a request may be expected to wait: that is an estimate, and who was let in is to be answered.
MARGIN = 0.75
# A limit on the wait counts as this many runs at least: with less, threads would stand still between two requests.
LEAST_RUNS = 2
# Who sets no limit gets half of the second that people wait for. Where runs are long, a handful of callers wait for longer
# than that though nothing is wrong, and who calls such a model knows it: a limit of its own length.
USUAL_MS, USUAL_RUNS = 500.0, 8


class Pace(NamedTuple):
    """Exponentially weighted means over the runs there were: how long one took (ns), and its rows. Zeros before the first."""

    run_ns: float = 0.0
    rows: float = 0.0

    def after(self, rows: int, took_ns: int) -> Pace:
        """The pace after one more run."""
        rows = max(1, rows)
        if not self.rows:
            return Pace(took_ns, rows)
        return Pace(self.run_ns + LAST * (took_ns - self.run_ns), self.rows + LAST * (rows - self.rows))

    def is_near(self, other: Pace) -> bool:
        """Whether what follows from either is about the same: limits are estimates, and to find them anew takes a while."""
        return abs(self[0] - other[0]) <= NEAR * other[0] and abs(self[1] - other[1]) <= NEAR * other[1]

    @property
    def row_ns(self) -> float:
        """What a row takes of a thread's time."""
        return self.run_ns / self.rows if self.rows else 0.0


def longest_ns(pace: Pace, max_wait_ms: float | None) -> float:
    """How long a request may wait for its run; infinite where there is to be no limit (0); by the runs where none is set."""
    if max_wait_ms == 0:
        return math.inf
    limit_ms, runs = (USUAL_MS, USUAL_RUNS) if max_wait_ms is None else (max_wait_ms, LEAST_RUNS)
    return max(limit_ms * 1e6, runs * pace.run_ns)


def wait_ns(pace: Pace, rows: int, begun_ns: Sequence[int], threads: int, now_ns: int) -> float:
    """How long until a run begins behind so many rows.

    Args:
        pace: of the runs so far.
        rows: that wait and come first.
        begun_ns: when each run that is under way began, on the clock of ``now_ns``.
        threads: that make runs, at least 1; while one has nothing to do, no run has to end first.
        now_ns: the time.
    """
    left = sum(max(0.0, pace.run_ns - (now_ns - begun)) for begun in begun_ns) if len(begun_ns) >= threads else 0.0
    return (left + rows * pace.row_ns) / threads


def allowed_ns(pace: Pace, longest: float, until_deadline_ns: float = math.inf) -> float:
    """Who is expected to wait longer for its run is refused; below zero where not even the run would end in time."""
    return MARGIN * min(longest, until_deadline_ns - pace.run_ns)


def easy_rows(pace: Pace, longest: float, threads: int, most: int) -> int:
    """Rows, ``most`` at the most, that may wait without a closer look, even if every thread has just begun a run."""
    if not pace.row_ns or longest == math.inf:
        return most
    return max(0, min(most, int((allowed_ns(pace, longest) - pace.run_ns) * threads / pace.row_ns)))


def retry_after_seconds(expected_wait_ns: float) -> int:
    """When a refused caller had better come back: when those who wait now are through, in whole seconds, at least one."""
    return max(1, math.ceil(expected_wait_ns / 1e9))


def size_bytes(inputs: Mapping[str, Array]) -> int:
    """Memory that the arrays hold, the texts in them included."""
    size = 0
    for array in inputs.values():
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(map(sys.getsizeof, array.flat))
    return size
