"""Which tensors of a graph live at one time, and how much memory a runtime takes to hold them. Pure.

A tensor lives from the step that makes it to the last that reads it. onnxruntime plans them into one block, each at the
offset where it leaves the smallest gap (its ``MemPatternPlanner``), so that the block is larger than the peak by what lies
idle between them; ``packed`` does the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

# The runtime gives every tensor a place of a multiple of this.
ALIGNED_BYTES = 64


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a tensor: ``first`` for a call of one row, ``more`` for every further row; ``form`` is its shape for one row."""

    first: float = 0.0
    more: float = 0.0
    form: tuple[int, ...] = ()

    def at(self, rows: int) -> int:
        """Bytes for a call of so many rows."""
        return max(0, round(self.first + self.more * (rows - 1)))


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel as the runtime runs it: several nodes where those are fused.

    ``place`` is the node's name for messages; ``inner`` the graphs in its attributes (If, Loop, Scan), of which one runs at a
    time; ``work`` what the kernel allocates for itself meanwhile.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    place: str = ""
    inner: tuple[Graph, ...] = ()
    work: Size = field(default_factory=Size)


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps in their order. ``sizes`` has the tensors that are made here; constants and inputs are none of them.

    ``given`` are the outputs; ``views`` leads from a tensor to the one whose bytes it shows (Reshape, an operator in place).
    """

    steps: tuple[Step, ...]
    sizes: Mapping[str, Size]
    given: tuple[str, ...]
    views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A buffer that begins to live, or ends; what a kernel takes for itself (``work``) begins and ends with its step."""

    name: str
    size: int
    begins: bool
    kind: Literal["tensor", "output", "work"] = "tensor"


@dataclass(frozen=True, slots=True)
class Life:
    """A graph for a call of so many rows, in bytes.

    ``peak`` is the largest sum of what lives at one time, at the step ``at``, where the tensors ``alive`` live, the largest
    first; ``block`` holds all tensors but the outputs; ``events`` are what begins and ends, in order.
    """

    peak: int
    at: str
    alive: tuple[tuple[str, int], ...]
    block: int
    outputs: int
    events: tuple[Event, ...]


def life(graph: Graph, rows: int) -> Life:
    """Walk through the steps, and say what lives."""
    events = tuple(_events(graph, rows))
    living, alive = dict[str, int](), dict[str, int]()
    peak, at = 0, ""
    for event in events:
        if not event.begins:
            living.pop(event.name)
            continue
        living[event.name] = event.size
        if (now := sum(living.values())) > peak:
            peak, at, alive = now, event.name, dict(living)
    ordered = tuple(sorted(alive.items(), key=lambda one: -one[1]))
    outputs = sum(event.size for event in events if event.kind == "output" and event.begins)
    return Life(peak, at, ordered, packed([event for event in events if event.kind == "tensor"]), outputs, events)


def _events(graph: Graph, rows: int) -> Iterator[Event]:
    ends, given = _ends(graph), {_root(graph, name) for name in graph.given}
    living = dict[str, Event]()
    for number, step in enumerate(graph.steps):
        for name in dict.fromkeys(_root(graph, one) for one in step.outputs):
            if name in graph.sizes and name not in living:
                kind: Literal["tensor", "output"] = "output" if name in given else "tensor"
                living[name] = Event(name, graph.sizes[name].at(rows), begins=True, kind=kind)
                yield living[name]
        work = step.work.at(rows) + max((_frame(life(inner, rows)) for inner in step.inner), default=0)
        if work:
            yield Event(step.place, work, begins=True, kind="work")
            yield Event(step.place, work, begins=False, kind="work")
        for name in ends.get(number, ()):
            if name not in given and name in living:
                yield replace(living.pop(name), begins=False)
    for event in living.values():
        yield replace(event, begins=False)


def packed(events: Iterable[Event]) -> int:
    """Bytes of one block that holds the buffers, each at the offset with the least waste when it begins."""
    placed: list[tuple[int, int, str]] = []
    block = 0
    for event in events:
        if not event.begins:
            placed = [one for one in placed if one[2] != event.name]
            continue
        needed = -(-event.size // ALIGNED_BYTES) * ALIGNED_BYTES
        gaps = [(size, offset) for offset, size in _gaps(placed, block) if size >= needed]
        offset = min(gaps)[1] if gaps else max((end for _, end, _ in placed), default=0)
        insort(placed, (offset, offset + needed, event.name))
        block = max(block, offset + needed)
    return block


def _gaps(placed: list[tuple[int, int, str]], block: int) -> Iterator[tuple[int, int]]:
    """Offset and size of what is free between the buffers, and up to the end of the block."""
    end = 0
    for start, stop, _ in placed:
        if start > end:
            yield end, start - end
        end = max(end, stop)
    if block > end:
        yield end, block - end


def _frame(inner: Life) -> int:
    """A graph inside a node has its tensors beside those of the outer one, its outputs too."""
    return inner.block + inner.outputs + max((event.size for event in inner.events if event.kind == "work"), default=0)


def _ends(graph: Graph) -> dict[int, list[str]]:
    """By the number of a step, the buffers that nobody reads after it."""
    last: dict[str, int] = {}
    for number, step in enumerate(graph.steps):
        for name in (*step.inputs, *step.outputs):
            last[_root(graph, name)] = number
    ends: dict[int, list[str]] = {}
    for name, number in last.items():
        ends.setdefault(number, []).append(name)
    return ends


def _root(graph: Graph, name: str) -> str:
    while name in graph.views:
        name = graph.views[name]
    return name
