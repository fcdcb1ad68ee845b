"""Rounds of questions: everybody's reply arrives, or it is said why not; nothing waits for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.serve.rounds import Lost, Round, Rounds


class Fake:
    """A worker that keeps what it is asked; ``deaf``: it cannot be."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.asked: list[tuple[int, Any]] = []

    def ask(self, number: int, body: Any) -> None:
        if self.deaf:
            raise BlockingIOError
        self.asked.append((number, body))


def said(replies: Any) -> list[Any]:
    return [type(one) if isinstance(one, Exception) else one for one in replies.values()]


def test_all_are_asked_and_the_next_round_begins_with_the_last_reply() -> None:
    rounds, done, seen = Rounds(), [], []
    one, two = Fake(), Fake()

    def steps() -> Any:
        seen.append((yield Round((one, two), "first", 5.0)))
        seen.append((yield Round((two,), "second", 5.0)))
        return "result"

    rounds.begin(steps(), done.append, 0.0)
    assert [body for _, body in one.asked + two.asked] == ["first", "first"]
    rounds.heard(two.asked[0][0], "b", 1.0)
    rounds.heard(two.asked[0][0], "twice", 1.0)
    assert not seen
    rounds.heard(one.asked[0][0], "a", 2.0)
    assert seen == [{one: "a", two: "b"}]
    assert rounds.next_deadline() == 7.0
    rounds.heard(two.asked[1][0], "c", 3.0)
    assert done == ["result"]
    assert seen[1] == {two: "c"}
    assert rounds.next_deadline() is None


def test_who_is_dead_deaf_or_late_is_lost() -> None:
    rounds, done = Rounds(), []
    deaf, dying, slow, good = Fake(deaf=True), Fake(), Fake(), Fake()

    def steps() -> Any:
        return (yield Round((deaf, dying, slow, good), "?", 5.0))

    rounds.begin(steps(), done.append, 10.0)
    rounds.lost(dying, 11.0)
    rounds.heard(good.asked[0][0], 1, 12.0)
    rounds.expire(14.9)
    assert not done
    rounds.expire(15.0)
    (replies,) = done
    assert {key: type(value) for key, value in replies.items()} == {deaf: Lost, dying: Lost, slow: Lost, good: int}
    rounds.heard(slow.asked[0][0], "too late", 16.0)
    assert len(done) == 1


def test_nobody_to_ask_is_answered_at_once() -> None:
    rounds, done = Rounds(), []

    def steps() -> Any:
        first = yield Round((), "?", 5.0)
        second = yield Round((Fake(deaf=True),), "?", 5.0)
        return len(first), said(second)

    rounds.begin(steps(), done.append, 0.0)
    assert done == [(0, [Lost])]


def test_pieces_of_work_do_not_hear_each_other() -> None:
    rounds, done = Rounds(), []
    worker = Fake()

    def steps() -> Any:
        return list((yield Round((worker,), "?", 5.0)).values())

    for _ in range(2):
        rounds.begin(steps(), done.append, 0.0)
    (first, _), (second, _) = worker.asked
    rounds.heard(second, Refused("no"), 0.0)
    rounds.heard(first, 1, 0.0)
    assert [said({0: one[0]}) for one in done] == [[Refused], [1]]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["reply", "die", "late"])), max_size=30))
def test_every_piece_of_work_ends(events: list[tuple[int, str]]) -> None:
    rounds, done, now = Rounds(), [], 0.0
    workers = [Fake() for _ in range(4)]

    def steps() -> Any:
        one = yield Round(tuple(workers), "?", 5.0)
        two = yield Round(tuple(workers), "?", 5.0)
        three = yield Round(tuple(workers), "?", 5.0)
        return [len(one), len(two), len(three)]

    rounds.begin(steps(), done.append, now)
    for index, event in events:
        if event == "reply" and workers[index].asked:
            rounds.heard(workers[index].asked[-1][0], 1, now)
        elif event == "die":
            rounds.lost(workers[index], now)
        else:
            now += 1.0
            rounds.expire(now)
    for _ in range(3):
        now += 5.0
        rounds.expire(now)
    assert done == [[4, 4, 4]]


def test_lost_is_told_apart_from_other_errors() -> None:
    with pytest.raises(Lost, match="gone"):
        raise Lost("gone")
