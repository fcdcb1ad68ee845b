"""The range of each activation over the calibration rows, streamed: only extremes and counts are kept.

The rows go through the model a few at a time, and each answer is counted and dropped, so memory does not grow with
their number. ``minmax`` and ``percentile`` take the rows once, ``entropy`` twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from shipworthy.backends.onnxruntime_passes import feed
from shipworthy.errors import Refused
from shipworthy.optimize.nodes import write
from shipworthy.protocols import Arrays

Method = Literal["minmax", "percentile", "entropy"]
Ranges = dict[str, tuple[float, float]]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]

# Percentiles are counted by the upper half of a float32: sign, exponent and seven bits, so 1/128 is the widest bucket
# at any magnitude. Buckets of one width would lose the body of the values as soon as there is one large outlier.
BUCKETS = 2**16
# Entropy as TensorRT counts it: bins of |x|, of which at least as many are kept as INT8 has levels.
BINS = 2048
LEVELS = 128
STEP = 16


class Collector(Protocol):
    """Counts the values of each activation as they come, and says at the end what range to represent."""

    def add(self, name: str, values: Values) -> None:
        """Count some values of one activation."""
        ...

    def ranges(self) -> Ranges:
        """Lowest and highest value to represent, by activation."""
        ...


class Extremes:
    """The smallest and the largest value."""

    def __init__(self) -> None:
        self._seen: Ranges = {}

    def add(self, name: str, values: Values) -> None:
        """Widen the range of one activation.

        Raises:
            Refused: a value is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite((low, high)).all():
            raise Refused(f"the activation '{name}' is not finite on the calibration rows", found=f"{low} to {high}")
        before = self._seen.get(name, (low, high))
        self._seen[name] = min(low, before[0]), max(high, before[1])

    def ranges(self) -> Ranges:
        """From the smallest to the largest value seen."""
        return dict(self._seen)


class Percentiles:
    """The range that holds ``percent`` of the values; what is cut off is cut evenly at both ends.

    ``symmetric``: the share of the magnitudes instead, so that both ends are the same.
    """

    def __init__(self, percent: float, *, symmetric: bool) -> None:
        self._share, self._symmetric = percent / 100, symmetric
        self._extremes = Extremes()
        self._counts: dict[str, Counts] = {}

    def add(self, name: str, values: Values) -> None:
        """Count the values of one activation; raises as ``Extremes.add``."""
        self._extremes.add(name, values)
        upper = (np.ascontiguousarray(values if not self._symmetric else np.abs(values)).view(np.uint32) >> 16).ravel()
        # In the order of the values: the more negative, the smaller.
        order = np.where(upper < BUCKETS // 2, upper + BUCKETS // 2, BUCKETS - 1 - upper)
        found = np.bincount(order, minlength=BUCKETS)
        self._counts[name] = self._counts[name] + found if name in self._counts else found

    def ranges(self) -> Ranges:
        """The outer edges of the buckets in which the two ends lie, within the values seen."""
        found = {}
        for name, (least, most) in self._extremes.ranges().items():
            total = self._counts[name].cumsum()
            if self._symmetric:
                _, end = _bucket(int(np.searchsorted(total, self._share * total[-1])))
                found[name] = max(least, -end), min(most, end)
            else:
                cut = (1 - self._share) / 2 * total[-1]
                low, _ = _bucket(int(np.searchsorted(total, cut, side="right")))
                _, high = _bucket(int(np.searchsorted(total, total[-1] - cut)))
                found[name] = max(least, low), min(most, high)
        return found


class Entropy:
    """The range whose eight-bit image loses the least information, by the divergence of Kullback and Leibler.

    As TensorRT does: |x| in 2048 bins up to the largest, and of the first 128, 144, … 2048 bins those are kept whose
    counts, spread over 128 levels, tell most of the counts that they came from; values beyond count for the last bin.
    """

    def __init__(self, extremes: Ranges) -> None:
        self._extremes = extremes
        self._counts = {name: np.zeros(BINS, np.int64) for name in extremes}

    def add(self, name: str, values: Values) -> None:
        """Count the magnitudes of one activation."""
        largest = max(map(abs, self._extremes[name]))
        if largest:
            places = (np.abs(values).ravel() * np.float32(BINS / largest)).astype(np.int64)
            self._counts[name] += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def ranges(self) -> Ranges:
        """The best limit on both sides, within the values seen."""
        found = {}
        for name, (least, most) in self._extremes.items():
            limit = _least_divergence(self._counts[name]) / BINS * max(map(abs, (least, most)))
            found[name] = max(least, -limit), min(most, limit)
        return found


def calibrate(
    proto: onnx.ModelProto, names: Sequence[str], rows: Arrays, method: Method, *, percent: float, symmetric: bool
) -> Ranges:
    """The range of each of the activations over the rows.

    Args:
        proto: the model; it is not changed.
        names: activations: inputs or outputs of nodes of the outermost graph, float32.
        rows: one array an input, rows along the first axis.
        method: what of the values the range holds.
        percent: the share that ``percentile`` holds.
        symmetric: whether the range will be widened to the same distance on both sides of zero.

    Raises:
        Refused: an activation is not finite, or onnxruntime does not load the model.
        Failed: onnxruntime could not run the rows.
    """
    first: Collector = Percentiles(percent, symmetric=symmetric) if method == "percentile" else Extremes()
    with tempfile.TemporaryDirectory() as scratch:
        watched = Path(scratch) / "watched.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        outputs = {one.name for one in copy.graph.output} | {one.name for one in copy.graph.input}
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
        write(copy, watched)
        del copy
        feed(watched, names, rows, _into(first))
        if method != "entropy":
            return first.ranges()
        second = Entropy(first.ranges())
        feed(watched, names, rows, _into(second))
        return second.ranges()


def _into(collector: Collector) -> Any:
    def take(answers: Mapping[str, Any]) -> None:
        for name, values in answers.items():
            if values.size:
                collector.add(name, values)

    return take


def _bucket(place: int) -> tuple[float, float]:
    """The lower and the upper edge of a bucket of ``Percentiles``."""
    half = BUCKETS // 2
    first = place - half if place >= half else half - 1 - place
    near, far = (float(np.uint32(min(one << 16, 0x7F7FFFFF)).view(np.float32)) for one in (first, first + 1))
    return (near, far) if place >= half else (-far, -near)


def _least_divergence(counts: Counts) -> int:
    """How many of the first bins to keep.

    The first bin counts as much as the second: zeros, of which a Relu makes many, are represented in any range.
    """
    counts = counts.copy()
    counts[0] = counts[1]
    if not counts.any():
        return BINS
    kept = range(LEVELS, BINS + 1, STEP)
    return min(kept, key=lambda bins: _divergence(counts, bins))


def _divergence(counts: Counts, bins: int) -> float:
    """Of the counts, cut off at ``bins`` bins, from what ``LEVELS`` levels tell of them."""
    inner = counts[:bins].astype(np.float64)
    if not inner.any():
        return float("inf")
    level = np.arange(bins) * LEVELS // bins
    filled = np.bincount(level, weights=inner > 0)
    sums = np.bincount(level, weights=inner)
    told = np.where(inner > 0, (sums / np.maximum(filled, 1))[level], 0)
    real = inner.copy()
    real[-1] += counts[bins:].sum()
    real, told = real / real.sum(), np.maximum(told, 1e-4) / np.maximum(told, 1e-4).sum()
    there = real > 0
    return float((real[there] * np.log(real[there] / told[there])).sum())
