"""``check --fix``: the mends that a file can have by itself. A free batch, and weights that are no inputs.

``mended`` is pure; ``fix`` proves its result against the original before it writes a copy beside it.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from shipworthy import data
from shipworthy.backends.onnx_graph import keep
from shipworthy.backends.onnx_types import light
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check.graph.view import View, attribute, view
from shipworthy.check.intake import read_proto
from shipworthy.errors import Failed, Refused
from shipworthy.files import write_bytes
from shipworthy.protocols import Array, Arrays, Runner
from shipworthy.records import Target

BATCH = "batch"
# Operators that are told a whole shape, and at which place.
SHAPED = {"Expand": 1, "ConstantOfShape": 0, "Resize": 3}
# The first IR version in which a weight need not be an input.
IR_VERSION = 4
# Kernels sum in another order for another number of rows.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
BY_HAND = "export the model again with a free first dimension (torch: dynamic_shapes; tf2onnx: --inputs NAME[-1,...])"


def fix(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Write a mended copy of the model as ``NAME.fixed.onnx`` beside it, and say what was done; never touch the model.

    The copy loads, answers the same rows as the original does at its own number of rows, and answers them one row more or
    fewer at a time, too.

    Returns:
        The copy and what was done; where there is nothing to mend, the model itself and nothing.

    Raises:
        Refused: it is not ONNX, or cannot be mended, with the reason.
        StorageFailed: the copy cannot be written.
    """
    if path.suffix != ".onnx":
        raise Refused(f"{path} is not ONNX: --fix mends ONNX files only", found=path.suffix or "no suffix", next=BY_HAND)
    if not path.is_file():
        raise Refused(f"there is no file {path}", next="correct the path")
    result, said = mended(read_proto(path))
    if not said:
        return path, ()
    with tempfile.TemporaryDirectory(prefix="shipworthy-fix-") as scratch:
        draft = Path(scratch) / "model.onnx"
        draft.write_bytes(result.SerializeToString(deterministic=True))
        proof = prove(path, draft)
        final = path.with_suffix(".fixed.onnx")
        write_bytes(final, draft.read_bytes())
    return final, (*said, proof)


def mended(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy with what can be mended, and what was done to it, one sentence each.

    Raises:
        Refused: a fixed batch that cannot be freed.
    """
    result = copy.deepcopy(proto)
    said = [*_weights_only(result)]
    rows = fixed_rows(result)
    if rows:
        said += _free(result, rows)
    return result, tuple(said)


def fixed_rows(proto: onnx.ModelProto) -> int:
    """The first dimension that all inputs share and have fixed; 0 where it is free already.

    Raises:
        Refused: they have several, or one has no dimension.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    found: dict[str, int] = {}
    for one in proto.graph.input:
        if one.name in weights:
            continue
        dims = one.type.tensor_type.shape.dim
        if not one.type.HasField("tensor_type") or not dims:
            raise _cannot(f"input '{one.name}' has no first dimension")
        found[one.name] = dims[0].dim_value
    if len(set(found.values())) > 1:
        raise _cannot("the inputs differ in it: " + ", ".join(f"'{name}' {n or 'free'}" for name, n in found.items()))
    return next(iter(found.values()), 0)


def _weights_only(proto: onnx.ModelProto) -> list[str]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    before = len(proto.graph.input)
    keep(proto.graph.input, lambda one: one.name not in weights)
    gone = before - len(proto.graph.input)
    if not gone:
        return []
    proto.ir_version = max(proto.ir_version, IR_VERSION)
    return [f"{gone} weights are no inputs any more"]


def _free(proto: onnx.ModelProto, rows: int) -> list[str]:
    """Let the first dimension of the inputs be free, and what follows from it."""
    seen = view(proto)
    shapes = _shapes(proto)
    followers = _followers(seen)
    freed = 0
    for node in seen.nodes:
        if node.op_type == "Reshape" and node.input[0] in followers:
            freed += _reshape(node, seen, shapes, rows, proto)
        elif node.op_type in SHAPED:
            _refuse_constant(node, seen, rows)
    del proto.graph.value_info[:]
    name = BATCH
    while any(dim.dim_param == name for one in _borders(proto) for dim in one.type.tensor_type.shape.dim):
        name += "_"
    for one in proto.graph.input:
        one.type.tensor_type.shape.dim[0].dim_param = name
    answered = 0
    for one in proto.graph.output:
        dims = one.type.tensor_type.shape.dim
        if one.name in followers and dims and dims[0].dim_value == rows:
            dims[0].dim_param = name
            answered += 1
    borders = ((len(proto.graph.input), "input"), (answered, "output"))
    counted = " and ".join(f"{count} {word}{'s'[: count != 1]}" for count, word in borders)
    said = [f"the first dimension of {counted} was {rows} and is free"]
    return said + [f"{freed} Reshape copy it from what they read, and do not fix it at {rows}"] * bool(freed)


def _borders(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*proto.graph.input, *proto.graph.output]


def _reshape(node: onnx.NodeProto, seen: View, shapes: Mapping[str, list[int]], rows: int, proto: onnx.ModelProto) -> int:
    """Let a Reshape copy its first dimension (0 in the shape) where that was the batch; 1 if there was something to do."""
    wanted = seen.constant(node.input[1])
    if wanted is None or not wanted.size or int(wanted.flat[0]) in {-1, 0}:
        return 0
    rest = [*map(int, wanted.flat[1:])]
    if int(wanted.flat[0]) != rows or shapes.get(node.input[0], [0])[0] != rows or attribute(node, "allowzero"):
        raise _cannot(f"Reshape '{node.name or node.output[0]}' makes the constant shape {wanted.tolist()} of it")
    name = f"{node.output[0]}:{BATCH}_shape"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, *rest], np.int64), name))
    node.input[1] = name
    return 1


