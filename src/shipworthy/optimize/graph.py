"""Pass ``graph``: folding and fusion by onnxruntime's offline optimisation; nothing dead, each weight once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipworthy.backends.onnx_graph import keep, nodes
from shipworthy.backends.onnxruntime_passes import optimise
from shipworthy.optimize import reasons
from shipworthy.optimize.nodes import outline, read, write
from shipworthy.optimize.tidy import drop_dead, merge
from shipworthy.protocols import Arrays
from shipworthy.records import Target


@dataclass(frozen=True)
class Graph:
    """The same numbers from a cleaner graph; only standard operators."""

    name: str = "graph"
    options: dict[str, Any] = field(default_factory=lambda: {"level": "basic", "duplicates": "merged", "dead": "dropped"})
    devices: tuple[str, ...] = ("cpu", "cuda")

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """A graph that is not in training mode."""
        return reasons.in_training(outline(model))

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Let the runtime write its graph, and take out of it what is not used: nodes, weights, operator sets."""
        with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
            whole, optimised = Path(scratch) / "whole.onnx", Path(scratch) / "optimised.onnx"
            write(read(model), whole)  # weights from other files, too: the runtime would go on naming those
            optimise(whole, optimised)
            proto = read(optimised)
        drop_dead(proto)
        merge(proto)
        used = {node.domain for node in nodes(proto.graph)} | {"", "ai.onnx"}
        keep(proto.opset_import, lambda one: one.domain in used)
        proto.opset_import.sort(key=lambda one: one.domain)
        write(proto, result)
