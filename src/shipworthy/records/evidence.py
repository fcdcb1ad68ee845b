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


class Machine(Record, frozen=True, kw_only=True):
    """Where a figure was taken; part of its identity."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_mb: int
    system: str
    python: str
    packages: dict[str, str]


class Evidence(Record, frozen=True, kw_only=True):
    """What was measured of one variant on one target, on which machine, with which data, when."""

    variant: str
    variant_name: str
    target: Target
    machine: Machine
    data: str
    measured_at: str
    figures: tuple[Figure, ...]

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, or ``None`` when it was not taken."""
        return next((f for f in self.figures if f.name == name), None)


class Measured(Record, frozen=True, kw_only=True):
    """The evidence of all variants, taken side by side; the first is the original's."""

    evidence: tuple[Evidence, ...]


class Gate(Record, frozen=True, kw_only=True):
    """A limit that the user wrote: ``figure`` must be at least, or at most, ``limit``."""

    figure: str
    limit: float
    unit: str
    at_least: bool

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"


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
