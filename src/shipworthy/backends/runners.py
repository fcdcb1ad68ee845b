"""Which runtime runs a model: the one place that chooses."""

from __future__ import annotations

from pathlib import Path

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.backends.openvino import OpenVinoRunner
from shipworthy.errors import Refused
from shipworthy.protocols import Runner
from shipworthy.records import RUNTIMES, Target


def load(path: Path, target: Target) -> Runner:
    """The model in an ONNX file, loaded by the runtime of the target.

    Raises:
        Refused: there is no such file, the runtime does not take it, is not installed, or does not run on that device.
    """
    if target.device not in RUNTIMES[target.runtime]:
        raise Refused(
            f"runtime {target.runtime} does not run on device {target.device}",
            expected=f"device {' or '.join(RUNTIMES[target.runtime])}",
            next=f"correct target '{target.name}'",
        )
    if target.precision != "float32" and target.runtime != "openvino":
        raise Refused(
            f"runtime {target.runtime} computes in the precision of the graph",
            found=f"precision {target.precision} for target '{target.name}'",
            next="take a file whose graph has that precision",
        )
    return OpenVinoRunner(path, target) if target.runtime == "openvino" else OnnxRuntimeRunner(path, target)
