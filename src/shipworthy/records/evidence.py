"""What was measured, and what was decided from it."""

from __future__ import annotations

from shipworthy.records.base import Record
from shipworthy.records.model import Target


class Figure(Record, frozen=True, kw_only=True):
    """One measured number: the median over ``samples`` repeats, the interval around it, and how it was taken."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    samples: int
    how: str


class Metric(Record, frozen=True, kw_only=True):
    """What says how good answers are.

    ``name`` is that of the settings, ``figure`` the figure that holds it, ``more`` whether more of it is better; ``code`` is
    the SHA-256 of the file with the user's function, empty for a metric of ours.
    """

    name: str = "accuracy"
    figure: str = "accuracy_percent"
    unit: str = "%"
    more: bool = True
    code: str = ""

    @property
    def kept(self) -> str:
        """The figure that holds what a variant keeps of the original's, in percent; more is better."""
        return f"{self.figure.removesuffix('_percent')}_kept_percent"


class Machine(Record, frozen=True, kw_only=True):
    """Where a figure was taken; part of its identity. ``gpus`` are NVIDIA's, by name; of a Jetson the name of the board."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_mb: int
    system: str
    python: str
    packages: dict[str, str]
    gpus: tuple[str, ...] = ()


class Evidence(Record, frozen=True, kw_only=True):
    """What was measured of one variant on one target, on which machine, with which data, when.

    ``target`` has the runtime and the precision that the variant was run with.
    """

    variant: str
    variant_name: str
    target: Target
    machine: Machine
    data: str
    measured_at: str
    figures: tuple[Figure, ...]
    metric: Metric = Metric()

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, or ``None`` when it was not taken."""
        return next((f for f in self.figures if f.name == name), None)

    @property
    def quality(self) -> Figure | None:
        """The figure of the metric, or ``None`` when there were no labels."""
        return self.figure(self.metric.figure)


class Point(Record, frozen=True, kw_only=True):
    """The latency of calls of ``rows`` rows with ``threads`` threads each."""

    rows: int
    threads: int
    latency: Figure


class Curve(Record, frozen=True, kw_only=True):
    """How the latency of one variant grows with the rows of a call, for each number of threads; in that order."""

    variant: str
    variant_name: str
    points: tuple[Point, ...]


class Measured(Record, frozen=True, kw_only=True):
    """The evidence of all variants, taken side by side, the original's first; the curves of the original and the chosen one."""

    evidence: tuple[Evidence, ...]
    curves: tuple[Curve, ...] = ()


class Gate(Record, frozen=True, kw_only=True):
    """A limit that the user wrote: ``figure`` must be at least, or at most, ``limit``; ``strict``: its whole interval must."""

    figure: str
    limit: float
    unit: str
    at_least: bool
    strict: bool = False

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.limit:g} {self.unit}".rstrip()


class Verdict(Record, frozen=True, kw_only=True):
    """Whether one variant meets one gate: the limit, the figure (``None``: not measured) and the reason."""

    gate: Gate
    figure: float | None
    passed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.passed


class Judged(Record, frozen=True, kw_only=True):
    """One variant before all gates."""

    variant: str
    variant_name: str
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate said yes."""
        return all(self.verdicts)


class Choice(Record, frozen=True, kw_only=True):
    """Which variant ships (``None``: none passed), why, and the verdicts on all of them."""

    variant: str | None
    variant_name: str | None
    reason: str
    judged: tuple[Judged, ...]
