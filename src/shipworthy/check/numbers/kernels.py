"""Each node beside ONNX's own reference evaluator: given what the runtime gave it, does it answer what the standard says?

Node by node, so that nothing adds up on the way and the node that is wrong is named at once. In float64, where the
reference takes it: what it says is then right to far more digits than the runtime's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shipworthy.backends.onnx_graph import branches
from shipworthy.backends.onnxruntime_inside import Inside
from shipworthy.check.numbers import graph
from shipworthy.check.numbers.closeness import RELATIVE, Closeness, difference
from shipworthy.protocols import Array, Arrays

# The reference is written to be read: loops over numbers in Python. What one takes until an operator has been timed.
SECONDS_A_NUMBER = 12e-6
# Two answers of 8 bits may be one level apart: a tie rounds to either.
LEVELS = {np.dtype(np.int8), np.dtype(np.uint8)}


@dataclass(frozen=True)
class Departure:
    """A node that answers otherwise than the reference, and how far."""

    node: onnx.NodeProto
    evidence: str


@dataclass(frozen=True)
class Kernels:
    """What came of it: ``departures`` in the order of the graph, ``compared`` nodes ``of`` all."""

    departures: tuple[Departure, ...]
    compared: int
    of: int


def compare(proto: onnx.ModelProto, inside: Inside, inputs: Arrays, closeness: Closeness, seconds: float) -> Kernels:
    """Every node that there is time for, those with the smallest answers first.

    Raises:
        Refused, Failed: onnxruntime does not let its tensors be looked at.
    """
    nodes = list(proto.graph.node)
    types = graph.inferred(proto, inputs)
    chosen = _chosen(proto, types)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    names = {name for node in chosen for name in (*node.input, *node.output) if name}
    names &= {name for node in nodes for name in node.output}
    seen = inside.look(sorted(names), inputs) if names else {}
    ends = perf_counter() + seconds
    rates: dict[str, float] = {}
    departures, compared = [], 0
    for node in chosen:
        size = sum(np.size(seen[name]) for name in node.output if name)
        began = perf_counter()
        if began + size * rates.get(node.op_type, SECONDS_A_NUMBER) > ends:
            continue
        given = {name: _value(name, seen, weights, inputs) for name in node.input if name}
        evidence = _departs(proto, node, given, seen, closeness)
        rates[node.op_type] = (perf_counter() - began) / max(size, 1)
        compared += evidence is not None
        if evidence:
            departures.append(Departure(node, evidence))
    places = {id(node): place for place, node in enumerate(nodes)}
    departures.sort(key=lambda one: places[id(one.node)])
    return Kernels(tuple(departures), compared, len(nodes))


def _chosen(proto: onnx.ModelProto, types: Mapping[str, tuple[int, int]]) -> list[onnx.NodeProto]:
    """Nodes that the reference could run alone, smallest answers first, as many as can be looked at in one call."""
    can = [
        node
        for node in proto.graph.node
        if node.op_type not in graph.RANDOM
        and not list(branches(node))
        and all(types.get(name, (1, 0))[0] for name in node.output)
    ]

    def size(names: list[str]) -> int:
        return sum(types.get(name, (1, graph.UNKNOWN_BYTES))[1] for name in names if name)

    can.sort(key=lambda node: size(list(node.output)))
    made = {name for node in proto.graph.node for name in node.output}
    held: set[str] = set()
    total, chosen = 0, []
    for node in can:
        new = [name for name in {*node.input, *node.output} & made if name not in held]
        total += size(new)
        if total > graph.GROUP_BYTES:
            break
        held.update(new)
        chosen.append(node)
    return chosen


def _value(name: str, seen: Mapping[str, Array], weights: Mapping[str, onnx.TensorProto], inputs: Arrays) -> Array:
    if name in seen:
        return seen[name]
    return numpy_helper.to_array(weights[name]) if name in weights else inputs[name]


def _departs(
    proto: onnx.ModelProto, node: onnx.NodeProto, given: Arrays, seen: Mapping[str, Array], closeness: Closeness
) -> str | None:
    """How far the node is off; empty where it is right, ``None`` where the reference cannot run it."""
    said = None
    for widened in (True, False):
        try:
            answers = _reference(proto, node, given, widened=widened)
        except Exception:  # noqa: BLE001, S112  the reference raises what numpy does, and lacks operators: nothing is compared
            continue
        said = "; ".join(
            difference(seen[name], expected)
            for name, expected in answers.items()
            if isinstance(expected, np.ndarray) and not _same(seen[name], expected, closeness)
        )
        if not said:
            return said
    return said


def _reference(proto: onnx.ModelProto, node: onnx.NodeProto, given: Arrays, *, widened: bool) -> dict[str, Array]:
    values = {
        name: np.asarray(value).astype(np.float64) if widened and value.dtype == np.float32 else value
        for name, value in given.items()
    }
    ends = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(one).dtype), None)
        for name, one in values.items()
    ]
    outputs = [name for name in node.output if name]
    inner = helper.make_graph([node], "one", ends, [onnx.ValueInfoProto(name=name) for name in outputs])
    model = helper.make_model(inner, opset_imports=proto.opset_import, functions=proto.functions)
    with np.errstate(all="ignore"):
        return dict(zip(outputs, ReferenceEvaluator(model).run(None, values), strict=True))


def _same(answer: Array, expected: Array, closeness: Closeness) -> bool:
    if answer.dtype in LEVELS and answer.shape == expected.shape:
        return bool((np.abs(answer.astype(np.int64) - expected.astype(np.int64)) <= 1).all())
    if answer.dtype.kind in "iub" and answer.shape == expected.shape and answer.size > 1 / RELATIVE:
        return bool((answer != expected).mean() <= RELATIVE)  # ties
    return closeness.excess(answer, expected) <= 1


__all__ = ["Departure", "Kernels", "compare"]
