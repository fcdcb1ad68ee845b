"""The field: every variant with its figures and its fate, and the table of it that page and terminal share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shipworthy.measure.report import wording
from shipworthy.measure.report.wording import NONE, STATES, State
from shipworthy.records import Evidence, Figure, Gate, Judged, Metric, Shipment, Variant


@dataclass(frozen=True, slots=True)
class Entry:
    """One variant, with what each stage knows of it; ``variant`` or ``evidence`` may be missing, not both."""

    name: str
    digest: str
    state: State
    variant: Variant | None
    evidence: Evidence | None
    judged: Judged | None

    def figure(self, name: str) -> Figure | None:
        """The measured figure of that name, if it was taken and is a finite number."""
        figure = self.evidence.figure(name) if self.evidence else None
        if figure and all(map(math.isfinite, (figure.low, figure.median, figure.high))):
            return figure
        return None

    def value(self, name: str) -> float | None:
        """The figure's median; the size also when only the optimizer knows it."""
        figure = self.figure(name)
        if figure:
            return figure.median
        return self.variant.size_mb if self.variant and name == "size_mb" else None

    @property
    def quality(self) -> Figure | None:
        """The figure of the metric, as ``figure`` has it."""
        return self.figure(self.evidence.metric.figure) if self.evidence else None

    @property
    def speed_up(self) -> float | None:
        """How many times faster than the original, from repeats taken side by side."""
        ratio = self.value("latency_ratio")
        return 1 / ratio if ratio else None

    @property
    def verdict(self) -> str:
        """One phrase: ``ships``, ``passed``, or what it was refused for."""
        if self.state != "refused" or self.judged is None:
            return STATES[self.state]
        missed = dict.fromkeys(wording.label(verdict.gate.figure) for verdict in self.judged.verdicts if not verdict)
        return f"refused: {', '.join(missed)}"


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column: its words, its unit (empty: none) and how its cells are aligned."""

    title: str
    unit: str
    align: Literal["left", "right"]

    @property
    def header(self) -> str:
        """Words and unit in one line."""
        return f"{self.title} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Row:
    """One variant of the table: a cell for each column, as plain text, and its fate."""

    cells: tuple[str, ...]
    state: State


@dataclass(frozen=True, slots=True)
class Table:
    """The table of the field; every row has as many cells as there are columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def field(shipment: Shipment) -> tuple[Entry, ...]:
    """Every variant that was made or measured, the original first."""
    variants = {v.name: v for v in shipment.optimized.variants} if shipment.optimized else {}
    evidence = {e.variant_name: e for e in shipment.measured.evidence} if shipment.measured else {}
    judged = {j.variant_name: j for j in shipment.choice.judged} if shipment.choice else {}
    return tuple(
        Entry(
            name=name,
            digest=variants[name].digest if name in variants else evidence[name].variant,
            state=_state(shipment, name, judged.get(name)),
            variant=variants.get(name),
            evidence=evidence.get(name),
            judged=judged.get(name),
        )
        for name in dict.fromkeys([*variants, *evidence])
    )


def metric(shipment: Shipment) -> Metric:
    """What the answers were judged by."""
    return shipment.measured.evidence[0].metric if shipment.measured and shipment.measured.evidence else Metric()


def answers(by: Metric) -> str:
    """The metric in a reader's words; of the user's own, its name."""
    return by.name if by.figure == "metric" else wording.label(by.figure)


def rows(shipment: Shipment) -> Table:
    """The table of the field; a figure that was taken of no variant has no column.

    What runs a variant stands there where it is not the same, in the same precision, for all.
    """
    entries = field(shipment)
    columns: list[Column] = [Column("variant", "", "left")]
    cells: list[list[str]] = [[entry.name for entry in entries]]
    runs = ["" if one.evidence is None else wording.runs_on(one.evidence.target) for one in entries]
    if len(set(filter(None, runs))) > 1:
        columns.append(Column("runs on", "", "left"))
        cells.append([one or NONE for one in runs])
    by = metric(shipment)
    quality = Column(answers(by), by.unit, "right")
    for column, name, value in (*_COLUMNS, (quality, by.figure, _taken(by.figure))):
        values = [value(entry) for entry in entries]
        known = [number for number in values if number is not None]
        if known:
            places = wording.decimals(name, known)
            columns.append(column)
            cells.append([NONE if v is None else wording.times(v) if not name else wording.number(v, places) for v in values])
    columns.append(Column("verdict", "", "left"))
    cells.append([entry.verdict for entry in entries])
    lines = zip(*cells, strict=True)
    return Table(tuple(columns), tuple(Row(line, entry.state) for line, entry in zip(lines, entries, strict=True)))


def binding_gate(shipment: Shipment, figure: str) -> Gate | None:
    """The gate on that figure, the strictest if there are several."""
    judged = shipment.choice.judged if shipment.choice else ()
    gates = [v.gate for one in judged for v in one.verdicts if v.gate.figure == figure and math.isfinite(v.gate.limit)]
    return max(gates, key=lambda gate: gate.limit if gate.at_least else -gate.limit, default=None)


def _state(shipment: Shipment, name: str, judged: Judged | None) -> State:
    if judged is None:
        return "unjudged"
    if not judged.passed:
        return "refused"
    return "ships" if shipment.choice and shipment.choice.variant_name == name else "passed"


def _taken(name: str) -> Callable[[Entry], float | None]:
    return lambda entry: entry.value(name)


_COLUMNS: tuple[tuple[Column, str, Callable[[Entry], float | None]], ...] = (
    (Column("memory", "MB", "right"), "memory_mb", _taken("memory_mb")),
    (Column("GPU memory", "MB", "right"), "gpu_memory_mb", _taken("gpu_memory_mb")),
    (Column("GPU", "%", "right"), "gpu_utilisation_percent", _taken("gpu_utilisation_percent")),
    (Column("P50", "ms", "right"), "p50_ms", _taken("p50_ms")),
    (Column("P99", "ms", "right"), "p99_ms", _taken("p99_ms")),
    (Column("rows/s", "", "right"), "throughput_rps", _taken("throughput_rps")),
    (Column("speed-up", "", "right"), "", lambda entry: entry.speed_up),
    (Column("size", "MB", "right"), "size_mb", _taken("size_mb")),
    (Column("gzip", "MB", "right"), "compressed_mb", _taken("compressed_mb")),
)
