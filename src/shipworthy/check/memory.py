"""Area ``memory``: what a process with the model will need, by the rows of a call, and whether that fits where it is to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shipworthy import machine
from shipworthy.backends.onnx_graph import nodes
from shipworthy.check import constants, footprint, fusion, shapes
from shipworthy.check.footprint import Constant
from shipworthy.check.law import Law
from shipworthy.check.liveness import Graph, Life, life
from shipworthy.check.subject import Subject
from shipworthy.records import Finding, MemoryPoint
from shipworthy.targets import whole_mb

# The rows of a call that measure and serve take unless they are told others.
USUAL_ROWS = 32
MOST_ROWS = {True: 1024, False: 64}
LARGEST_SHOWN = 3
# One tensor makes the peak: this share of it, and so many MB for a single row.
ABSURD_SHARE, ABSURD_MB = 0.5, 100.0

BUDGET = Law(
    name="memory.budget",
    severity="error",
    holds="the model fits the memory of its target: one row, and the batches of measure and serve",
    breaks="the process is killed when it loads the model, or under load when the batches grow",
    mend="raise memory_mb of the target, or optimize the model: int8_static holds a quarter of the weights",
)
WEIGHTS = Law(
    name="memory.weights",
    severity="note",
    holds="it is known which constants make the weights, and what share of the memory they are",
    breaks="an optimization aims at what is not the cost",
    mend="",
)
PEAK = Law(
    name="memory.peak",
    severity="note",
    holds="it is known which tensors live at the peak, and none of them dwarfs the others",
    breaks="memory grows with every row by what one node makes",
    mend="make the tensor smaller: compute it in parts, reduce it earlier, or do not give it out",
)
LAWS = (BUDGET, WEIGHTS, PEAK)


@dataclass(frozen=True)
class Foreseen:
    """A model as the laws of memory look at it: its constants, the graph as it is run, and by rows what that needs."""

    constants: tuple[Constant, ...]
    graph: Graph
    nodes: int

    def point(self, rows: int) -> MemoryPoint:
        """The prediction for calls of so many rows."""
        return footprint.predict(self.constants, self.graph, self.nodes, [rows])[0]


def look(subject: Subject) -> Iterator[Finding | MemoryPoint]:
    """Weights, peak and total by rows; against the target's budget, or this machine's memory where there is none."""
    sized = shapes.size_up(subject.proto, subject.model.signature, subject.data)
    model = foresee(subject, sized)
    free = subject.model.signature.is_batched
    budget = subject.target.memory_mb
    points = tuple(_points(model, budget, free=free))
    yield from points
    yield from _fits(model, points, budget, free=free)
    yield _weights(model.constants, points[0])
    yield from _peak(model.graph, sized, free=free)


def foresee(subject: Subject, sized: shapes.Sized) -> Foreseen:
    """The model with sizes as the runtime will run it."""
    graph = subject.proto.graph
    named = any(value.type.tensor_type.shape.dim[:1] and value.type.tensor_type.shape.dim[0].dim_param for value in graph.input)
    run = fusion.fused(sized.graph, constants.names(graph), named=named)
    return Foreseen(tuple(constants.constants(graph)), run, sum(1 for _ in nodes(graph)))


def _points(model: Foreseen, budget: float | None, *, free: bool) -> Iterator[MemoryPoint]:
    """One row, and each power of two up to the largest that fits."""
    rows = 1
    while rows <= MOST_ROWS[budget is not None]:
        point = model.point(rows)
        if rows > 1 and budget is not None and whole_mb(point) > budget:
            return
        yield point
        if not free:
            return
        rows *= 2


def _fits(model: Foreseen, points: Sequence[MemoryPoint], budget: float | None, *, free: bool) -> Iterator[Finding]:
    """The law of the budget; ``points`` are those that fit, and the one of a single row."""
    first, last = points[0], points[-1]
    limit, whose = (
        (budget, "the target's budget") if budget is not None else (machine.describe().memory_mb, "this machine's memory")
    )
    needs = f"a process with the model needs {whole_mb(first):,.0f} MB for calls of one row"
    if whole_mb(first) > limit:
        parts = f"{first.weights_mb:,.0f} MB are weights, {first.activations_mb:,.0f} MB activations"
        yield BUDGET.found("model", f"{needs}, {whose} is {limit:,.0f} MB; {parts}")
        return
    if budget is None:
        at = f", {whole_mb(last):,.0f} MB for {last.rows}" if last.rows > 1 else ""
        yield BUDGET.note("model", f"{needs}{at}; the target has no budget (memory_mb)")
        return
    usual = model.point(USUAL_ROWS)
    if free and whole_mb(usual) > budget:
        largest = _largest(model, last.rows, USUAL_ROWS, budget)
        yield BUDGET.found(
            "model",
            f"calls of {USUAL_ROWS} rows need {whole_mb(usual):,.0f} MB, {whose} is {budget:,.0f} MB; {largest} rows fit",
            f"batch_rows = {largest} under [measure], and send and serve no larger batches; or raise memory_mb of the target",
            severity="warning",
        )
        return
    more = " or more" if last.rows == MOST_ROWS[True] else ""
    yield BUDGET.note("model", f"{needs}; {last.rows} rows{more} fit {whose} of {budget:,.0f} MB")


def _largest(model: Foreseen, fits: int, not_any_more: int, budget: float) -> int:
    """The most rows that fit, between those that do and those that do not."""
    while not_any_more - fits > 1:
        middle = (fits + not_any_more) // 2
        if whole_mb(model.point(middle)) <= budget:
            fits = middle
        else:
            not_any_more = middle
    return fits


def _weights(every: Sequence[Constant], point: MemoryPoint) -> Finding:
    largest = sorted(every, key=lambda one: -one.held)[:LARGEST_SHOWN]
    listed = ", ".join(f"{one.place} {one.held / footprint.MB:,.1f} MB" for one in largest)
    share = 100 * point.weights_mb / whole_mb(point)
    kept = footprint.left_over(every) / footprint.MB
    text = f"{point.weights_mb:,.1f} MB, {share:.0f} % of the process at one row"
    text += f"; loading leaves {kept:,.1f} MB more of them behind" if kept > 1 else ""
    return WEIGHTS.note("model", text + (f"; the largest: {listed}" if listed else ""))


def _peak(graph: Graph, sized: shapes.Sized, *, free: bool) -> Iterator[Finding]:
    one = life(graph, 1)
    absurd = _is_absurd(one)
    blamed = one.alive[0][0] if absurd else one.at
    made = next((step.place for step in graph.steps if blamed in step.outputs or blamed == step.place), "model")
    listed = ", ".join(f"{name} {_mb(size)} MB" for name, size in one.alive[:LARGEST_SHOWN])
    more = f", {_mb(life(graph, USUAL_ROWS).peak)} MB for {USUAL_ROWS}" if free else ""
    text = f"{_mb(one.peak)} MB live at one time for one row{more}: {listed or 'nothing'}"
    taken = "; ".join(sized.assumed)
    if sized.unknown:
        taken = "; ".join(filter(None, [taken, f"{len(sized.unknown)} tensors have no size and count as nothing"]))
    text += f" ({taken})" if taken else ""
    if absurd:
        yield PEAK.found(made, f"{one.alive[0][0]} is {_mb(one.alive[0][1])} MB for one row; {text}", severity="warning")
    else:
        yield PEAK.note(made, text)


def _is_absurd(one: Life) -> bool:
    return bool(one.alive) and one.alive[0][1] > max(ABSURD_SHARE * one.peak, ABSURD_MB * footprint.MB)


def _mb(size: float) -> str:
    return f"{size / footprint.MB:,.1f}" if size >= footprint.MB / 10 else f"{size / footprint.MB:.2g}"
