"""From the constants and the tensors of a model to the resident memory of a process that runs it on onnxruntime. Pure.

The constants here were measured with ``benchmarks/memory.py``; docs/memory.md says when, where, and what each stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shipworthy.check.arena import Arena, Chunk
from shipworthy.check.liveness import Graph, life
from shipworthy.records import MemoryPoint

# A session with next to nothing in it: pages of the library that it reads, and its own structures.
SESSION_MB = 10.6
# What a session keeps of each node: the node, its kernel, its place in the plan.
NODE_MB = 0.0033
# The C library maps blocks from this size on, and gives them back; each that is given back raises the limit to its own size,
# up to the second (M_MMAP_THRESHOLD in mallopt(3)). What is smaller stays with the process.
MAPPED_BYTES, MAPPED_ALWAYS_BYTES = 128 * 2**10, 32 * 2**20
# How much of that is left when all is packed: from a tenth to all of it, as it happens to lie in the heap, which differs from
# process to process; this is the middle.
PACKED_KEPT = 0.5
# Filters are copied to be reordered (NCHWc), and the copies to be tensors again: so many times stays with the process.
FILTERS_KEPT = 1.7
# Attributes of trees are turned into nodes: what these take, and what else stays with the process, by bytes of attribute.
TREES_KEPT = 2.75
MB = 1e6

Use = Literal["filter", "packed", "quantized", "tree", "other"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant: its bytes in the file, in memory (halves are widened), and what the runtime does with it.

    A ``filter`` of a convolution is reordered, an operand of a matrix product or of a recurrent layer ``packed``,
    ``quantized`` weights are turned around and packed, the attributes of a ``tree`` turned into nodes; ``place`` is its name.
    """

    place: str
    stored: float
    held: float
    use: Use


def predict(constants: Sequence[Constant], graph: Graph, nodes: int, rows: Sequence[int]) -> tuple[MemoryPoint, ...]:
    """A point for each number of rows.

    Args:
        constants: of the model, those in graphs inside of nodes too.
        graph: as it is run.
        nodes: how many there are in the file, inside too.
        rows: of a call.
    """
    weights = sum(one.held for one in constants)
    loaded = SESSION_MB * MB + NODE_MB * MB * nodes + weights
    # For a moment the largest constant is there twice: as a part of the file, and as a tensor.
    loading, kept = max((one.held for one in constants), default=0.0), left_over(constants)
    return tuple(
        MemoryPoint(
            rows=count,
            weights_mb=weights / MB,
            activations_mb=life(graph, count).peak / MB,
            total_mb=(loaded + max(loading, kept + running(graph, count))) / MB,
        )
        for count in rows
    )


def left_over(constants: Iterable[Constant]) -> float:
    """Bytes that loading used and that the C library keeps: copies that were packed, reordered or turned into nodes."""
    kept, mapped = 0.0, float(MAPPED_BYTES)
    for one in constants:
        if one.use == "filter":
            kept += FILTERS_KEPT * one.held
        elif one.use == "quantized":
            kept += one.held
        elif one.use == "tree":
            kept += TREES_KEPT * one.held
        elif one.use == "packed" and one.held > mapped:
            mapped = min(one.held, MAPPED_ALWAYS_BYTES)
        elif one.use == "packed":
            kept += PACKED_KEPT * one.held
    return kept


def running(graph: Graph, rows: int) -> int:
    """Bytes that become resident by calls of one row, and then of ``rows``, beside what loading took.

    The first call of a shape takes tensor after tensor from the arena; every later one takes one block for all of them but
    the outputs. Outputs are copied to the caller. Constants are not in the arena's regions (``Reserve``).
    """
    arena = Arena()
    for count in dict.fromkeys((1, rows)):
        alive = life(graph, count)
        held: dict[str, Chunk | None] = {}
        for event in alive.events:
            if event.begins:
                held[event.name] = arena.take(event.size)
            else:
                arena.give_back(held.pop(event.name))
        block = arena.take(alive.block)
        for event in (one for one in alive.events if one.kind != "tensor"):
            if event.begins:
                held[event.name] = arena.take(event.size)
            else:
                arena.give_back(held.pop(event.name))
        arena.give_back(block)
    return arena.resident + alive.outputs
