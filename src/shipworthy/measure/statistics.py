"""Medians with their spread, and shares with theirs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shipworthy.records import Figure

RESAMPLES = 2000
CONFIDENCE_PERCENT = 95
Z = 1.959964  # the normal quantile of that confidence


def figure(name: str, unit: str, groups: Sequence[Sequence[float]], how: str) -> Figure:
    """The median of all repeats, with its 95 % interval: a two-stage bootstrap, percentile method.

    Processes are drawn first and repeats within them second, so that what sets processes apart widens the interval
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The drawing is seeded: the same
    repeats always give the same interval.

    Args:
        name: the figure.
        unit: its unit.
        groups: the repeats of every process; as many in each.
        how: how they were taken.
    """
    repeats = np.asarray(groups, dtype=np.float64)
    processes, each = repeats.shape
    generator = np.random.default_rng(0)
    drawn = generator.integers(processes, size=(RESAMPLES, processes, 1))
    draws = repeats[drawn, generator.integers(each, size=(RESAMPLES, processes, each))].reshape(RESAMPLES, -1)
    edge = (100 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(np.median(draws, axis=1), [edge, 100 - edge])
    return Figure(
        name=name,
        unit=unit,
        median=float(np.median(repeats)),
        low=float(low),
        high=float(high),
        samples=repeats.size,
        how=how,
    )


def exact(name: str, unit: str, value: float, how: str) -> Figure:
    """A figure with no spread: counted, or taken once."""
    return Figure(name=name, unit=unit, median=value, low=value, high=value, samples=1, how=how)


def interval(name: str, unit: str, value: float, draws: npt.NDArray[np.float64], samples: int, how: str) -> Figure:
    """A figure of ``samples`` rows with the 95 % interval of a bootstrap over them; no draws: no interval."""
    edge = (100 - CONFIDENCE_PERCENT) / 2
    known = draws[np.isfinite(draws)]
    low, high = np.percentile(known, [edge, 100 - edge]) if known.size else (value, value)
    return Figure(
        name=name,
        unit=unit,
        median=value,
        low=min(value, float(low)),
        high=max(value, float(high)),
        samples=samples,
        how=how,
    )


def share(name: str, hits: int, of: int, how: str) -> Figure:
    """A share in percent, with its 95 % interval (Wilson 1927), which stays within 0 and 100."""
    p = hits / of
    middle = (p + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * math.sqrt(p * (1 - p) / of + Z * Z / (4 * of * of))
    return Figure(
        name=name,
        unit="%",
        median=100 * p,
        # At 0 and at 100 % one end is the share itself, up to rounding.
        low=100 * max(0.0, min(p, middle - half)),
        high=100 * min(1.0, max(p, middle + half)),
        samples=of,
        how=how,
    )
