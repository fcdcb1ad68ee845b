"""What ships, where it is shown, what it answered, and the whole of it."""

from __future__ import annotations

from typing import Literal

from shipworthy.records.base import Record
from shipworthy.records.evidence import Choice, Measured, Verdict
from shipworthy.records.model import Model, Optimized, Report

# What rounding between two calls of one float32 model explains.
SAME_WITHIN = 1e-5


class FileEntry(Record, frozen=True, kw_only=True):
    """A file of a bundle: SHA-256 of its bytes and their number."""

    digest: str
    size_bytes: int


class Bundle(Record, frozen=True, kw_only=True):
    """The manifest of the folder that ships. ``digest`` of a bundle is that of its manifest's bytes.

    ``source``, ``model`` and ``variant`` are the digests of the trained file, of the ONNX it became, and of the
    variant that ships: the chain that walks a live answer back.
    """

    name: str
    variant_name: str
    source: str
    model: str
    variant: str
    files: dict[str, FileEntry]
    format: int = 1


class Release(Record, frozen=True, kw_only=True):
    """A bundle under a version number in the registry."""

    name: str
    version: int
    bundle: str
    created_at: str
    created_by: str


class Promotion(Record, frozen=True, kw_only=True):
    """One line of the promotion log: an alias moved. ``None`` versions: it did not exist, or was taken away."""

    name: str
    alias: str
    before: int | None
    after: int | None
    at: str
    by: str
    reason: str


class Tracked(Record, frozen=True, kw_only=True):
    """Where MLflow shows a release."""

    tracking_uri: str
    experiment: str
    run_id: str
    model_name: str
    model_version: str
    alias: str


class Exchange(Record, frozen=True, kw_only=True):
    """The evaluation split sent to a live server in one encoding, and what came back.

    ``accuracy_percent`` is ``None`` without labels; ``largest_difference`` is the largest difference of any output
    element from what the same variant answers without a server: relative to values above 1, absolute below.
    """

    encoding: Literal["json", "binary"]
    requests: int
    answered: int
    rows: int
    accuracy_percent: float | None
    largest_difference: float
    p50_ms: float
    p99_ms: float


class Served(Record, frozen=True, kw_only=True):
    """The proof that the served model is the measured one.

    ``gap_points`` is measured minus served accuracy; ``None`` without labels: then the outputs must be the same.
    """

    bundle: str
    version: int
    measured_accuracy_percent: float | None
    gap_points: float | None
    exchanges: tuple[Exchange, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether development and production agree and every served gate said yes."""
        same = all(one.largest_difference <= SAME_WITHIN for one in self.exchanges)
        return (same if self.gap_points is None else self.gap_points == 0) and all(self.verdicts)


class Shipment(Record, frozen=True, kw_only=True):
    """All that ``ship`` did: the records of every stage, and which of them were reused from an earlier run."""

    name: str
    model: Model
    report: Report
    optimized: Optimized | None = None
    measured: Measured | None = None
    choice: Choice | None = None
    release: Release | None = None
    served: Served | None = None
    promotion: Promotion | None = None
    tracked: Tracked | None = None
    html: str = ""
    reused: tuple[str, ...] = ()
    stopped: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing stopped the model on its way."""
        return not self.stopped


class Progress(Record, frozen=True, kw_only=True):
    """What a sink is told while a stage works; ``total`` 0 means that the end is not known."""

    stage: str
    text: str
    done: int = 0
    total: int = 0
