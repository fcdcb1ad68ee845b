"""Area ``graph``: what folding and fusion would gain, measured here.

The model as it is written and the model as onnxruntime's basic level rewrites it (what the pass ``graph`` writes into the file)
take turns in this process, both with nothing else optimised. The interval of the median ratio is that of order statistics.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from shipworthy import data
from shipworthy.backends.onnxruntime_passes import Level, caller
from shipworthy.check.graph.view import View
from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.errors import ShipworthyError
from shipworthy.records import Finding

SECONDS = 2.0
# A call that takes longer is not worth the wait; six pairs are the least that give an interval of 95 %.
LONGEST_SECONDS = 0.5
LEAST, MOST = 6, 30
# Two sessions more hold the weights twice more.
LARGEST_BYTES = 500_000_000
# One sample is as many calls as take so long: the clock and a neighbour's interruption matter little.
SAMPLE_SECONDS = 0.01
# Where the memory of two sessions lies sets them apart by up to so much (decision 5): below it a ratio says nothing.
LUCK = 1.10
Z = 1.959964

FUSED = Law(
    name="graph.fused",
    severity="warning",
    holds="constants are folded and operators fused in the file, as far as that is measurable",
    breaks="a runtime that does not optimise graphs answers so much later, and one that does does it anew at each start",
    mend="shipworthy optimize: the pass graph writes it into the file",
)
LAWS = (FUSED,)


def look(subject: Subject, seen: View) -> Iterator[Finding]:
    """One figure: how much longer a call takes as the model is written."""
    size = sum(tensor.ByteSize() for tensor in seen.weights.values())
    if size > LARGEST_BYTES:
        yield FUSED.note("model", f"what folding and fusion gain is not measured: that would take {2 * size / 1e6:.0f} MB more")
        return
    try:
        ratio, low, high, pairs = _measure(subject)
    except ShipworthyError as error:
        yield FUSED.note("model", f"what folding and fusion gain is not measured: {error.what}")
        return
    if not pairs:
        yield FUSED.note("model", f"what folding and fusion gain is not measured: one call takes {ratio:.1f} s")
        return
    evidence = (
        f"one row takes {ratio:.2f} times ({low:.2f} to {high:.2f}, 95 %, {pairs} pairs in turn, "
        f"{subject.target.threads} thread{'s'[: subject.target.threads != 1]}) as long as after onnxruntime's folding and "
        f"fusion{_missed(seen)}"
    )
    yield FUSED.found("model", evidence) if low > LUCK else FUSED.note("model", evidence)


def _measure(subject: Subject) -> tuple[float, float, float, int]:
    """The median ratio, its interval and the number of pairs; the seconds of a call and no pairs when it takes too long."""
    rows = subject.data.take(0, 1) if subject.data else data.made_up(subject.model.signature, 1).inputs
    one = min(_seconds(lambda: subject.runner.run(rows), 1) for _ in range(2))
    if one > LONGEST_SECONDS:
        return one, 0, 0, 0
    levels: tuple[Level, Level] = ("none", "basic")
    written, optimised = (caller(subject.model.path, subject.target.threads, level, rows) for level in levels)
    one = max(_seconds(written, 1), _seconds(optimised, 1))
    calls = max(1, math.ceil(SAMPLE_SECONDS / one))
    end, ratios = time.perf_counter() + SECONDS, list[float]()
    while len(ratios) < LEAST or (len(ratios) < MOST and time.perf_counter() < end):
        first, second = (written, optimised) if len(ratios) % 2 else (optimised, written)
        took = {id(first): _seconds(first, calls)}
        took[id(second)] = _seconds(second, calls)
        ratios.append(took[id(written)] / took[id(optimised)])
    return (*median(ratios), len(ratios))


def median(values: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval from order statistics (Conover, Practical Nonparametric Statistics, 1999, 3.2)."""
    ordered = sorted(values)
    rank = max(0, math.floor((len(ordered) - Z * math.sqrt(len(ordered))) / 2))
    return float(np.median(ordered)), ordered[rank], ordered[-1 - rank]


def _seconds(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def _missed(seen: View) -> str:
    """What there is to fold, as far as it can be counted without running anything."""
    known = set(seen.weights) - {one.name for one in seen.graph.input}
    foldable = 0
    for node in seen.nodes:  # makers come before readers
        if node.op_type != "Constant" and node.input and all(name in known for name in node.input if name):
            foldable += 1
            known.update(node.output)
        elif node.op_type == "Constant":
            known.update(node.output)
    normalized = sum(
        node.op_type == "BatchNormalization" and getattr(seen.makers.get(node.input[0]), "op_type", "") == "Conv"
        for node in seen.nodes
    )
    said = [f"{foldable} nodes read constants only"] * bool(foldable)
    said += [f"{normalized} BatchNormalization stand behind a Conv"] * bool(normalized)
    return f" ({'; '.join(said)})" if said else ""
