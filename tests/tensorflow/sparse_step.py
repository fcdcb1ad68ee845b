"""Pruning a model of Keras 2 as a step of the process that passes run in, which imports it from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shipworthy.backends import tensorflow_prune
from shipworthy.backends.tensorflow import Tuning
from shipworthy.optimize.prune import Schedule
from shipworthy.protocols import Arrays


@dataclass(frozen=True)
class Sparse:
    """What is pruned, and by which schedule."""

    tuning: Tuning
    schedule: Schedule

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Prune while it trains."""
        tensorflow_prune.sparse(self.tuning, self.schedule, model, result)
