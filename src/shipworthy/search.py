"""Which variants are worth a whole measurement: each is looked at beside the original, for a moment, as it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from shipworthy import measure
from shipworthy.data import Dataset
from shipworthy.errors import ShipworthyError, StorageFailed
from shipworthy.measure.front import beaten_by
from shipworthy.optimize import Opinion
from shipworthy.records import Evidence, Gate, Metric, Model, Target, Variant
from shipworthy.settings import MeasureSettings

QUICK = MeasureSettings(processes=1, repeats=2, repeat_seconds=0.05)
# In so short a look, less is no difference.
SLOWER = 1.15


@dataclass
class Screen:
    """Judges variants one by one; remembers the evidence of those that it let pass."""

    model: Model
    original: Variant
    target: Target
    gates: tuple[Gate, ...]
    settings: MeasureSettings
    rows: Dataset | None = None
    prediction: str = ""
    metric: Metric = field(default_factory=Metric)
    kept: list[Evidence] = field(default_factory=list)

    def __call__(self, variant: Variant) -> Opinion:
        """Why it is not worth a whole measurement: a limit on its answers is missed, it is slower, or beaten by another."""
        quick = replace(QUICK, batch_rows=self.settings.batch_rows)
        pair = (self.original, variant)
        try:
            original, ours = measure.run(
                self.model, pair, self.target, quick, self.rows, self.prediction, metric=self.metric
            ).evidence
        except StorageFailed:
            raise
        except ShipworthyError as error:
            return Opinion(f"{error.what}: {error.found}" if error.found else error.what)
        answers = [gate for gate in self.gates if measure.of_answers(gate)]
        for verdict in (measure.verdict(gate, ours.figure(gate.figure)) for gate in answers):
            if not verdict and verdict.figure is not None:
                return Opinion(verdict.reason, inaccurate=True)
        ratio = ours.figure("latency_ratio")
        if ratio and ratio.low > SLOWER:
            return Opinion(f"slower than the original: {ratio.median:.2f} times its median latency in a first look")
        if beaten := beaten_by(ours, (original, *self.kept)):
            return Opinion(f"{beaten.variant_name} is as accurate, and faster or smaller")
        self.kept.append(ours)
        return Opinion()