def _refuse_constant(node: onnx.NodeProto, seen: View, rows: int) -> None:
    """A constant shape is as fixed as the batch was; to expand to one row changes nothing."""
    place = SHAPED[node.op_type]
    wanted = seen.constant(node.input[place]) if len(node.input) > place else None
    if wanted is None or not wanted.size or int(wanted.flat[0]) != rows or (rows == 1 and node.op_type != "Resize"):
        return
    raise _cannot(f"{node.op_type} '{node.name or node.output[0]}' makes the constant shape {wanted.tolist()}")


def _followers(seen: View) -> set[str]:
    """The tensors that come of an input."""
    found = set(seen.inputs)
    for node in seen.nodes:
        if not found.isdisjoint(node.input):
            found.update(filter(None, node.output))
    return found


def _shapes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of each tensor that is known; 0 stands for a free dimension."""
    graph = onnx.shape_inference.infer_shapes(light(proto), data_prop=True).graph
    described = [*graph.value_info, *graph.input]
    return {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in described
        if one.type.tensor_type.HasField("shape") and one.type.tensor_type.shape.dim
    }


def prove(path: Path, draft: Path) -> str:
    """That the draft answers as the model does, row by row, at its number of rows and at others.

    Returns:
        What was compared, and the largest difference.

    Raises:
        Refused: the draft does not load, does not run, or answers otherwise.
    """
    try:
        original, mend = OnnxRuntimeRunner(path, Target()), OnnxRuntimeRunner(draft, Target())
    except Refused as error:
        raise _cannot(f"it does not load: {error.found}") from None
    fixed = next((spec.shape[0] for spec in original.signature.inputs if spec.shape and spec.shape[0]), 0)
    rows = fixed or 1
    batch = data.made_up(original.signature, rows)
    inputs = {name: np.concatenate([array, array[..., ::-1]]) for name, array in batch.inputs.items()}  # two that differ
    wanted = _in_batches(original, inputs, rows)
    sizes = [rows] + [2 * rows, 1] * bool(fixed)  # of a model that was free, only the weights were mended
    worst = max(_differs(_in_batches(mend, inputs, size), wanted, size) for size in dict.fromkeys(sizes))
    others = " and at " * (len(sizes) > 1) + ", ".join(str(size) for size in dict.fromkeys(sizes[1:]) if size != rows)
    return f"proved: it answers as the original, at {rows} row{'s'[: rows != 1]} a call{others}; largest difference {worst:.2g}"


def _in_batches(runner: Runner, inputs: Arrays, size: int) -> dict[str, Array]:
    """Every output, from calls of so many rows.

    Raises:
        Refused: it does not run, or an output has not as many rows as the inputs.
    """
    total = len(next(iter(inputs.values())))
    try:
        parts = [runner.run({name: array[i : i + size] for name, array in inputs.items()}) for i in range(0, total, size)]
    except (Failed, Refused) as error:
        raise _cannot(f"it does not run with {size} rows: {error.found or error.what}") from None
    for name, array in parts[0].items():
        if not array.ndim or len(array) != size:
            raise _cannot(f"output '{name}' has {len(array) if array.ndim else 'no'} rows for {size}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _differs(found: Arrays, wanted: Arrays, size: int) -> float:
    """The largest difference of all outputs.

    Raises:
        Refused: it is more than rounding explains.
    """
    worst = 0.0
    for name, expected in wanted.items():
        answer = found[name]
        if expected.dtype.kind == "f":
            same = np.isclose(answer, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
            worst = max(worst, float(np.nanmax(np.abs(answer.astype(np.float64) - expected.astype(np.float64)), initial=0)))
        else:
            same = answer == expected
        if not np.all(same):
            raise _cannot(f"with {size} rows at a time output '{name}' is another: rows depend on each other, or on chance")
    return worst


def _cannot(why: str) -> Refused:
    return Refused(
        "the first dimension cannot be freed", found=why, expected="a model that answers each row by itself", next=BY_HAND
    )
