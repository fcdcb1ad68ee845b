"""Float32 to float16 or bfloat16 in the graph itself: which nodes can be lowered, and the graph that lowers them.

Pure: models in, models changed. The name of a tensor always means its float32 form; the lowered form has a name of its
own, and Cast nodes stand where one becomes the other. So inputs, outputs, branches and what they read stay as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from shipworthy.backends.onnx_graph import branches, keep, outputs, read_inside
from shipworthy.backends.onnx_types import element_types
from shipworthy.optimize.nodes import opset

Low = Literal["float16", "bfloat16"]
TYPES: dict[Low, int] = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
# The largest finite value, and the smallest that has all its digits.
LIMITS: dict[Low, tuple[float, float]] = {"float16": (6.1e-5, 65504.0), "bfloat16": (1.2e-38, 3.38e38)}

# They sum or multiply many values, or values beyond the range on the way to an answer within it; or runtimes have no
# kernel for them. Whatever takes no floats of this kind by its definition need not be named here.
BLOCKED = {
    *("CumSum", "Exp", "Log", "LogSoftmax", "Max", "Min", "Pow", "Range", "Reciprocal", "RoiAlign", "TopK", "Upsample"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
}
# They look at the shape only, so they take a tensor as it comes.
SHAPES = {"Shape", "Size"}
# The first operator set whose DequantizeLinear gives 16 bits.
DEQUANTIZED = 19


@dataclass(frozen=True)
class Plan:
    """What can be lowered: ``nodes`` has, by name, the inputs and outputs of a node that change type."""

    low: Low
    nodes: dict[str, tuple[list[str], list[str]]]
    weights_by_name: Mapping[str, TensorProto]
    dequantized: Mapping[str, str]
    """The node of each tensor that comes from INT8."""

    @property
    def activations(self) -> list[str]:
        """The activations that would be lowered, in the order of their names."""
        return sorted({name for sides in self.nodes.values() for side in sides for name in side} - set(self.weights_by_name))

    @property
    def weights(self) -> int:
        """How many weights would be lowered."""
        return len({name for taken, _ in self.nodes.values() for name in taken} & set(self.weights_by_name))

    def drop(self, ranges: Mapping[str, tuple[float, float]], headroom: float) -> dict[str, str]:
        """Take out the nodes that would leave the range of the type.

        Args:
            ranges: lowest and highest value of activations.
            headroom: how many times larger than seen an activation may become.

        Returns:
            The nodes taken out, each with its reason.
        """
        smallest, largest = LIMITS[self.low]
        beyond = {
            name: f"'{name}' goes from {least:.3g} to {most:.3g}"
            for name, (least, most) in ranges.items()
            if max(-least, most) * headroom > largest
        }
        for name, tensor in self.weights_by_name.items():
            if tensor.data_type != TensorProto.FLOAT:
                continue
            most = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
            if most > largest or 0 < most < smallest or not np.isfinite(most):
                beyond[name] = f"the largest value of '{name}' is {most:.3g}"
        dropped = {}
        for node, (taken, given) in list(self.nodes.items()):
            bad = next((beyond[name] for name in [*taken, *given] if name in beyond), "")
            if bad:
                dropped[node] = bad
                del self.nodes[node]
        # A Cast between them would part an operator from its INT8 inputs.
        wide = {name for name, node in self.dequantized.items() if node not in self.nodes}
        for node, (taken, _) in list(self.nodes.items()):
            if not wide.isdisjoint(taken):
                dropped[node] = f"its INT8 input is float32 before operator set {DEQUANTIZED}, or by its range"
                del self.nodes[node]
        return dropped


def lowerable(proto: onnx.ModelProto, low: Low) -> Plan:
    """Every node of the outermost graph that can be lowered; all must have names of their own."""
    types = element_types(proto)
    changes = {node.name: _changed(node, opset(proto, node.domain), types, low) for node in proto.graph.node}
    return Plan(
        low,
        {name: change for name, change in changes.items() if change is not None},
        {tensor.name: tensor for tensor in proto.graph.initializer},
        {node.output[0]: node.name for node in proto.graph.node if node.op_type == "DequantizeLinear"},
    )


def lower(proto: onnx.ModelProto, plan: Plan) -> None:
    """Rewrite the graph by the plan: lowered nodes, weights in half the size, a Cast at each border."""
    graph = proto.graph
    suffix, kind = f"_{plan.low}", TYPES[plan.low]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for _, given in plan.nodes.values() for name in given}
    wide = _read_as_float32(graph, plan) | outputs(graph)
    has: set[str] = set()
    rewritten: list[onnx.NodeProto] = []
    for node in graph.node:
        taken, given = plan.nodes.get(node.name, ([], []))
        if node.op_type in SHAPES and node.input[0] in made:
            taken = [node.input[0]]
        for name in taken:
            if name in weights and name not in has:
                graph.initializer.append(_lowered(weights[name], name + suffix, plan.low))
            elif name not in made and name not in has:
                rewritten.append(helper.make_node("Cast", [name], [name + suffix], name=f"Cast:{name}{suffix}", to=kind))
            has.add(name)
        for side, changed in ((node.input, taken), (node.output, given)):
            for place, name in enumerate(side):
                if name in changed:
                    side[place] = name + suffix
        rewritten.append(node)
        rewritten += [
            helper.make_node("Cast", [name + suffix], [name], name=f"Cast:{name}", to=TensorProto.FLOAT)
            for name in given
            if name in wide
        ]
    # Copies: a message of the graph lives only as long as it is in it.
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rewritten]
    del graph.node[:]
    graph.node.extend(copies)
    keep(graph.initializer, lambda tensor: tensor.name not in has or tensor.name in wide)


def constants_to_weights(proto: onnx.ModelProto) -> None:
    """Make weights of the Constant nodes of the outermost graph that hold a tensor, so that they can be lowered."""
    held = set()
    for node in proto.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            held.add(node.output[0])
            tensor = proto.graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
    keep(proto.graph.node, lambda node: node.op_type != "Constant" or node.output[0] not in held)


def _changed(node: onnx.NodeProto, version: int, types: Mapping[str, int], low: Low) -> tuple[list[str], list[str]] | None:
    """The float32 inputs and outputs that the operator would also take and give in the low type; ``None``: it would not.

    It would when its definition binds each float32 output to inputs that may be lowered. That leaves out what has its
    type in an attribute (Cast, RandomNormal), and what gives no floats at all (ArgMax, Equal); but not QuantizeLinear,
    which belongs to the operator before it.
    """
    if node.op_type in BLOCKED or any(True for _ in branches(node)):
        return None
    if any(types.get(name) is None for name in [*node.input, *node.output] if name):
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None
    taken, bound = [], set()
    for place, name in enumerate(node.input):
        formal = schema.inputs[min(place, len(schema.inputs) - 1)]
        if name and types[name] == TensorProto.FLOAT and f"tensor({low})" in formal.types:
            taken.append(name)
            bound.add(formal.type_str)
    given = [name for name in node.output if name and types[name] == TensorProto.FLOAT]
    places = [min(place, len(schema.outputs) - 1) for place, name in enumerate(node.output) if name in given]
    formals = {schema.outputs[place].type_str for place in places}
    gives = bool(given) or node.op_type == "QuantizeLinear"
    return (taken, given) if gives and bound.issuperset(formals) else None


def _read_as_float32(graph: onnx.GraphProto, plan: Plan) -> set[str]:
    """The tensors that something reads as float32: nodes that stay, inputs that stay, branches."""
    found: set[str] = set()
    for node in graph.node:
        taken, _ = plan.nodes.get(node.name, ([], []))
        if node.op_type not in SHAPES:
            found |= set(node.input) - set(taken)
        found |= read_inside(node)
    return found


def _lowered(tensor: TensorProto, name: str, low: Low) -> TensorProto:
    values: npt.NDArray[np.float32] = numpy_helper.to_array(tensor)
    if low == "float16":
        data = values.astype(np.float16).tobytes()
    else:  # rounded to the nearest, ties to even: numpy has no bfloat16
        bits = np.ascontiguousarray(values).view(np.uint32)
        data = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return TensorProto(name=name, data_type=TYPES[low], dims=tensor.dims, raw_data=data)
