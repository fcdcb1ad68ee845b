"""Pass ``int8_nncf``: static INT8 by NNCF, which corrects the biases; what OpenVINO runs best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipworthy.backends import nncf
from shipworthy.optimize import reasons
from shipworthy.optimize.int8 import WEIGHTED
from shipworthy.optimize.nodes import outline
from shipworthy.protocols import Arrays
from shipworthy.records import Target


@dataclass(frozen=True)
class Int8Nncf:
    """Weights and activations are INT8, ranges and corrected biases from the calibration rows."""

    name: str = "int8_nncf"
    devices: tuple[str, ...] = ("cpu",)

    @property
    def options(self) -> dict[str, Any]:
        """NNCF's own defaults shape the result."""
        return {"preset": "performance", "fast_bias_correction": True}

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:
        """NNCF; operators with weights, not quantized yet; calibration rows that fit the model; a CPU."""
        if reason := nncf.missing():
            return reason
        if target.int8 == "s8s8_symmetric":
            return "NNCF's types are those of CPUs, not TensorRT's"
        if calibration is None:
            return reasons.NO_ROWS
        proto = outline(model)
        return reasons.unquantizable(proto, WEIGHTED) or reasons.unfit(proto, calibration)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Calibrate, quantize, correct."""
        nncf.quantize(model, result, calibration or {})
