"""How large every tensor of a model is, by the rows of a call: ONNX's shape inference on the graph without its weights.

Sizes are inferred for one row and for two; what grows between them grows on. Tensors that inference does not reach are read
off one real run of each.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from shipworthy.backends.onnx_types import bytes_of
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check.liveness import Graph, Size, Step
from shipworthy.check.words import title
from shipworthy.data import Dataset, made_up
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array
from shipworthy.records import Signature, Target, TensorSpec

# What a free dimension is taken for where no rows say it.
ASSUMED = 128
# Constants of so many numbers are kept for the inference, which reads the shapes for Reshape and its like from them.
KEPT_NUMBERS = 1024
# std::string, of which short texts are a part.
TEXT_BYTES = 32
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Sizes = Mapping[str, Size]


@dataclass(frozen=True)
class Sized:
    """A model with the sizes of its tensors; ``assumed`` are words on what was taken for granted, ``unknown`` have no size."""

    graph: Graph
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]


def size_up(proto: onnx.ModelProto, signature: Signature, data: Dataset | None) -> Sized:
    """The graph of a model with sizes; other free dimensions than the batch are those of the data's rows, or ``ASSUMED``."""
    given, assumed = filled(signature, data)
    bones = skeleton(proto)
    one, two = (_inferred(bones, given, rows) for rows in (1, 2))
    graph, unknown, hidden = _graph(one.graph, two.graph, {})
    if unknown:
        seen = _run(proto, given, data, unknown)
        graph = replace(graph, sizes={**graph.sizes, **seen})
        unknown = [name for name in unknown if name not in seen]
    return Sized(graph, assumed, (*unknown, *hidden))


def filled(signature: Signature, data: Dataset | None) -> tuple[Signature, tuple[str, ...]]:
    """The inputs with no free dimension but the rows, and in words which ones had to be assumed."""
    specs, assumed = [], []
    for spec in signature.inputs:
        shape = list(spec.shape)
        for axis in (axis for axis, n in enumerate(spec.shape) if n is None and axis > 0):
            shape[axis] = data.inputs[spec.name].shape[axis] if data and spec.name in data.inputs else ASSUMED
            if data is None:
                assumed.append(f"dimension {axis} of input {spec.name} is free and taken as {ASSUMED}")
        specs.append(TensorSpec(name=spec.name, dtype=spec.dtype, shape=tuple(shape)))
    return Signature(inputs=tuple(specs), outputs=signature.outputs), tuple(assumed)


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large constants, whose types and shapes stand in ``value_info``; nothing of them is read."""
    bones = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    _strip(proto.graph, bones.graph)
    return bones


def held_bytes(kind: int, dims: Sequence[int]) -> float:
    """Bytes of a tensor in memory; halves count as they are stored."""
    return TEXT_BYTES * math.prod(dims) if kind == TensorProto.STRING else float(bytes_of(kind, dims) or 0)


def _strip(graph: onnx.GraphProto, bones: onnx.GraphProto) -> None:
    bones.name = graph.name
    bones.input.extend(graph.input)
    for value in graph.output:
        bones.output.append(value)
        _forget_shape(bones.output[-1])
    for tensor in graph.initializer:
        _strip_constant(tensor, tensor.name, bones)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            _strip_constant(node.attribute[0].t, node.output[0], bones)
            continue
        kept = bones.node.add(op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = kept.attribute.add(name=attribute.name, type=attribute.type)
                _strip(attribute.g, inner.g)
            elif max(len(attribute.ints), len(attribute.floats), len(attribute.strings)) <= KEPT_NUMBERS:
                kept.attribute.append(attribute)


def _strip_constant(tensor: onnx.TensorProto, name: str, bones: onnx.GraphProto) -> None:
    if tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= KEPT_NUMBERS:
        bones.initializer.append(tensor)
        bones.initializer[-1].name = name
    else:
        bones.value_info.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))


def _forget_shape(value: onnx.ValueInfoProto) -> None:
    """Exporters write fixed shapes for what follows the batch; inference says them again."""
    if value.type.HasField("tensor_type"):
        value.type.tensor_type.ClearField("shape")


def _inferred(bones: onnx.ModelProto, given: Signature, rows: int) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(bones)
    shapes = {spec.name: [rows if n is None else n for n in spec.shape] for spec in given.inputs}
    for value in fixed.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    try:
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return fixed


def _graph(one: onnx.GraphProto, two: onnx.GraphProto, outer: Sizes) -> tuple[Graph, list[str], list[str]]:
    """The steps and sizes of a graph that was inferred for one row and for two; what has no size here, and inside of nodes."""
    first, second = _known(one), _known(two)
    known = {name: Size(size, second.get(name, (size, form))[0] - size, form) for name, (size, form) in first.items()}
    made = [name for node in one.node for name in node.output if name]
    sizes = {name: known[name] for name in made if name in known}
    unknown = [name for name in made if name not in known and not _is_no_tensor(one, name)]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*one.value_info, *one.output)}
    steps, hidden = [], list[str]()
    for node, twin in zip(one.node, two.node, strict=True):
        inner = []
        reads = list(filter(None, node.input))
        for attribute, other in zip(node.attribute, twin.attribute, strict=True):
            if attribute.HasField("g"):
                branch, *lost = _graph(attribute.g, other.g, {**outer, **known})
                inner.append(branch)
                hidden += [name for part in lost for name in part]
                reads += [name for step in inner[-1].steps for name in step.inputs if name in known]
        work = _work(node, {**outer, **known})
        steps.append(Step(_kind(node, ranks), tuple(reads), tuple(filter(None, node.output)), title(node), tuple(inner), work))
    return Graph(tuple(steps), sizes, tuple(value.name for value in one.output)), unknown, hidden


def _known(graph: onnx.GraphProto) -> dict[str, tuple[float, tuple[int, ...]]]:
    """Bytes and shape of every tensor whose shape is known."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = [d.dim_value for d in kind.shape.dim if d.HasField("dim_value")]
        if kind.HasField("shape") and kind.elem_type and len(dims) == len(kind.shape.dim):
            found[value.name] = (_computed(kind.elem_type, dims), tuple(dims))
    return found


