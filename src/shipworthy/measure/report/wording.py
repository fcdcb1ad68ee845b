"""How the report writes figures, limits and numbers: the same in tables, plots and the terminal."""

from __future__ import annotations

import math
import re
from typing import Literal

from shipworthy.records import Figure, Gate, Target

NONE = "\u2013"
"""What stands where nothing was measured."""

State = Literal["ships", "passed", "refused", "unjudged"]
"""What became of a variant: it ships, it met every gate, it missed one, or no gate has looked at it."""

STATES: dict[State, str] = {"ships": "ships", "passed": "passed", "refused": "refused", "unjudged": "not judged"}

LABELS = {
    "size_mb": "file size",
    "compressed_mb": "compressed size",
    "sparsity_percent": "zeros in the weights",
    "memory_mb": "memory",
    "gpu_memory_mb": "GPU memory",
    "gpu_utilisation_percent": "GPU utilisation",
    "load_ms": "load time",
    "p50_ms": "P50 latency",
    "p99_ms": "P99 latency",
    "throughput_rps": "throughput",
    "accuracy_percent": "accuracy",
    "accuracy_kept_percent": "accuracy kept",
    "agreement_percent": "agreement",
    "f1": "F1",
    "auc": "AUC",
    "rmse": "RMSE",
    "mae": "MAE",
    "latency_ratio": "relative latency",
    "availability_percent": "availability",
}
"""Figures in a reader's words."""

_DECIMALS = {"latency_ratio": 3, "f1": 4, "auc": 4, "cosine": 4}
_DECIMALS_OF_PERCENT = 2
_MINUS, _TIMES = "\u2212", "\u00d7"
_TINY, _HUGE = 1e-4, 1e7
_MOST_DECIMALS = 4


def label(name: str) -> str:
    """A figure's name in a reader's words; an unknown one as it is, but for its unit."""
    if name in LABELS:
        return LABELS[name]
    of, kept, _ = name.partition("_kept_percent")
    return f"{label(of)} kept" if kept and of else name.removesuffix("_percent")


def decimals(name: str, values: list[float]) -> int:
    """How many decimals the values of one figure need so that the smallest keeps three digits; 0 to 4."""
    if name in _DECIMALS or name.endswith("_percent"):
        return _DECIMALS.get(name, _DECIMALS_OF_PERCENT)
    sizes = [abs(value) for value in values if math.isfinite(value) and abs(value) >= _TINY]
    return min(max(2 - math.floor(math.log10(min(sizes))), 0), _MOST_DECIMALS) if sizes else 0


def number(value: float, places: int) -> str:
    """The value with that many decimals and a comma a thousand; three digits and an exponent where it is far off."""
    if not math.isfinite(value):
        return NONE
    if value and not _TINY <= abs(value) < _HUGE:
        return f"{value:.3g}".replace("-", _MINUS)
    return f"{value:,.{places}f}".replace("-", _MINUS)


def signed(value: float, places: int) -> str:
    """As ``number``, with its sign; what rounds to zero has none."""
    text = number(abs(value), places)
    if not math.isfinite(value) or not any(digit in text for digit in "123456789"):
        return text
    return (_MINUS if value < 0 else "+") + text


def times(value: float) -> str:
    """A ratio with two decimals and the sign of multiplication."""
    return f"{number(value, 2)}{_TIMES}"


def quantity(text: str, unit: str) -> str:
    """A number with its unit: a space between, none before a multiplication sign."""
    return f"{text}{_TIMES}" if unit == "x" else f"{text} {unit}".rstrip()


def with_unit(words: str, unit: str) -> str:
    """What an axis or a column holds, and its unit if it has one."""
    return f"{words}, {unit}" if unit else words


def single(name: str, value: float, unit: str) -> str:
    """One value of a figure by itself, with its unit."""
    return quantity(number(value, decimals(name, [value])), unit)


def interval(figure: Figure, places: int) -> str:
    """The interval around a figure's median, as lowest to highest; empty when it has no width."""
    low, high = number(figure.low, places), number(figure.high, places)
    return f"{low}{NONE}{high}" if low != high else ""


def limit(gate: Gate) -> str:
    """A gate's limit, as ``≥ 97 %``."""
    strict = ", strict" if gate.strict else ""
    return f"{'≥' if gate.at_least else '≤'} {quantity(f'{gate.limit:g}', gate.unit)}{strict}"


def runs_on(target: Target) -> str:
    """What runs a variant, and in which precision where that is not float32's own."""
    return target.runtime if target.precision == "float32" else f"{target.runtime} {target.precision}"


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def when(stamp: str) -> str:
    """A time of day in UTC without the letters of ISO 8601; anything else as it is."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T([\d:]+)(\.\d+)?(\+00:00|Z)$", r"\1 \2 UTC", stamp)


def option(value: object) -> str:
    """The value of a pass's option; a list without its brackets."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
