"""The parts of an ONNX file at every depth, walked without recursion: a hostile one may be as deep as protobuf allows."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: of the graph, of the graphs in attributes (If, Loop, Scan), of functions."""
    yield from (part for part in _walk(proto) if isinstance(part, onnx.NodeProto))


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant tensor: initializers, sparse ones, and those in attributes."""
    for part in _walk(proto):
        if isinstance(part, onnx.GraphProto):
            yield from part.initializer
            for sparse in part.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        else:
            for attribute in part.attribute:
                yield from ((attribute.t,) if attribute.HasField("t") else ())
                yield from attribute.tensors


def _walk(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.NodeProto]:
    left: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while left:
        owner = left.pop()
        if isinstance(owner, onnx.GraphProto):
            yield owner
        for node in owner.node:
            yield node
            for attribute in node.attribute:
                left.extend((attribute.g,) if attribute.HasField("g") else ())
                left.extend(attribute.graphs)
