"""Which models fit into bounded memory, and which go for others."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from shipworthy.serve.budget import Held, fitting, leaving

SIZES = st.integers(0, 20)
HELD = st.lists(st.tuples(SIZES, st.integers(0, 5), st.booleans()), max_size=6).map(
    lambda found: [Held(f"m{at}", *one) for at, one in enumerate(found)]
)


def test_models_fit_in_their_order_until_the_next_does_not() -> None:
    sizes = [("a", 4), ("huge", 11), ("b", 5), ("c", 2), ("d", 1)]
    assert fitting(sizes, 10) == ["a", "b"], "c does not fit, so d is not looked at; huge never would"
    assert fitting(sizes, 12) == ["a"]
    assert fitting(sizes, 100) == ["a", "huge", "b", "c", "d"]
    assert fitting([], 10) == []


@given(st.lists(SIZES, max_size=8), st.integers(0, 40))
def test_what_fits_is_within_the_limit_and_the_next_would_not_be(sizes: list[int], limit: int) -> None:
    names = fitting([(str(at), size) for at, size in enumerate(sizes)], limit)
    total = sum(sizes[int(name)] for name in names)
    assert total <= limit
    left_out = [size for at, size in enumerate(sizes) if str(at) not in names and size <= limit]
    assert not left_out or total + left_out[0] > limit


def test_the_one_that_nobody_asked_for_longest_goes_first_and_none_without_need() -> None:
    held = [Held("old", 2, 1), Held("older", 1, 0), Held("new", 5, 9), Held("busy", 2, 0, stays=True)]
    assert leaving(held, 0, 10) == []
    assert leaving(held, 1, 10) == ["older"]
    assert leaving(held, 2, 10) == ["old"], "the older one is not enough, and with the old one it is not needed"
    assert leaving(held, 3, 10) == ["older", "old"]
    assert leaving(held, 8, 10) == ["older", "old", "new"]
    assert leaving(held, 9, 10) is None


@given(HELD, SIZES, st.integers(0, 60))
def test_who_goes_makes_room_is_not_in_use_and_is_needed(held: list[Held], needed: int, limit: int) -> None:
    go = leaving(held, needed, limit)
    may = [one for one in held if not one.stays]

    def fits(gone: set[str]) -> bool:
        return sum(one.bytes for one in held if one.name not in gone) + needed <= limit

    if go is None:
        assert not fits({one.name for one in may})
        return
    assert fits(set(go))
    assert set(go) <= {one.name for one in may}
    for one in go:
        assert not fits(set(go) - {one})
    if go:  # nobody went who was asked for later than it takes, going by age alone
        by_age = sorted(may, key=lambda one: one.asked_ms)
        gone = itertools.accumulate([set[str](), *({one.name} for one in by_age)], set.union)
        first = next(names for names in gone if fits(names))
        assert set(go) <= first
