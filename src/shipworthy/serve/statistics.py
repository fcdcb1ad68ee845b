"""What one model version has done in one process: plain numbers that only the loop's thread changes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping


class Statistics:
    """Counters and sums of times (ns) since the model was loaded; requests by how they ended, batches by their rows."""

    __slots__ = (
        "batches",
        "cancelled",
        "compute_ns",
        "expired",
        "failures",
        "failures_ns",
        "last_ms",
        "queue_ns",
        "rejected",
        "rows",
        "successes",
        "successes_ns",
    )

    def __init__(self) -> None:
        self.successes = self.successes_ns = self.failures = self.failures_ns = 0
        self.queue_ns = self.compute_ns = self.rows = self.last_ms = 0
        self.rejected = self.expired = self.cancelled = 0
        self.batches: dict[int, list[int]] = {}

    def batch(self, rows: int, took_ns: int) -> None:
        """One run of the model over so many rows."""
        self.rows += rows
        self.last_ms = time.time_ns() // 1_000_000
        counted = self.batches.get(rows)
        if counted is None:
            counted = self.batches[rows] = [0, 0]
        counted[0] += 1
        counted[1] += took_ns

    def succeeded(self, whole_ns: int, queue_ns: int, compute_ns: int) -> None:
        """One request answered."""
        self.successes += 1
        self.successes_ns += whole_ns
        self.queue_ns += queue_ns
        self.compute_ns += compute_ns

    def failed(self, whole_ns: int) -> None:
        """One request that the model could not answer."""
        self.failures += 1
        self.failures_ns += whole_ns

    @property
    def ended(self) -> int:
        """Requests that have ended, however they did."""
        return self.successes + self.failures + self.rejected + self.expired + self.cancelled

    def add(self, other: Statistics) -> None:
        """Add what another process has counted."""
        for name in self.__slots__:
            if name == "last_ms":
                self.last_ms = max(self.last_ms, other.last_ms)
            elif name == "batches":
                for rows, (count, took_ns) in other.batches.items():
                    counted = self.batches.setdefault(rows, [0, 0])
                    counted[0] += count
                    counted[1] += took_ns
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))


Counts = Mapping[tuple[str, int], Statistics]
"""Statistics by model name and version."""


def total(all_counts: Iterable[Counts]) -> dict[tuple[str, int], Statistics]:
    """The sum over processes."""
    sums: dict[tuple[str, int], Statistics] = {}
    for counts in all_counts:
        for key, counted in counts.items():
            sums.setdefault(key, Statistics()).add(counted)
    return sums
