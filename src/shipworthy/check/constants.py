"""The constants of a model, and what the runtime does with each; read from their headers, never from their numbers."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from shipworthy.check.footprint import Constant, Use
from shipworthy.check.shapes import HALVES, held_bytes

PACKING = frozenset({"Gemm", "MatMul", "LSTM", "GRU", "RNN"})
QUANTIZED = frozenset({"MatMulInteger", "QLinearMatMul", "QLinearConv", "ConvInteger", "DequantizeLinear"})
TREES = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"})
# A repeated text in protobuf: the pointer to it, and the object.
TEXT_BYTES = 56
FILTER_AXES = 4
LEAST_BYTES = 1024


def constants(graph: onnx.GraphProto) -> Iterator[Constant]:
    """Every initializer, constant node and long attribute, in the graphs inside of nodes too."""
    uses = _uses(graph)
    for tensor in graph.initializer:
        yield _constant(tensor, tensor.name, uses.get(tensor.name, "other"))
    for sparse in graph.sparse_initializer:
        yield _constant(sparse.values, sparse.values.name, "other")
    for node in graph.node:
        tree = node.op_type in TREES
        attributes = 0.0
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from constants(attribute.g)
            elif attribute.HasField("t"):
                use: Use = "tree" if tree else uses.get(node.output[0], "other")
                yield _constant(attribute.t, node.output[0] if node.op_type == "Constant" else attribute.name, use)
            else:
                attributes += 4 * len(attribute.floats) + 8 * len(attribute.ints) + TEXT_BYTES * len(attribute.strings)
        if attributes > LEAST_BYTES:
            place = f"{node.op_type} {node.name or ', '.join(node.output)}"
            yield Constant(place, attributes, attributes, "tree" if tree else "other")


def names(graph: onnx.GraphProto) -> set[str]:
    """What is known of a graph before any call."""
    nodes = (node.output[0] for node in graph.node if node.op_type == "Constant")
    return {tensor.name for tensor in graph.initializer} | set(nodes)


def _uses(graph: onnx.GraphProto) -> dict[str, Use]:
    uses: dict[str, Use] = {}
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.op_type == "Conv" and place == 1:
                uses[name] = "filter" if ranks.get(name) == FILTER_AXES else "other"
            elif node.op_type in PACKING | QUANTIZED and ranks.get(name, 0) > 1:
                uses[name] = "packed" if node.op_type in PACKING else "quantized"
    return uses


def _constant(tensor: onnx.TensorProto, place: str, use: Use) -> Constant:
    stored = held_bytes(tensor.data_type, tensor.dims)
    held = 2 * stored if tensor.data_type in HALVES else stored
    return Constant(place, stored, held, use if tensor.data_type != TensorProto.STRING else "other")
