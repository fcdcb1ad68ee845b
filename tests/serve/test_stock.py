"""What the supervisor lets be loaded where memory is bounded, and for whom others rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Failed, Refused, ShipworthyError, Unavailable
from shipworthy.records import Target
from shipworthy.serve import stock as module
from shipworthy.serve.letters import Change
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.serve.statistics import Statistics
from shipworthy.serve.stock import Stock

MB = 1_000_000


class Clock:
    """The time, moved by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def offer(name: str, size_mb: float = 10.0, path: Path = Path("none.onnx")) -> Offer:
    """A model whose size was measured."""
    return Offer((ServedModel(name, 1, path, Target(), since=5, memory_bytes=int(size_mb * MB)),), 1)


def asked(at_ms: int, in_flight: int = 0) -> Statistics:
    made = Statistics()
    made.last_ms, made.in_flight = at_ms, in_flight
    return made


def load(stock: Stock, change: Change, counts: dict[tuple[str, int], Statistics] | None = None) -> list[str] | ShipworthyError:
    """As the supervisor does it: whose places are taken."""
    made = stock.room(change, counts or {}, 1)
    if isinstance(made, ShipworthyError):
        return made
    fit, evicted = made
    stock.adopt(Change(resting=evicted))
    stock.adopt(fit)
    return [one.name for one in evicted]


def test_without_a_limit_all_is_served_and_nothing_rests() -> None:
    stock = Stock([offer("a", 1e9)], 0)
    assert stock.settle(1000) == ()
    change = Change((offer("b"),))
    assert stock.found(change) is change


def test_at_the_start_those_rest_that_do_not_fit_into_all_workers() -> None:
    stock = Stock([offer("a"), offer("b"), offer("c")], 45)
    assert [one.name for one in stock.settle(2)] == ["c"]
    assert list(stock.served) == ["a", "b"]
    assert list(stock.resting) == ["c"]
    assert stock.resting["c"].versions[0].since == 0, "when it is loaded again, that is a new loading"
    assert [one.name for one in stock.settle(4)] == ["b"], "as it is with more workers"
    assert list(stock.served) == ["a"]


def test_before_it_was_loaded_a_model_is_estimated_from_its_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(2 * MB))
    (tmp_path / "m.onnx.data").write_bytes(bytes(8 * MB))
    fresh = offer("m", 0, path)
    stock = Stock([offer("a", 10)], 30)
    assert load(stock, Change((fresh,))) == [], "13 MB are expected of it"
    elsewhere = replace(fresh.versions[0], name="n", target=Target(runtime="openvino"))
    refused = stock.room(Change((Offer((elsewhere,), 1),)), {}, 1)
    assert isinstance(refused, Unavailable), "24 MB are, which do not fit beside what was just loaded"
    measured = replace(fresh, versions=(replace(fresh.versions[0], memory_bytes=12 * MB),))
    stock.adopt(Change((measured,)))
    stock.adopt(Change((offer("a", 17.5),), ("n",), (measured,)))
    assert load(stock, Change((fresh,))) == [], "it took 12 MB when it was loaded before"


def test_a_model_that_may_fit_gets_a_chance_and_one_that_cannot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(8 * MB))
    fresh = offer("m", 0, path)
    assert load(Stock([], 10), Change((fresh,))) == [], "10.8 MB are expected, but 8 are possible"
    assert load(Stock([offer("a")], 15), Change((fresh,))) == ["a"], "10.8 MB are expected, which do not fit beside another"
    refused = Stock([], 15).room(Change((fresh,)), {}, 2)
    assert isinstance(refused, Refused)
    assert (refused.found, refused.expected) == ("16.0 MB in 2 workers", "at most 15 MB")
    assert "memory_mb" in refused.next


def test_the_least_recently_asked_goes_unless_it_is_in_use_or_was_just_loaded(clock: Clock) -> None:
    stock = Stock([offer("a"), offer("b")], 25)
    assert load(stock, Change((offer("c"),)), {("a", 1): asked(9), ("b", 1): asked(3)}) == ["b"]
    assert load(stock, Change((offer("b"),)), {("a", 1): asked(9), ("c", 1): asked(0)}) == ["a"], "c has just been loaded"
    assert isinstance(load(stock, Change((offer("a"),))), Unavailable)
    clock.now += module.HOLD_SECONDS
    assert load(stock, Change((offer("a"),)), {("b", 1): asked(1, in_flight=1), ("c", 1): asked(7)}) == ["c"]
    assert stock.evicted == 3
    assert list(stock.served) == ["b", "a"]


