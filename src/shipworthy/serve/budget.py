"""Which models stay in memory, where that is bounded: pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Held(NamedTuple):
    """A model in memory: what it takes over all workers, when it was asked last (ms since 1970; 0: never).

    ``stays``: it is in use, or was loaded just now.
    """

    name: str
    bytes: int
    asked_ms: int = 0
    stays: bool = False


def fitting(sizes: Iterable[tuple[str, int]], limit: int) -> list[str]:
    """The names, in their order, until the next does not fit; one that is larger than the whole limit is passed over."""
    found, left = [], limit
    for name, size in sizes:
        if size > limit:
            continue
        if size > left:
            break
        found.append(name)
        left -= size
    return found


def leaving(held: Sequence[Held], needed: int, limit: int) -> list[str] | None:
    """Who goes so that ``needed`` bytes fit beside who remains: those not asked for longest, and none without need.

    ``None``: it does not fit even when all go who may.
    """
    over = sum(one.bytes for one in held) + needed - limit
    going: list[Held] = []
    for one in sorted((one for one in held if not one.stays), key=lambda one: one.asked_ms):
        if over <= 0:
            break
        going.append(one)
        over -= one.bytes
    if over > 0:
        return None
    for one in reversed(going):  # a small one went first, then a large one that suffices alone
        if over + one.bytes <= 0:
            going = [other for other in going if other is not one]
            over += one.bytes
    return [one.name for one in going]
