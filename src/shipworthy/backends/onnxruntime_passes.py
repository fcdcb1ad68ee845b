"""What onnxruntime can do to a model offline: its graph optimisation and its quantizers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime as ort

from shipworthy.backends.onnxruntime import session
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Target

CALIBRATION_BATCH = 64


def optimise(model: Path, result: Path) -> None:
    """Fold, fuse and clean the graph at onnxruntime's basic level: only standard operators, any runtime takes them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(result)
    session(model, Target(), options)


def quantize_dynamic(model: Path, result: Path, operators: list[str], *, per_channel: bool) -> None:
    """INT8 weights (signed); activations are quantized while the model runs."""
    from onnxruntime import quantization  # noqa: PLC0415  (imports onnx: never in a server)

    with _quiet():
        quantization.quantize_dynamic(
            str(model),
            str(result),
            op_types_to_quantize=operators,
            per_channel=per_channel,
            weight_type=quantization.QuantType.QInt8,
        )


def quantize_static(model: Path, result: Path, calibration: Arrays, operators: list[str], *, per_channel: bool) -> None:
    """INT8 by Q/DQ nodes: signed weights, unsigned activations with the range (MinMax) seen on the calibration rows.

    Unsigned activations and signed weights are what x86 with VNNI multiplies fastest: shared design, decision 10.
    """
    from onnxruntime import quantization  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(calibration)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._batches, None)

    with _quiet():
        quantization.quantize_static(
            str(model),
            str(result),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=per_channel,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )


def _batches(calibration: Arrays) -> Iterator[dict[str, Array]]:
    rows = len(next(iter(calibration.values())))
    for start in range(0, rows, CALIBRATION_BATCH):
        yield {name: array[start : start + CALIBRATION_BATCH] for name, array in calibration.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizers advise on the root logger to run a preparation that the graph pass has already done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
