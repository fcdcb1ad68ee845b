"""A change is made in all workers or in none, whatever each of them replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Failed, Refused, Unavailable
from shipworthy.records import Target
from shipworthy.serve import changes
from shipworthy.serve.letters import Abort, Change, Commit, Count, Prepare
from shipworthy.serve.plan import Cost
from shipworthy.serve.rounds import Lost, Round
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.serve.statistics import Statistics
from shipworthy.serve.statistics import total as sums

MODEL = ServedModel("m", 2, Path("m.onnx"), Target())
WANTED = Change((Offer((MODEL,), 2),), ("n",))
TRIED = Change((Offer((ServedModel("m", 2, Path("m.onnx"), Target(), cost=Cost(1.0, 2.0)),), 2),), ("n",))


def plenty(change: Change) -> Any:
    """No room has to be made."""
    yield Round((), None, 1.0)
    return change


class Made:
    """Runs the steps of a change against workers whose replies are given; keeps what each was told."""

    def __init__(self, first: Any, others: dict[str, Any]) -> None:
        self.told: list[tuple[str, Any]] = []
        self.adopted: list[tuple[Change, tuple[str, ...]]] = []
        workers = ("asker", *others)
        steps = changes.change("asker", WANTED, lambda: workers, lambda *what: self.adopted.append(what), plenty)
        replies: Any = None
        while True:
            try:
                turn = steps.send(replies)
            except StopIteration as end:
                self.result = end.value
                return
            assert turn.seconds > 0
            self.told += [(worker, turn.body) for worker in turn.to]
            prepared = {"asker": first, **others} if isinstance(turn.body, Prepare) else dict.fromkeys(workers)
            replies = {worker: prepared[worker] for worker in turn.to}

    def got(self, kind: type) -> list[str]:
        return [worker for worker, body in self.told if isinstance(body, kind)]


def test_one_tries_first_and_the_others_get_what_it_measured() -> None:
    made = Made(TRIED, {"a": TRIED, "b": TRIED})
    assert made.result is None
    assert made.told == [
        ("asker", Prepare(WANTED)),
        ("a", Prepare(TRIED)),
        ("b", Prepare(TRIED)),
        ("asker", Commit(TRIED)),
        ("a", Commit(TRIED)),
        ("b", Commit(TRIED)),
    ]
    assert made.adopted == [(TRIED, ("asker", "a", "b"))]


def test_what_one_cannot_load_no_other_tries_and_all_remember_why() -> None:
    made = Made(Refused("no such opset", found="99"), {"a": TRIED})
    assert made.got(Prepare) == ["asker"]
    assert made.got(Abort) == ["asker", "a"]
    assert made.told[-1][1] == Abort({"m": "no such opset; found: 99"})
    assert isinstance(made.result, Refused)


def test_a_model_that_takes_the_process_with_it_is_a_failed_load() -> None:
    made = Made(Lost("died"), {"a": TRIED})
    assert isinstance(made.result, Failed)
    assert not isinstance(made.result, Lost)
    assert not made.adopted


def test_who_dies_meanwhile_is_left_to_its_successor() -> None:
    made = Made(TRIED, {"a": Lost("died"), "b": TRIED})
    assert made.result is None
    assert made.got(Commit) == ["asker", "b"]


REPLIES = st.sampled_from([TRIED, Refused("no"), Failed("disk"), Lost("died"), Unavailable("busy")])


@given(REPLIES, st.dictionaries(st.sampled_from("abcd"), REPLIES))
def test_all_or_none(first: Any, others: dict[str, Any]) -> None:
    made = Made(first, others)
    failed = [one for one in (first, *others.values()) if isinstance(one, Exception) and not isinstance(one, Lost)]
    if first is TRIED and not failed:
        able = ["asker", *(name for name, reply in others.items() if reply is TRIED)]
        assert made.got(Commit) == able
        assert made.adopted == [(TRIED, tuple(able))]
        assert not made.got(Abort)
        assert made.result is None
    else:
        assert not made.got(Commit)
        assert not made.adopted
        assert set(made.got(Abort)) == {"asker", *others}
        assert isinstance(made.result, Exception)


def counted(successes: int, rows: int) -> dict[tuple[str, int], Statistics]:
    made = Statistics()
    made.batch(rows, 10)
    for _ in range(successes):
        made.succeeded([3], [2], 1, [0])
    return {("m", 1): made}


def test_counts_are_summed_with_those_of_workers_that_ended_or_do_not_reply() -> None:
    told = {"c": counted(100, 4), "ended": counted(1000, 8)}
    steps = changes.count(("a", "b", "c"), told.__setitem__, lambda: sums(told.values()))
    turn = steps.send(None)
    assert (turn.to, turn.body) == (("a", "b", "c"), Count())
    try:
        steps.send({"a": counted(1, 4), "b": counted(10, 2), "c": Lost("late")})
    except StopIteration as end:
        total = end.value["m", 1]
    assert told.keys() == {"a", "b", "c", "ended"}, "what was said is remembered"
    assert (total.successes, total.successes_ns, total.queue_ns, total.compute_ns, total.rows) == (1111, 3333, 2222, 1111, 18)
    assert total.batches == {4: [2, 20], 2: [1, 10], 8: [1, 10]}
    assert total.ended == 1111
    assert total.last_ms > 0


def run(steps: Any, prepared: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The result of steps whose workers prepare as given, and what each was told."""
    told: list[tuple[str, Any]] = []
    replies: Any = None
    while True:
        try:
            turn = steps.send(replies)
        except StopIteration as end:
            return end.value, told
        told += [(worker, turn.body) for worker in turn.to]
        replies = {worker: prepared if isinstance(turn.body, Prepare) else None for worker in turn.to}


def rooms(*results: Any) -> Any:
    """Makes room with these results, one after the other; tells one worker of it each time."""
    left = list(results)

    def room(change: Change) -> Any:
        yield Round(("asker",), ("room for", change), 1.0)
        return left.pop(0)

    return room


PART = Change(WANTED.offers, ())


def test_room_is_made_before_a_model_is_loaded_and_again_when_its_size_is_known() -> None:
    adopted: list[Change] = []
    steps = changes.change("asker", WANTED, lambda: ("asker", "a"), lambda what, _: adopted.append(what), rooms(PART, PART))
    result, told = run(steps, TRIED)
    assert result is None
    assert told == [
        ("asker", ("room for", WANTED)),
        ("asker", Prepare(PART)),
        ("asker", ("room for", TRIED)),
        ("a", Prepare(PART)),
        ("asker", Commit(PART)),
        ("a", Commit(PART)),
    ]
    assert adopted == [PART]


@given(st.booleans(), st.sampled_from([Refused("larger"), Unavailable("in use")]))
def test_without_room_nothing_is_served_and_only_what_lasts_is_remembered(late: bool, error: Any) -> None:
    results = (WANTED, error) if late else (error,)
    steps = changes.change("asker", WANTED, lambda: ("asker", "a"), lambda *_: None, rooms(*results))
    result, told = run(steps, TRIED)
    assert result is error
    assert [body for _, body in told if isinstance(body, Prepare)] == ([Prepare(WANTED)] if late else [])
    reasons = {"m": "larger"} if isinstance(error, Refused) else {}
    assert told[-2:] == [("asker", Abort(reasons)), ("a", Abort(reasons))]
