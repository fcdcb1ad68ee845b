"""NNCF's post-training quantization: Q/DQ with biases corrected for the error that INT8 brings. Needs the extra ``nncf``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from shipworthy.backends.openvino import TELEMETRY
from shipworthy.protocols import Arrays


def missing() -> str:
    """Why it cannot be used here; empty when it can."""
    if importlib.util.find_spec("nncf") is None:
        return "NNCF is an extra that is not installed: pip install 'shipworthy[nncf]'"
    return ""


def quantize(model: Path, result: Path, calibration: Arrays) -> None:
    """Weights and activations in INT8, as OpenVINO takes them; every calibration row sets the ranges.

    Its own defaults: ranges by MinMax with moving means, activations unsigned where a Relu is before them, fast bias correction
    (NNCF 3.4, ``nncf.quantize``). Imports for seconds: call it in a process of its own.
    """
    import onnx  # noqa: PLC0415  (never in a server)

    # It would report its import to Google Analytics; where the package cannot be imported, it takes a stub of its own.
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    nncf: Any = importlib.import_module("nncf")
    count = min(len(array) for array in calibration.values())
    rows = [{name: array[i : i + 1] for name, array in calibration.items()} for i in range(count)]
    quantized = nncf.quantize(onnx.load_model(model), nncf.Dataset(rows), subset_size=count)
    result.write_bytes(quantized.SerializeToString(deterministic=True))
