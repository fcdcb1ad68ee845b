"""Pure geometry of the plots: ranges, ticks, the width of text, and where labels go so that none covers another."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_LARGEST = 1e300
_EXPONENT_FROM = 1e7
_MOST_DECIMALS = 6
_EM = {True: 1.0, False: 0.58}
_SNAP_TO_ZERO = 0.3


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale: values from ``low`` to ``high`` lie between the coordinates ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The coordinate of a value; beyond the range, that of the nearer end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int, ceiling: float = math.inf) -> list[tuple[float, str]]:
        """At most ``most`` round values within the range and not above ``ceiling``, each with its coordinate and text."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step), math.floor(min(self.high, ceiling) / step)
        places = 0
        while places < _MOST_DECIMALS and abs(step - round(step, places)) > step * 1e-6:
            places += 1
        plain = max(abs(self.low), abs(self.high)) < _EXPONENT_FROM and step >= 10.0**-_MOST_DECIMALS
        values = [step * (first + n) for n in range(min(last - first + 1, most + 1))]
        return [(self.at(v), f"{v:,.{places}f}" if plain else f"{v:.3g}") for v in values]


def padded(values: Sequence[float], least: float) -> tuple[float, float]:
    """A range with room around the values, at least ``least`` wide; from zero where that is near, never below it."""
    bounded = [min(max(value, 0.0), _LARGEST) for value in values]
    low, high = min(bounded), max(bounded)
    half = max((high - low) * 0.6, least / 2, high * 1e-6, 1e-6)
    middle = low / 2 + high / 2
    low, high = middle - half, middle + half
    return (0.0 if low < _SNAP_TO_ZERO * high else low), high


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, right, bottom, in coordinates that grow to the right and down."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the box that is nearest to (x, y)."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


def text_width(text: str, size: float) -> float:
    """About how wide the text is at that font size, in the same unit; never too little for common fonts."""
    return size * sum(_EM[unicodedata.east_asian_width(sign) in "WF"] for sign in text)


def shortened(text: str, size: float, room: float) -> str:
    """The text, its end replaced by an ellipsis where it would be wider than ``room``."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text, size) + size > room:
        text = text[:-1]
    return text + "…"


def place(point: tuple[float, float], size: tuple[float, float], inside: Box, taken: Sequence[Box], thin: Sequence[Box]) -> Box:
    """Where a label goes beside a point: within ``inside``, clear of ``taken``, and then near and across little of ``thin``.

    Args:
        point: the point's coordinates.
        size: the label's width and height.
        inside: what the label may not leave.
        taken: what it may not cover; only where all is taken, the least covered place is right.
        thin: lines that it had better not cross.
    """
    (x, y), (width, height) = point, size
    costs: dict[Box, float] = {}
    for distance in (9.0, 16.0, 26.0, 38.0, 52.0, 68.0, 86.0, 106.0, 128.0):
        for across, down in ((1, 0), (0, -1), (-1, 0), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            left = x + across * (distance + width / 2) - width / 2
            top = y + down * (distance + height / 2) - height / 2
            box = _kept_inside(Box(left, top, left + width, top + height), inside)
            costs.setdefault(box, 100 * covered(box, taken) + covered(box, thin) + distance)
    return min(costs, key=costs.__getitem__)


def covered(box: Box, taken: Sequence[Box]) -> float:
    """How much of what is taken the box covers."""
    return sum(box.shared(other) for other in taken)


def _kept_inside(box: Box, inside: Box) -> Box:
    right = min(max(box.left, inside.left), max(inside.right - (box.right - box.left), inside.left)) - box.left
    down = min(max(box.top, inside.top), max(inside.bottom - (box.bottom - box.top), inside.top)) - box.top
    return Box(box.left + right, box.top + down, box.right + right, box.bottom + down)
