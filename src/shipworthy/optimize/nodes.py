"""Every node of a graph, those of its branches and loops too."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of the graphs in their attributes (If, Loop, Scan), at every depth."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)
