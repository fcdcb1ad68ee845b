"""What one model version has done in one process: plain numbers that only the loop's thread changes."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time_ns

from shipworthy.errors import Refused, Unavailable

PROTOCOLS = ("v2_rest", "v2_grpc", "tfs_rest", "tfs_grpc")
"""The protocols by which requests come; ``V2_REST`` and the others are their places here."""
V2_REST, V2_GRPC, TFS_REST, TFS_GRPC = range(4)

OUTCOMES = ("success", "refused", "failed", "rejected", "late", "expired", "cancelled")
"""How a request may end; ``SUCCESS`` and the others are where its counts begin in ``Statistics.requests``."""
SUCCESS, REFUSED, FAILED, REJECTED, LATE, EXPIRED, CANCELLED = range(0, len(OUTCOMES) * len(PROTOCOLS), len(PROTOCOLS))

# Dense between 20 and 200 ms, so that a quantile read from the buckets is right within 1 % there; ms.
_EDGES_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 60, 75, 90, 100, 110, 125, 150, 200, 250, 500, 1e3, 2.5e3, 5e3, 1e4)
# Sizes of batches that are told apart; further ones are counted as the next power of two.
MOST_SIZES = 256

_SUMS = ("compute_ns", "failures_ns", "in_flight", "queue_ns", "rows", "successes_ns", "waiting", "waiting_rows")
_MOSTS = ("last_ms", "load_ns")
_LISTS = ("compute_counts", "queue_counts", "requests", "whole_counts")


def edges(slo_ms: float | None = None) -> tuple[int, ...]:
    """The upper edges (ns) of the histograms' buckets; one of them is the limit of the latency, where there is one."""
    return tuple(sorted({round(1e6 * ms) for ms in (*_EDGES_MS, *([slo_ms] if slo_ms else []))}))


EDGES_NS = edges()


