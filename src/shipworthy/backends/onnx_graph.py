"""A walk over ONNX graphs, at every depth: what ``check`` and ``optimize`` share. Pure.

It may call itself: protobuf reads no message that is nested deeper than 100, of which a graph in a graph takes three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx


def every_node(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a model at every depth: of its graph, of its functions, and of the graphs that it would train with."""
    for graph in _graphs(proto):
        yield from nodes(graph)
    for function in proto.functions:
        yield from _of(function.node)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a model at every depth: initializers, and those in attributes; of sparse ones, their two parts."""
    for graph in _graphs(proto):
        yield from _initializers(graph)
    for node in every_node(proto):
        for branch in branches(node):
            yield from _initializers(branch)
        for attribute in node.attribute:
            yield from ((attribute.t,) if attribute.HasField("t") else ())
            yield from attribute.tensors
            yield from _parts((attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ())
            yield from _parts(attribute.sparse_tensors)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of the graphs in their attributes (If, Loop, Scan), at every depth."""
    yield from _of(graph.node)


def _of(some: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in some:
        yield node
        for inner in branches(node):
            yield from _of(inner.node)


def _graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [proto.graph, *(graph for one in proto.training_info for graph in (one.initialization, one.algorithm))]


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for one in sparse:
        yield from (one.values, one.indices)


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
            found |= {*filter(None, inner.input)} | read_inside(inner)
    return found


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Take out of a repeated field the messages that are not wanted, asking from the last to the first."""
    for place in reversed(range(len(field))):
        if not wanted(field[place]):
            del field[place]
