"""What one model version has done in one process: plain numbers that only the loop's thread changes."""

from __future__ import annotations

import time


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

    def as_dict(self) -> dict[str, int | dict[int, list[int]]]:
        """All of it; ``batches`` is rows to [count, ns]."""
        return {name: getattr(self, name) for name in self.__slots__}
