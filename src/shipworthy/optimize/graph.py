"""Pass ``graph``: folding, fusion and dead code, by onnxruntime's own offline optimisation at its basic level."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from shipworthy.backends.onnxruntime_passes import optimise
from shipworthy.optimize.nodes import nodes
from shipworthy.protocols import Arrays
from shipworthy.records import Target


@dataclass(frozen=True)
class Graph:
    """The same numbers from a cleaner graph; only standard operators."""

    name: str = "graph"
    options: dict[str, Any] = field(default_factory=lambda: {"level": "basic"})
    devices: tuple[str, ...] = ("cpu", "cuda")

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """Nothing: any model can be tried."""
        return ""

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Let the runtime write its graph, and take out the operator sets it names but does not use."""
        optimise(model, result)
        proto = onnx.load_model(result)
        used = {node.domain for node in nodes(proto.graph)} | {"", "ai.onnx"}
        kept = sorted((one for one in proto.opset_import if one.domain in used), key=lambda one: one.domain)
        del proto.opset_import[:]
        proto.opset_import.extend(kept)
        result.write_bytes(proto.SerializeToString(deterministic=True))
