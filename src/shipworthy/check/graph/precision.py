"""Area ``graph``: no arithmetic in 64 bits on the way of the data."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from shipworthy.check.graph.view import View, listed
from shipworthy.check.law import Law
from shipworthy.check.words import title
from shipworthy.records import Finding

DOUBLE, WHOLE = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64

# These only move values, or make them from nothing: their width costs memory, not arithmetic.
MOVES = {
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Expand", "Tile"),
    *("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Pad", "Where", "DepthToSpace", "SpaceToDepth"),
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "Compress", "ReverseSequence", "Dropout", "If", "Loop", "Scan"),
}
# What computes whole numbers as it would floats: a position, a count and an index are not made by these.
COUNTS = {
    *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Neg", "Abs", "Sum", "Mean", "Min", "Max", "Clip", "Sign"),
    *("MatMul", "Gemm", "CumSum", "Einsum", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"),
    *("ReduceL1", "ReduceL2", "ReduceSumSquare"),
}
# Where whole numbers are indices, shapes, axes or counts: the places of these inputs.
INDICES = {
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK"), frozenset({1})),
    **dict.fromkeys(
        ("Reshape", "Expand", "Tile", "Unsqueeze", "Squeeze", "Split", "CumSum", "ReverseSequence"), frozenset({1})
    ),
    **dict.fromkeys(("Slice", "Pad", "Resize", "Trilu", "GroupNormalization"), frozenset({1, 2, 3, 4})),
    **dict.fromkeys(("OneHot", "Range", "ConstantOfShape"), frozenset({0, 1, 2})),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "NonMaxSuppression"), frozenset({0, 1, 2})),
}

FLOAT64 = Law(
    name="graph.float64",
    severity="warning",
    holds="no float64 is computed with",
    breaks="twice the memory and half the speed on a CPU, far less on most GPUs; OpenVINO computes it in 32 bits",
    mend="train or export in float32 (torch: model.float(); numpy: astype('float32') before fitting)",
)
INT64 = Law(
    name="graph.int64",
    severity="warning",
    holds="data is not computed with in int64; indices, shapes and labels are",
    breaks="slow kernels, and runtimes that compute it in 32 bits and overflow (OpenVINO)",
    mend="cast the input to float32, or to int32, before the arithmetic, and export again",
)
LAWS = (FLOAT64, INT64)


def look(seen: View) -> Iterator[Finding]:
    """Arithmetic in float64, and arithmetic in int64 on what callers send."""
    doubles = [
        node
        for node in seen.nodes
        if node.op_type not in MOVES and any(seen.types.get(name) == DOUBLE for name in (*node.input, *node.output) if name)
    ]
    if doubles:
        yield FLOAT64.found(title(doubles[0]), f"{len(doubles)} nodes compute in float64: {listed(doubles)}")
    data = _from_callers(seen)
    whole = [node for node in seen.nodes if id(node) in data and node.op_type in COUNTS and not _are_indices(node, seen)]
    if whole:
        yield INT64.found(title(whole[0]), f"{len(whole)} nodes compute data in int64: {listed(whole)}")


def _from_callers(seen: View) -> set[int]:
    """The nodes that give int64 made by moves and arithmetic alone of an input, or of data that was cast to int64."""
    tainted = {name for name in seen.inputs if seen.types.get(name) == WHOLE}
    found: set[int] = set()
    for node in seen.nodes:
        if not any(seen.types.get(name) == WHOLE for name in node.output):
            continue
        cast = node.op_type == "Cast" and seen.types.get(node.input[0]) not in {None, WHOLE, onnx.TensorProto.BOOL}
        carried = node.op_type in COUNTS | MOVES and any(
            name in tainted for place, name in enumerate(node.input) if place not in INDICES.get(node.op_type, ())
        )
        if cast or carried:
            tainted.update(node.output)
            found.add(id(node))
    return found


def _are_indices(node: onnx.NodeProto, seen: View) -> bool:
    """All that comes of it ends as indices, shapes or comparisons; nothing of it is an answer."""
    ends = {one.name for one in seen.graph.output}
    waiting, done = list(node.output), set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        if name in ends:
            return False
        for reader, place in seen.readers.get(name, ()):
            if place in INDICES.get(reader.op_type, ()):
                continue
            if not any(seen.types.get(one) == WHOLE for one in reader.output):
                return False
            waiting += reader.output
    return True