class Statistics:
    """Counters and sums of times (ns) since the model was loaded, and what is under way.

    ``since`` is when it was loaded (ns since 1970), in whichever worker that was done first: counts of the same loading are
    one. ``requests`` counts by outcome and protocol; ``batches`` has, by rows, runs and their time; the three lists of
    counts are histograms over ``edges_ns`` and what lies above: of the whole latency, of waiting, of the model's run.
    """

    __slots__ = ("batches", "edges_ns", "since", *_LISTS, *_MOSTS, *_SUMS)

    def __init__(self, since: int = 0, edges_ns: tuple[int, ...] = EDGES_NS) -> None:
        self.since = since
        self.edges_ns = edges_ns
        self.requests = [0] * (len(OUTCOMES) * len(PROTOCOLS))
        self.successes_ns = self.failures_ns = self.queue_ns = self.compute_ns = self.rows = 0
        self.last_ms = self.load_ns = self.in_flight = self.waiting = self.waiting_rows = 0
        self.whole_counts, self.queue_counts, self.compute_counts = ([0] * (len(edges_ns) + 1) for _ in range(3))
        self.batches: dict[int, list[int]] = {}

    def batch(self, rows: int, took_ns: int) -> None:
        """One run of the model over so many rows."""
        self.rows += rows
        self.last_ms = time_ns() // 1_000_000
        counted = self.batches.get(rows)
        if counted is None:
            size = rows if len(self.batches) < MOST_SIZES else 1 << (rows - 1).bit_length()
            counted = self.batches.setdefault(size, [0, 0])
        counted[0] += 1
        counted[1] += took_ns

    def succeeded(self, whole_ns: Sequence[int], queue_ns: Sequence[int], compute_ns: int, protocols: Sequence[int]) -> None:
        """Requests out of the queue, at least one, were answered by one run; three figures of each, in one order."""
        count = len(protocols)
        self.in_flight -= count
        for protocol in protocols:
            self.requests[protocol] += 1  # success comes first
        self.successes_ns += sum(whole_ns)
        self.queue_ns += sum(queue_ns)
        self.compute_ns += count * compute_ns
        self.compute_counts[bisect_left(self.edges_ns, compute_ns)] += count
        self._spread(self.whole_counts, whole_ns)
        self._spread(self.queue_counts, queue_ns)

    def succeeded_together(self, count: int, whole_ns: int, queue_ns: int, compute_ns: int, protocol: int) -> None:
        """So many requests of one protocol out of the queue, which waited and were answered together."""
        self.in_flight -= count
        self.requests[protocol] += count
        self.successes_ns += count * whole_ns
        self.queue_ns += count * queue_ns
        self.compute_ns += count * compute_ns
        edges = self.edges_ns
        self.whole_counts[bisect_left(edges, whole_ns)] += count
        self.queue_counts[bisect_left(edges, queue_ns)] += count
        self.compute_counts[bisect_left(edges, compute_ns)] += count

    def _spread(self, counts: list[int], times_ns: Sequence[int]) -> None:
        """Count times in their buckets; those of one batch are mostly in one."""
        low, high = bisect_left(self.edges_ns, min(times_ns)), bisect_left(self.edges_ns, max(times_ns))
        if low == high:
            counts[low] += len(times_ns)
            return
        for one_ns in times_ns:
            counts[bisect_left(self.edges_ns, one_ns, low, high)] += 1

    def failed(self, whole_ns: int, protocol: int = V2_REST, outcome: int = FAILED) -> None:
        """One request out of the queue that the model could not answer, or, as ``outcome`` says, that was wrong."""
        self.dropped(outcome, protocol)
        self.failures_ns += whole_ns if outcome == FAILED else 0

    def dropped(self, outcome: int, protocol: int = V2_REST, count: int = 1) -> None:
        """Requests left the queue unanswered: ``EXPIRED``, ``CANCELLED``, or their answers could not be written."""
        self.in_flight -= count
        self.requests[outcome + protocol] += count

    def turned_away(self, outcome: int, protocol: int = V2_REST) -> None:
        """One request never came into the queue."""
        self.requests[outcome + protocol] += 1

    @contextmanager
    def until_queued(self, protocol: int, gone: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Count a request that is turned away inside; ``gone`` is raised there when its caller has hung up."""
        try:
            yield
        except gone:
            self.turned_away(CANCELLED, protocol)
            raise
        except Exception as error:
            self.turned_away(outcome_of(error), protocol)
            raise

    def count(self, outcome: int) -> int:
        """Requests that ended so, over all protocols."""
        return sum(self.requests[outcome : outcome + len(PROTOCOLS)])

    @property
    def successes(self) -> int:
        """Requests that were answered."""
        return self.count(SUCCESS)

    @property
    def failures(self) -> int:
        """Requests that the model could not answer."""
        return self.count(FAILED)

    @property
    def rejected(self) -> int:
        """Requests that were turned away because too much waited."""
        return self.count(REJECTED)

    @property
    def late(self) -> int:
        """Requests that were turned away because their answers would have come too late."""
        return self.count(LATE)

    @property
    def expired(self) -> int:
        """Requests whose time passed before they were run."""
        return self.count(EXPIRED)

    @property
    def cancelled(self) -> int:
        """Requests whose callers had gone before they were run."""
        return self.count(CANCELLED)

    @property
    def ended(self) -> int:
        """Requests that have ended, however they did."""
        return sum(self.requests)

    def add(self, other: Statistics) -> None:
        """Add what another process has counted of the same loading, over the same edges."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _MOSTS:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        for name in _LISTS:
            setattr(self, name, [ours + theirs for ours, theirs in zip(getattr(self, name), getattr(other, name), strict=True)])
        for rows, (count, took_ns) in other.batches.items():
            counted = self.batches.setdefault(rows, [0, 0])
            counted[0] += count
            counted[1] += took_ns

    def rest(self) -> None:
        """Nothing is under way: the process that counted is no more."""
        self.in_flight = self.waiting = self.waiting_rows = 0


Counts = Mapping[tuple[str, int], Statistics]
"""Statistics by model name and version."""


def outcome_of(error: Exception) -> int:
    """How a request has ended that was turned away with this error: by whose fault."""
    return REFUSED if isinstance(error, Refused) else REJECTED if isinstance(error, Unavailable) else FAILED


def total(all_counts: Iterable[Counts]) -> dict[tuple[str, int], Statistics]:
    """The sum over processes; of a version that was loaded anew only what was counted since then."""
    sums: dict[tuple[str, int], Statistics] = {}
    for key, counted in itertools.chain.from_iterable(counts.items() for counts in all_counts):
        if key not in sums or sums[key].since < counted.since:
            sums[key] = Statistics(counted.since, counted.edges_ns)
        if sums[key].since == counted.since:
            sums[key].add(counted)
    return sums