def test_who_is_loaded_anew_was_not_loaded_just_now(clock: Clock) -> None:
    stock = Stock([offer("a"), offer("b")], 25)
    stock.adopt(Change((offer("a"), offer("b"))))
    assert load(stock, Change((offer("c"),))) == ["a"]
    stock.adopt(Change((offer("c"),)))
    assert load(stock, Change((offer("a"),))) == ["b"], "c was, before that"
    assert clock.now == Clock.now


def test_who_unloads_a_model_needs_no_room() -> None:
    stock = Stock([offer(name, 20) for name in "abc"], 25)
    assert load(stock, Change(gone=("a",))) == []
    assert list(stock.served) == ["b", "c"]


def test_a_change_of_several_loads_what_fits_and_lets_the_others_rest() -> None:
    stock = Stock([offer("a"), offer("x")], 25)
    change = Change((offer("a"), offer("b"), offer("c")), gone=("x",))
    assert load(stock, change) == ["c"]
    assert (list(stock.served), list(stock.resting)) == (["a", "b"], ["c"])
    assert load(stock, Change(gone=("a", "c"))) == []
    assert (list(stock.served), list(stock.resting)) == (["b"], [])


def test_of_all_that_is_found_only_what_is_served_is_loaded() -> None:
    stock = Stock([offer("a")], 25)
    found = stock.found(Change((offer("a"), offer("new")), ("gone",)))
    assert ([one.name for one in found.offers], [one.name for one in found.resting], found.gone) == (["a"], ["new"], ("gone",))


def test_who_has_been_waited_for_longest_is_next_if_there_can_be_room(clock: Clock) -> None:
    stock = Stock([offer("a", 20), *(offer(name, 20) for name in "bcd"), offer("small", 5)], 25)
    stock.settle(1)

    def following(busy: int = 0) -> str:
        found = stock.next({("a", 1): asked(1, busy)}, 1)
        return found.name if found else ""

    assert not stock.is_waited_for()
    assert following() == "", "nobody is asked for"
    for name in ("a", "x", "d", "b", "small", "c", "d"):
        stock.asked(name)
    assert stock.is_waited_for()
    assert following() == "d"
    assert following(busy=1) == "small", "it fits beside who is in use"
    load(stock, Change((offer("d", 20),)))
    stock.asked("a")
    assert following() == "small", "d has just been loaded"
    clock.now += module.HOLD_SECONDS
    assert following() == "b"
    clock.now += module.PATIENCE_SECONDS - 1
    for name in ("a", "c"):
        stock.asked(name)
    clock.now += 1
    assert following() == "c", "b was not asked for again; a is waited for since it rests"
    clock.now += module.PATIENCE_SECONDS
    assert following() == ""
    assert not stock.is_waited_for()


def test_a_load_that_failed_is_tried_again_after_ever_longer_waits(clock: Clock) -> None:
    stock = Stock([offer("a", 20), offer("b", 20)], 25)
    stock.settle(1)

    def wanted() -> bool:
        stock.asked("b")
        return stock.next({}, 1) is stock.resting["b"]

    waits = []
    for _ in range(12):
        assert wanted()
        stock.ended("b", Failed("the disk"))
        begun = clock.now
        while not wanted():
            clock.now += 0.5
        waits.append(clock.now - begun)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    stock.ended("b", Unavailable("all in use"))
    assert wanted(), "that is no failure"
    stock.ended("b", None)
    assert stock.loaded == 1


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=20), st.lists(st.integers(1, 30), min_size=6))
def test_whatever_is_asked_what_is_served_stays_within_the_limit(asks: list[tuple[str, bool]], sizes: list[int]) -> None:
    offers = {name: offer(name, size) for name, size in zip("abcdef", sizes, strict=False)}
    stock = Stock(offers.values(), 25)
    stock.settle(1)
    for name, busy in asks:
        before = set(stock.served)
        went = load(stock, Change((offers[name],)), {(one, 1): asked(1, int(busy)) for one in before if one != name})
        assert sum(one.versions[0].memory_bytes for one in stock.served.values()) <= 25 * MB
        assert set(stock.served) | set(stock.resting) == set(offers)
        assert not set(stock.served) & set(stock.resting)
        if isinstance(went, Refused):
            assert offers[name].versions[0].memory_bytes > 25 * MB
        elif not isinstance(went, ShipworthyError):
            assert name in stock.served
            assert not busy or before <= set(stock.served)
