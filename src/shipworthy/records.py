"""The frozen records that the stages hand on.

Each names the digest of what it speaks of, so that a live answer can be walked back to the trained file.
``dump`` and ``load`` turn a record into plain dicts and back; ``load`` keeps fields it does not know (a newer
Shipworthy wrote them) and ``dump`` gives them back, so that an old reader loses nothing.

Units: sizes and memory in MB of 10**6 bytes, times in ms, shares in percent, times of day in UTC (ISO 8601).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, TypeVar

import msgspec

from shipworthy.errors import Refused

R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records. ``unrecognised`` holds fields a newer writer added."""

    unrecognised: dict[str, Any] = {}


# ---------------------------------------------------------------- model


class TensorSpec(Record, frozen=True, kw_only=True):
    """One input or output. ``dtype`` is numpy's name (``str`` for strings); ``None`` in ``shape`` is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


class Signature(Record, frozen=True, kw_only=True):
    """What a model takes and gives, in the order of the file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Source(Record, frozen=True, kw_only=True):
    """The trained file a model came from: its digest, its framework, and what converted it (package: version)."""

    path: str
    digest: str
    framework: str
    packages: dict[str, str] = {}


class Model(Record, frozen=True, kw_only=True):
    """A model as the tool takes it in: always an ONNX file; ``source`` says what it was before."""

    name: str
    path: str
    digest: str
    signature: Signature
    opset: int
    ir_version: int
    source: Source


# ---------------------------------------------------------------- check


class Finding(Record, frozen=True, kw_only=True):
    """One thing a law of ``check`` found, with the evidence and the mend."""

    law: str
    severity: Literal["error", "warning", "note"]
    place: str
    evidence: str
    mend: str = ""


class Report(Record, frozen=True, kw_only=True):
    """All findings of one model; ``laws`` are those that were applied."""

    model: str
    laws: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a model from going on."""
        return tuple(f for f in self.findings if f.severity == "error")


# ---------------------------------------------------------------- optimize


class Target(Record, frozen=True, kw_only=True):
    """Where a model will run. ``threads`` are those of one call; ``memory_mb`` is its budget, ``None`` for no limit."""

    name: str = "cpu"
    device: Literal["cpu"] = "cpu"
    runtime: Literal["onnxruntime"] = "onnxruntime"
    threads: int = 1
    memory_mb: float | None = None


class Step(Record, frozen=True, kw_only=True):
    """One pass with the options it ran with."""

    name: str
    options: dict[str, Any] = {}


class Variant(Record, frozen=True, kw_only=True):
    """The model after a chain of passes (none: the original).

    ``digest`` is that of its bytes, ``parent`` that of the model the chain began with; ``devices`` are those it is for.
    """

    name: str
    path: str
    digest: str
    parent: str
    chain: tuple[Step, ...]
    devices: tuple[str, ...]
    size_mb: float


class Skip(Record, frozen=True, kw_only=True):
    """A variant that was not made, and why."""

    name: str
    reason: str


class Optimized(Record, frozen=True, kw_only=True):
    """The original first, then the variants; and what was skipped."""

    variants: tuple[Variant, ...]
    skips: tuple[Skip, ...] = ()


# ---------------------------------------------------------------- measure


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


# ---------------------------------------------------------------- release


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


# ---------------------------------------------------------------- serve


class Exchange(Record, frozen=True, kw_only=True):
    """The evaluation split sent to a live server in one encoding, and what came back.

    ``accuracy_percent`` is ``None`` without labels; ``largest_difference`` is the largest absolute difference of any
    output element from what the measurement of the same variant gave for the same row.
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
    """The proof that the served model is the measured one. ``gap_points``: measured minus served accuracy."""

    bundle: str
    version: int
    measured_accuracy_percent: float | None
    gap_points: float | None
    exchanges: tuple[Exchange, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether development and production agree and every served gate said yes."""
        return (self.gap_points is None or self.gap_points == 0) and all(self.verdicts)


# ---------------------------------------------------------------- the whole


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


# ---------------------------------------------------------------- plain forms


def dump(record: Record) -> dict[str, Any]:
    """The record as plain dicts, lists and scalars, unrecognised fields back in their places."""
    return _lift(msgspec.to_builtins(record))  # type: ignore[no-any-return]


def load(kind: type[R], data: Any) -> R:
    """The record that ``data`` describes; ``dump`` gives every field of ``data`` back, also those it does not know.

    Raises:
        Refused: a field is missing or of the wrong type.
    """
    try:
        return msgspec.convert(_stow(data, msgspec.inspect.type_info(kind)), kind)
    except msgspec.ValidationError as error:
        raise Refused(
            f"this is not a {kind.__name__} record",
            found=str(error),
            expected=f"the fields of {kind.__name__}: {', '.join(kind.__struct_fields__)}",
            next="the file was edited or is damaged: make it again with the verb that wrote it",
        ) from None


def encode(record: Record) -> bytes:
    """Canonical JSON of the record (sorted keys, no spaces), the bytes that digests are taken of."""
    return msgspec.json.encode(dump(record), order="sorted")


def decode(kind: type[R], data: bytes) -> R:
    """The record in a JSON text.

    Raises:
        Refused: the bytes are not JSON, or not this record.
    """
    try:
        plain = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Refused(f"this is not a {kind.__name__} record", found=str(error), expected="JSON") from None
    return load(kind, plain)


def digest(record: Record) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(encode(record)).hexdigest()


def _lift(plain: Any) -> Any:
    if isinstance(plain, dict):
        extra = plain.get("unrecognised", {})
        return {key: _lift(value) for key, value in plain.items() if key != "unrecognised"} | extra
    if isinstance(plain, list | tuple):
        return [_lift(item) for item in plain]
    return plain


def _stow(plain: Any, kind: msgspec.inspect.Type) -> Any:
    """Move the keys that no field of ``kind`` takes under ``unrecognised``, at every depth."""
    if isinstance(kind, msgspec.inspect.UnionType):
        inner = [t for t in kind.types if isinstance(t, msgspec.inspect.StructType)]
        return _stow(plain, inner[0]) if inner and plain is not None else plain
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(plain, dict):
        fields = {field.name: field.type for field in kind.fields}
        known = {key: _stow(value, fields[key]) for key, value in plain.items() if key in fields}
        extra = {key: value for key, value in plain.items() if key not in fields}
        return known | ({"unrecognised": extra} if extra else {})
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(plain, list):
        return [_stow(item, kind.item_type) for item in plain]
    if isinstance(kind, msgspec.inspect.DictType) and isinstance(plain, dict):
        return {key: _stow(value, kind.value_type) for key, value in plain.items()}
    return plain
