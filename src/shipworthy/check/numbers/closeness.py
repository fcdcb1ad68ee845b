"""When two answers are the same but for rounding. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from shipworthy.check.numbers.graph import QUANTIZES
from shipworthy.protocols import Array

# Of two calls of one graph: a share of the number itself, and one of the largest in the tensor, since what is rounded on
# the way to a small number can be as large as that. float32 rounds at 6e-8, float16 at 5e-4.
RELATIVE, OF_LARGEST = 1e-3, 1e-4
HALF_TIMES = 50.0
# Quantized: a number that rounds to the other level moves by a 255th of the range, and more than one layer does so.
QUANTIZED_OF_LARGEST = 0.1
HALVES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Closeness:
    """How far two float tensors of one graph may be apart; all others are equal or not.

    ``quantized``: the graph rounds to levels, where a far smaller difference can tip a number over to the next.
    """

    times: float = 1.0
    quantized: bool = False

    def excess(self, answer: Array, expected: Array) -> float:
        """The largest difference over the one that rounding explains: at most 1 where it does.

        ``inf`` where shapes, whole numbers or texts differ, or one is finite and the other is not.
        """
        return self._excess(answer, expected, RELATIVE * self.times, OF_LARGEST * self.times)

    def levels_explain(self, answer: Array, expected: Array) -> bool:
        """Whether the graph is quantized, and the difference small enough to come of that."""
        return self.quantized and self._excess(answer, expected, 0, QUANTIZED_OF_LARGEST) <= 1

    def _excess(self, answer: Array, expected: Array, relative: float, of_largest: float) -> float:
        if answer.shape != expected.shape:
            return float("inf")
        if not _is_float(answer) or not _is_float(expected):
            return 0.0 if bool((answer == expected).all()) else float("inf")
        one, two = answer.astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(two)
        if not ((one == two) | (np.isnan(one) & np.isnan(two)))[~finite].all():
            return float("inf")
        size = np.abs(two[finite])
        if not size.size:
            return 0.0
        difference = np.abs(one[finite] - two[finite])
        allowed = relative * size + of_largest * size.max()
        return float(np.divide(difference, allowed, out=np.where(difference > 0, np.inf, 0.0), where=allowed > 0).max())


def of(proto: onnx.ModelProto) -> Closeness:
    """How close two calls of this graph are to be: by the types it computes in."""
    graph = proto.graph
    typed = [tensor.data_type for tensor in graph.initializer]
    typed += [one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)]
    typed += [one.i for node in graph.node if node.op_type == "Cast" for one in node.attribute if one.name == "to"]
    half = not HALVES.isdisjoint(typed)
    quantized = any(word in node.op_type for node in graph.node for word in QUANTIZES)
    return Closeness(HALF_TIMES if half else 1.0, quantized)


def difference(answer: Array, expected: Array) -> str:
    """How far they are apart, in words for a finding."""
    if answer.shape != expected.shape:
        return f"shape {list(answer.shape)} instead of {list(expected.shape)}"
    if not _is_float(answer) or not _is_float(expected):
        return f"{int((answer != expected).sum())} of {answer.size} values differ"
    one, two = answer.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(two)
    lost = int((~finite & ~((one == two) | (np.isnan(one) & np.isnan(two)))).sum())
    if lost:
        return f"{lost} of {answer.size} values are finite in one of them only"
    apart, largest = np.abs(one - two)[finite].max(initial=0), np.abs(two)[finite].max(initial=0)
    return f"difference {apart:.2g}, where the largest value is {largest:.2g}"


def same_bits(answer: Array, expected: Array) -> bool:
    """Whether not even rounding differs; NaN is NaN."""
    if answer.shape != expected.shape:
        return False
    if answer.dtype.kind == "O":
        return bool((answer == expected).all())
    return answer.tobytes() == expected.tobytes()


def _is_float(array: Array) -> bool:
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")