def _computed(kind: int, dims: Sequence[int]) -> float:
    """Bytes of an activation: CPUs have few kernels for halves, and onnxruntime computes in float32 between casts."""
    return 4.0 * math.prod(dims) if kind in HALVES else held_bytes(kind, dims)


def _kind(node: onnx.NodeProto, ranks: Mapping[str, int]) -> str:
    """The operator; a product of two matrices and its bias become a Gemm, products of more dimensions do not."""
    return "Gemm" if node.op_type == "MatMul" and ranks.get(node.output[0]) == 2 else node.op_type  # noqa: PLR2004


def _is_no_tensor(graph: onnx.GraphProto, name: str) -> bool:
    values = (value for value in (*graph.value_info, *graph.output) if value.name == name)
    return any(value.type.WhichOneof("value") not in {None, "tensor_type"} for value in values)


def _work(node: onnx.NodeProto, sizes: Sizes) -> Size:
    """What recurrent layers allocate for their gates: for every step and row as many numbers as their weights have rows."""
    result = sizes.get(node.output[0]) if node.op_type in GATES and node.output else None
    return Size(GATES[node.op_type] * result.first, GATES[node.op_type] * result.more) if result else Size()


def _run(proto: onnx.ModelProto, given: Signature, data: Dataset | None, wanted: Sequence[str]) -> dict[str, Size]:
    """Sizes that inference did not find, from a run with one row and one with two; none where the runtime refuses."""
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        return {}
    open_model = onnx.ModelProto()
    open_model.CopyFrom(proto)
    there = {value.name for value in proto.graph.output}
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    with tempfile.TemporaryDirectory(prefix="shipworthy-shapes-") as folder:
        path = Path(folder) / "open.onnx"
        path.write_bytes(open_model.SerializeToString())
        del open_model
        try:
            runner = OnnxRuntimeRunner(path, Target())
            one, two = (runner.run(_rows(given, data, rows)) for rows in (1, 2))
        except (Refused, Failed):
            return {}
    return {name: Size(first := _held(one[name]), _held(two[name]) - first, one[name].shape) for name in wanted if name in one}


def _rows(given: Signature, data: Dataset | None, rows: int) -> dict[str, Array]:
    if data is None:
        return made_up(given, rows).inputs
    return {name: array[[n % len(array) for n in range(rows)]] for name, array in data.inputs.items()}


def _held(array: Array) -> float:
    if array.dtype.kind == "O":
        return float(TEXT_BYTES * array.size)
    return float(array.size * (4 if array.dtype.itemsize == 2 and array.dtype.kind in "fV" else array.dtype.itemsize))  # noqa: PLR2004
