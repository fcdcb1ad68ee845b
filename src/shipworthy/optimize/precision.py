"""Passes ``fp16`` and ``bf16``: half the size by the precision of the graph itself; inputs and outputs stay float32.

Precision that a runtime chooses by a flag is another number on every device; here the file says it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from shipworthy.backends.notes import note
from shipworthy.backends.onnx_graph import keep
from shipworthy.backends.onnxruntime_passes import lacks
from shipworthy.errors import Refused
from shipworthy.optimize import reasons
from shipworthy.optimize.calibration import calibrate
from shipworthy.optimize.lowering import BLOCKED, Low, constants_to_weights, lower, lowerable
from shipworthy.optimize.nodes import name_nodes, outline, read, write
from shipworthy.protocols import Arrays
from shipworthy.records import Target

# Rows not seen may give larger values than the calibration rows did.
HEADROOM = 4.0


@dataclass(frozen=True)
class Half:
    """Weights and activations in 16 bits, where the operator takes them and the values stay in range.

    Nodes whose values leave the range of the type over the calibration rows stay float32; the file notes them, each
    with its reason (``notes.notes``, key ``float32_nodes``). Without rows only the weights are looked at.
    """

    precision: Low = "float16"
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def name(self) -> str:
        """``fp16`` or ``bf16``."""
        return {"float16": "fp16", "bfloat16": "bf16"}[self.precision]

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {"precision": self.precision, "blocked": sorted(BLOCKED), "headroom": HEADROOM}

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:
        """Float32 weights, on a target that can run them in 16 bits; rows, if there are any, that fit the model."""
        if self.precision == "bfloat16" and "bfloat16" not in target.precisions:
            return f"the target has no bfloat16: it computes in {', '.join(target.precisions)}"
        if self.precision == "bfloat16" and target.runtime == "onnxruntime" and (missing := lacks("bfloat16", target)):
            return f"onnxruntime does not run bfloat16 on {target.device}: {missing}"
        proto = outline(model)
        if reasons.quantized(proto) and target.int8 != "s8s8_symmetric":
            return reasons.quantized(proto)
        return reasons.in_training(proto) or (reasons.unfit(proto, calibration) if calibration is not None else "")

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Lower what can be lowered.

        Raises:
            Refused: no weight can be lowered, or an activation is not finite.
        """
        proto = _prepared(model)
        plan = lowerable(proto, self.precision)
        ranges = {}
        if calibration is not None and self.precision == "float16":
            ranges = calibrate(proto, plan.activations, calibration, "minmax", percent=100, symmetric=False)
        kept = plan.drop(ranges, HEADROOM)
        if not plan.weights:
            raise Refused(
                f"no weight can be {self.precision}",
                found=next(iter(kept.values()), "no operator with float32 weights takes that type at the model's operator set"),
            )
        lower(proto, plan)
        note(proto, {"precision": self.precision, "float32_nodes": json.dumps(kept, sort_keys=True)})
        write(proto, result)


def _prepared(model: Path) -> onnx.ModelProto:
    """The model with a name for every node and constants as weights, none of them an input that a caller may set."""
    proto = read(model)
    constants_to_weights(proto)
    name_nodes(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    keep(proto.graph.input, lambda one: one.name not in weights)
    return proto
