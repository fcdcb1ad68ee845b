"""The numbers that an ONNX file holds: how many of them are zero."""

from __future__ import annotations

from pathlib import Path


def sparsity_percent(path: Path) -> float:
    """The share of the numbers in the weights and constants of the outermost graph that are zero, in percent.

    Of INT8 weights it is the share of those that are stored as zero: as many as were zero where ranges are symmetric.
    """
    import onnx  # noqa: PLC0415  the server never needs it
    from onnx import numpy_helper  # noqa: PLC0415

    graph = onnx.load(path).graph
    constants = [one.t for node in graph.node if node.op_type == "Constant" for one in node.attribute if one.HasField("t")]
    zeros = numbers = 0
    for tensor in (*graph.initializer, *constants):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind != "O":  # texts
            zeros += int((array == 0).sum())
            numbers += array.size
    return 100 * zeros / numbers if numbers else 0.0
