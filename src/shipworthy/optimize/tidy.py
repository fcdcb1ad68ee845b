"""What onnxruntime leaves in a graph: nodes and weights that nothing reads, and weights that stand in it twice."""

from __future__ import annotations

import hashlib

import onnx
from onnx import numpy_helper

from shipworthy.backends.onnx_graph import branches, keep, nodes, outputs, read_inside


def drop_dead(proto: onnx.ModelProto) -> int:
    """Take out the nodes of the outermost graph whose outputs nothing reads, and the weights that nothing reads then.

    Returns:
        How many nodes and weights went.
    """
    graph = proto.graph
    before = len(graph.node) + len(graph.initializer)
    read = outputs(graph) | {one.name for one in graph.input}

    def is_read(node: onnx.NodeProto) -> bool:
        needed = not read.isdisjoint(filter(None, node.output))
        if needed:
            read.update(node.input, read_inside(node))
        return needed

    keep(graph.node, is_read)  # from the last to the first: readers come after what they read
    keep(graph.initializer, lambda tensor: tensor.name in read)
    return before - len(graph.node) - len(graph.initializer)


def merge(proto: onnx.ModelProto) -> int:
    """Let every reader of a weight read the first one of the same type, shape and bytes; the others go.

    Weights that are outputs, or that a caller may give as inputs, stay.

    Returns:
        How many weights went.
    """
    graph = proto.graph
    inner = {name for node in nodes(graph) for branch in branches(node) for name in outputs(branch)}
    fixed = inner | outputs(graph) | {one.name for one in graph.input}
    firsts: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.STRING or tensor.name in fixed:
            continue
        values = numpy_helper.to_array(tensor)
        key = (tensor.data_type, tuple(tensor.dims), hashlib.sha256(values.tobytes()).digest())
        first = firsts.setdefault(key, tensor.name)
        if first != tensor.name:
            renamed[tensor.name] = first
    for node in nodes(graph):
        for place, name in enumerate(node.input):
            if name in renamed:
                node.input[place] = renamed[name]
    keep(graph.initializer, lambda tensor: tensor.name not in renamed)
    return len(renamed)
