"""A walk over ONNX graphs, at every depth: what ``check`` and ``optimize`` share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of the graphs in their attributes (If, Loop, Scan), at every depth."""
    for node in graph.node:
        yield node
        for inner in branches(node):
            yield from nodes(inner)


def branches(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def outputs(graph: onnx.GraphProto) -> set[str]:
    """The names of what the graph gives."""
    return {one.name for one in graph.output}


def read_inside(node: onnx.NodeProto) -> set[str]:
    """Every name that the branches of a node read, their own among them."""
    found: set[str] = set()
    for branch in branches(node):
        found |= outputs(branch)
        for inner in branch.node:
            found |= {*inner.input} | read_inside(inner)
    return found


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Take out of a repeated field the messages that are not wanted, asking from the last to the first."""
    for place in reversed(range(len(field))):
        if not wanted(field[place]):
            del field[place]
