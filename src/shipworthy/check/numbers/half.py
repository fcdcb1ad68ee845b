"""Law ``numbers.half``: every tensor fits in the range of float16, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from shipworthy.backends.onnxruntime_inside import Inside
from shipworthy.check.law import Law
from shipworthy.check.numbers import graph
from shipworthy.check.numbers.trial import LAW_SECONDS, MOST_ROWS, Trial
from shipworthy.check.subject import Subject
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array
from shipworthy.records import Finding, Severity, Target

# The largest number of float16, the smallest with all its bits, and what rounds to zero.
LARGEST, SMALLEST, ZERO = 65504.0, 2.0**-14, 2.0**-25
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
NAMED = 5

HALF = Law(
    name="numbers.half",
    severity="note",
    holds="every weight, and every tensor on the rows, has numbers that float16 can hold",
    breaks="in float16 the largest become infinity, the smallest lose their bits or become zero",
    mend="keep the nodes that make or read these tensors in float32: the fp16 pass does so by calibration rows",
)


@dataclass
class Ranges:
    """The largest magnitude and the count of numbers of each tensor that was seen."""

    largest: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, seen: Mapping[str, Array]) -> None:
        """Widen the ranges by some values; those that are not finite are another law's."""
        for name, values in seen.items():
            if values.dtype.kind != "f" or not values.size:
                continue
            high, low = float(values.max()), float(values.min())
            if not np.isfinite((high, low)).all():
                finite = values[np.isfinite(values)]
                high, low = float(finite.max(initial=0)), float(finite.min(initial=0))
            self.largest[name] = max(self.largest.get(name, 0.0), high, -low)
            self.sizes[name] = values.size


def look(subject: Subject, inside: Inside, trial: Trial) -> Iterator[Finding]:
    """The ranges of the weights, and of all tensors between the nodes while some rows go through."""
    severity = _severity(subject.target)
    weights = Ranges()
    for tensor in subject.proto.graph.initializer:
        if tensor.data_type in FLOATS:
            weights.add({tensor.name: numpy_helper.to_array(tensor)})
    yield from _judged("weight", weights, "", severity)
    # As written, one row at a time: a few times slower than the runner that was timed.
    rows = trial.rows(trial.count(LAW_SECONDS / 2, MOST_ROWS))
    types = graph.inferred(subject.proto, trial.rows(trial.least))
    names = [name for name in graph.tensors(subject.proto.graph.node, types) if types.get(name, (1, 0))[0] in FLOATS]
    found = Ranges()
    try:
        for group in graph.groups(names, types):
            if trial.free:
                inside.stream(group, rows, found.add)
            else:
                found.add(inside.look(group, rows))
    except (Failed, Refused) as error:
        yield HALF.note("model", f"its tensors cannot be looked at: {error.found}")
        return
    found.add(rows)
    said = f" on {trial.said(rows)}"
    # Made-up rows have the range that we made up.
    yield from _judged("tensor", found, said, severity if trial.real else "note")


def _severity(target: Target) -> Severity:
    """A warning where the target multiplies in float16."""
    return "warning" if "float16" in {target.precision, *target.precisions} else "note"


def _judged(kind: str, ranges: Ranges, said: str, severity: Severity) -> Iterator[Finding]:
    """A finding for those beyond the range, and one for those below it; a single number below it only where it becomes zero.

    An epsilon of 1e-5 is as good an epsilon in float16; one of 1e-12 is none.
    """
    largest = ranges.largest
    over = sorted((name for name in largest if largest[name] > LARGEST), key=lambda name: -largest[name])
    under = [name for name in largest if 0 < largest[name] < (SMALLEST if ranges.sizes[name] > 1 else ZERO)]
    if over:
        evidence = f"up to {largest[over[0]]:.2g}{said}, and float16 ends at {LARGEST:.0f}{_others(over, largest)}"
        yield HALF.found(f"{kind} {over[0]}", evidence, severity=severity)
    if under:
        under.sort(key=lambda name: largest[name])
        evidence = (
            f"at most {largest[under[0]]:.2g}{said}, and float16 is whole from {SMALLEST:.1g} on{_others(under, largest)}"
        )
        yield HALF.found(f"{kind} {under[0]}", evidence, severity=severity)


def _others(names: list[str], largest: Mapping[str, float]) -> str:
    if len(names) == 1:
        return ""
    listed = ", ".join(f"{name} ({largest[name]:.2g})" for name in names[1:NAMED])
    return f"; so {len(names) - 1} more: {listed}{', …' if len(names) > NAMED else ''}"
