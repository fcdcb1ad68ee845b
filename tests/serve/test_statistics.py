"""What is counted, and how counts of several processes become one."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Failed, NotFound, Refused, Unavailable
from shipworthy.serve import statistics
from shipworthy.serve.statistics import (
    CANCELLED,
    EDGES_NS,
    EXPIRED,
    FAILED,
    LATE,
    OUTCOMES,
    REFUSED,
    REJECTED,
    Statistics,
    total,
)

KEY = ("m", 1)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("succeeded", "failed", "dropped", "turned_away")),
        st.integers(0, 3),
        st.integers(0, 20_000_000_000),
        st.integers(1, 600),
    ),
    max_size=40,
)


def made(events: list[tuple[str, int, int, int]], since: int = 0) -> Statistics:
    done = Statistics(since)
    for what, wire, ns, rows in events:
        if what == "succeeded":
            done.batch(rows, ns // 2)
            done.succeeded([ns], [ns // 3], ns // 2, [wire])
        elif what == "failed":
            done.failed(ns, wire)
        else:
            getattr(done, what)(EXPIRED if what == "dropped" else REFUSED, wire)
    return done


def plain(done: Statistics) -> dict[str, object]:
    return {name: getattr(done, name) for name in Statistics.__slots__}


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_the_sum_over_processes_is_what_one_process_would_have_counted(parts: list[list[tuple[str, int, int, int]]]) -> None:
    counted = [pickle.loads(pickle.dumps(made(part))) for part in parts]  # noqa: S301  ours
    whole = made([event for part in parts for event in part])
    before = [plain(one) for one in counted]
    summed = total({KEY: one} for one in counted)[KEY]
    assert [plain(one) for one in counted] == before, "adding changes nothing of what is added"
    assert plain(summed) | {"last_ms": 0} == plain(whole) | {"last_ms": 0}
    for counts in (summed.whole_counts, summed.queue_counts, summed.compute_counts):
        assert sum(counts) == summed.successes
    assert summed.ended == sum(map(len, parts))


def test_only_what_was_counted_since_a_version_was_loaded_last_is_summed() -> None:
    old, new = made([("failed", 0, 5, 1)] * 7, since=10), made([("failed", 0, 5, 1)], since=20)
    for parts in ([old, new, new], [new, old, new], [new, new, old]):
        summed = total({KEY: one} for one in parts)[KEY]
        assert (summed.since, summed.failures) == (20, 2)
    assert (old.failures, new.failures) == (7, 1)


@pytest.mark.parametrize(("ns", "bucket"), [(0, 0), (1_000_000, 0), (1_000_001, 1), (10_000_000_000, 24), (10_000_000_001, 25)])
def test_an_edge_belongs_to_the_bucket_below_it(ns: int, bucket: int) -> None:
    done = made([("succeeded", 0, ns, 1)])
    assert done.whole_counts.index(1) == bucket


def test_the_limit_of_the_latency_is_an_edge_once() -> None:
    assert len(statistics.edges()) == 25
    assert statistics.edges(100.0) == statistics.edges()
    assert set(statistics.edges(4.2)) - set(statistics.edges()) == {4_200_000}
    assert list(statistics.edges(4.2)) == sorted(statistics.edges(4.2))


def test_sizes_of_batches_are_bounded() -> None:
    done = Statistics()
    for rows in range(1, 2000):
        done.batch(rows, 1)
    assert len(done.batches) < statistics.MOST_SIZES + 5
    assert sum(runs for runs, _ in done.batches.values()) == 1999
    assert done.batches[1024][0] == 1024 - 512
    assert done.batches[7] == [1, 1]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refused("x"), REFUSED),
        (NotFound("x"), REFUSED),
        (Failed("x"), FAILED),
        (Unavailable("x"), REJECTED),
        (ValueError("a bug"), FAILED),
        (ConnectionError("gone"), CANCELLED),
    ],
)
def test_who_is_turned_away_is_counted_by_whose_fault_it_was(error: Exception, outcome: int) -> None:
    done = Statistics()
    with pytest.raises(type(error)), done.until_queued(2, gone=ConnectionError):
        raise error
    assert done.requests[outcome + 2] == done.ended == 1
    with done.until_queued(2, gone=ConnectionError):
        pass
    assert done.ended == 1


def test_what_is_under_way_ends_with_its_process_and_what_was_done_does_not() -> None:
    done = made([("failed", 0, 5, 1)])
    done.in_flight, done.waiting, done.waiting_rows = 3, 2, 9
    summed = total([{KEY: done}, {KEY: done}])[KEY]
    assert (summed.in_flight, summed.waiting, summed.waiting_rows) == (6, 4, 18)
    done.rest()
    assert (done.in_flight, done.waiting, done.waiting_rows, done.failures) == (0, 0, 0, 1)


def test_each_outcome_has_its_place() -> None:
    done = Statistics()
    for turn, outcome in enumerate((REFUSED, REJECTED, LATE, EXPIRED, CANCELLED), 1):
        for wire in range(turn):
            done.turned_away(outcome, wire % 4)
    done.failed(1, 3)
    done.succeeded([1], [1], 1, [2])
    assert {name: done.count(4 * at) for at, name in enumerate(OUTCOMES)} == {
        "success": 1,
        "refused": 1,
        "failed": 1,
        "rejected": 2,
        "late": 3,
        "expired": 4,
        "cancelled": 5,
    }
    assert (done.successes, done.failures, done.rejected, done.late, done.expired, done.cancelled) == (1, 1, 2, 3, 4, 5)


@given(st.lists(st.tuples(st.integers(0, 20_000_000_000), st.integers(0, 3)), min_size=1, max_size=70), st.integers(0, 10**10))
def test_a_batch_counts_as_its_requests_do_one_by_one(answered: list[tuple[int, int]], took_ns: int) -> None:
    together, apart = Statistics(), Statistics()
    wholes, wires = [ns for ns, _ in answered], [wire for _, wire in answered]
    together.succeeded(wholes, [ns // 3 for ns in wholes], took_ns, wires)
    for ns, wire in answered:
        apart.succeeded([ns], [ns // 3], took_ns, [wire])
    assert plain(together) == plain(apart)
    assert together.whole_counts == [sum(low < ns <= high for ns in wholes) for low, high in pairwise((-1, *EDGES_NS, 1 << 62))]
