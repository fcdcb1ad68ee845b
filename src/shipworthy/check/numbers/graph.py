"""The graph as the laws of numbers walk it: its nodes in order, their tensors and how large they are. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx
from onnx import helper, shape_inference

from shipworthy.backends.onnx_graph import read_inside
from shipworthy.backends.onnx_types import bytes_of, light
from shipworthy.protocols import Arrays

# Tensors of one call that are looked at together: a large model stays far below a gigabyte.
GROUP_BYTES = 128_000_000
# What a tensor is taken for whose shape nobody can infer.
UNKNOWN_BYTES = 1_000_000
# Numbers of these are not what a node answers for.
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
# Words in the names of operators that round to levels, onnxruntime's own among them.
QUANTIZES = ("Quantize", "QLinear", "QGemm", "Integer", "NBits")


def reads(node: onnx.NodeProto) -> set[str]:
    """All names that a node reads, those that its branches (If, Loop, Scan) read from outside among them."""
    return set(filter(None, node.input)) | read_inside(node)


def upstream(graph: onnx.GraphProto, goals: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that the goals depend on, in the order of the file, in which each comes after those that it reads."""
    wanted, found = set(goals), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= reads(node)
            found.append(node)
    return found[::-1]


def cut(nodes: Sequence[onnx.NodeProto], place: int, goals: Collection[str]) -> list[str]:
    """What the nodes up to ``place`` hand on to the later ones, or as goals: all that those know of the inputs."""
    later = set(goals).union(*(reads(node) for node in nodes[place + 1 :]))
    return [name for node in nodes[: place + 1] for name in node.output if name in later]


def tensors(nodes: Sequence[onnx.NodeProto], types: Mapping[str, tuple[int, int]]) -> list[str]:
    """What the nodes give that can be looked at, in order: tensors, not sequences."""
    return [name for node in nodes for name in node.output if name and types.get(name, (1, 0))[0]]


def inferred(proto: onnx.ModelProto, inputs: Arrays) -> dict[str, tuple[int, int]]:
    """Element type and bytes of each tensor for a call with these inputs; of a sequence the type is 0.

    The weights are left at home: only their shapes and the small ones, which can decide a shape, are inferred with.
    """
    bare = light(proto)
    for value in bare.graph.input:
        if value.name in inputs:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, inputs[value.name].shape))
    try:
        seen = shape_inference.infer_shapes(bare).graph
    except (shape_inference.InferenceError, RuntimeError):  # the law format.valid speaks of it
        return {}
    return {one.name: _size(one.type) for one in [*seen.value_info, *seen.output, *seen.input]}


def _size(kind: onnx.TypeProto) -> tuple[int, int]:
    if not kind.HasField("tensor_type"):
        return 0, 0
    tensor = kind.tensor_type
    dims = tensor.shape.dim
    if not tensor.HasField("shape") or not all(one.HasField("dim_value") for one in dims):
        return tensor.elem_type, UNKNOWN_BYTES
    size = bytes_of(tensor.elem_type, [one.dim_value for one in dims])
    return tensor.elem_type, UNKNOWN_BYTES if size is None else size


def groups(names: Sequence[str], types: Mapping[str, tuple[int, int]], limit: int = GROUP_BYTES) -> Iterator[list[str]]:
    """The names in their order, so many at a time as stay below the limit together, one at least."""
    group: list[str] = []
    held = 0
    for name in names:
        size = types.get(name, (1, UNKNOWN_BYTES))[1]
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group
