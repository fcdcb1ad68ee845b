"""A graph as the laws see it: who makes and who reads each tensor, of which type it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from shipworthy.backends.onnx_graph import nodes, read_inside
from shipworthy.backends.onnx_types import element_types
from shipworthy.protocols import Array

NAMED = 5


@dataclass(frozen=True)
class View:
    """One model: ``nodes`` and ``weights`` of the outermost graph, ``every`` node at every depth.

    ``makers`` and ``readers`` are by the name of a tensor; a node reads what its branches read, at place -1. ``types`` are
    the element types of ONNX, as far as they can be inferred.
    """

    graph: onnx.GraphProto
    nodes: tuple[onnx.NodeProto, ...]
    every: tuple[onnx.NodeProto, ...]
    weights: dict[str, onnx.TensorProto]
    makers: dict[str, onnx.NodeProto]
    readers: dict[str, list[tuple[onnx.NodeProto, int]]]
    types: dict[str, int]

    @property
    def inputs(self) -> list[str]:
        """The names of what callers give: inputs that are no weights."""
        return [one.name for one in self.graph.input if one.name not in self.weights]

    def constant(self, name: str) -> Array | None:
        """The values of a weight, or of a node ``Constant``; ``None`` where the tensor is made while the model runs."""
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        made = self.makers.get(name)
        if made is not None and made.op_type == "Constant":
            for attribute in made.attribute:
                if attribute.name == "value":
                    return numpy_helper.to_array(attribute.t)
        return None


def view(proto: onnx.ModelProto) -> View:
    """The model, looked through once."""
    graph = proto.graph
    makers: dict[str, onnx.NodeProto] = {}
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        makers.update((name, node) for name in node.output if name)
        for place, name in read_by(node):
            readers.setdefault(name, []).append((node, place))
    return View(
        graph=graph,
        nodes=tuple(graph.node),
        every=tuple(nodes(graph)),
        weights={tensor.name: tensor for tensor in graph.initializer},
        makers=makers,
        readers=readers,
        types=element_types(proto),
    )


def needed(seen: View) -> tuple[set[int], set[str]]:
    """What leads to an output: the ids of nodes, and the names of tensors; whatever the order of the nodes is."""
    names = {one.name for one in seen.graph.output}
    found, waiting = set[int](), list(names)
    while waiting:
        maker = seen.makers.get(waiting.pop())
        if maker is not None and id(maker) not in found:
            found.add(id(maker))
            new = {name for _, name in read_by(maker)} - names
            names |= new
            waiting += new
    return found, names


def read_by(node: onnx.NodeProto) -> Iterator[tuple[int, str]]:
    """The place and the name of all that a node reads; place -1: in a branch of it."""
    for place, name in enumerate(node.input):
        if name:
            yield place, name
    yield from ((-1, name) for name in sorted(read_inside(node)))


def called(node: onnx.NodeProto) -> str:
    """A node as messages name it: by its name, or by what it gives."""
    return f"{node.op_type} '{node.name}'" if node.name else f"{node.op_type} that gives '{next(iter(node.output), '')}'"


def listed(found: Sequence[onnx.NodeProto]) -> str:
    """The first of these nodes, and how many more there are."""
    more = len(found) - NAMED
    return ", ".join(called(node) for node in found[:NAMED]) + (f" and {more} more" if more > 0 else "")


def attribute(node: onnx.NodeProto, name: str, otherwise: int = 0) -> int:
    """A whole number that a node has as attribute."""
    return next((one.i for one in node.attribute if one.name == name), otherwise)
