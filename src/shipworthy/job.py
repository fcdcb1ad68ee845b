"""One model on its way, and the keys under which its finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from shipworthy import machine, measure, records, targets
from shipworthy.data import Dataset
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import Metric, Progress, Target
from shipworthy.settings import Settings
from shipworthy.workspace import Workspace

PACKAGES = (
    *("shipworthy", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf"),
    *("scikit-learn", "skl2onnx", "skops", "xgboost", "xgboost-cpu", "lightgbm"),
    *("torch", "onnxscript", "tensorflow", "tensorflow-cpu", "tf2onnx"),
    *("keras", "tf-keras", "tensorflow-model-optimization"),
)


@dataclass(frozen=True)
class Job:
    """One model on its way: what the user asked for, where the work is kept, who is told."""

    settings: Settings
    workspace: Workspace
    target: Target
    sink: Sink = field(default_factory=Quiet)

    @property
    def metric(self) -> Metric:
        """What says how good answers are."""
        return measure.named(self.settings)

    @property
    def elsewhere(self) -> str:
        """Why the target is not this machine; empty when it is."""
        return targets.is_here(self.target, machine.describe())

    def tell(self, stage: str, text: str) -> None:
        """Say that a stage begins."""
        self.sink.emit(Progress(stage=stage, text=text))


def rows_key(job: Job, rows: Dataset | None) -> dict[str, Any]:
    """What of the evaluation rows shapes a result: their digest, how they are read, and what they are judged by."""
    named = job.settings.data
    names = {"inputs": named.inputs, "labels": named.labels, "prediction": named.prediction}
    return names | {"digest": rows.digest if rows else "", "metric": records.dump(job.metric)}


def versions() -> dict[str, Any]:
    """The libraries that shape results."""
    found = {dist.name.lower(): dist.version for dist in metadata.distributions()}
    return {"versions": {name: found.get(name, "") for name in PACKAGES}}
