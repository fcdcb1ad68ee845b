"""The dated table: which release takes what. Facts with their sources in table.toml, here as records, and look-ups.

A row speaks of one release (``1.18`` is any 1.18.x), or of all releases from ``since`` up to the next row of its package,
at most up to ``until``. What is not in the table is not known, and no rule speaks of it. ``source`` names one or more of the
``sources``, with commas.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec
from packaging.version import Version

from shipworthy.records import Severity

FILE = Path(__file__).with_name("table.toml")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the table, strictly read."""


class Row(Record, frozen=True, kw_only=True):
    """A fact; ``source`` names where it was read."""

    source: str


class Source(Record, frozen=True, kw_only=True):
    """Where a fact was read, and when (ISO 8601); ``address`` is empty for what was measured or asked here."""

    title: str
    date: str
    address: str = ""


class Onnx(Row, frozen=True, kw_only=True):
    """What a release of onnx or onnxruntime goes up to: it writes by default, or loads at most, this opset and IR version."""

    release: str
    opset: int
    ir: int


class Exporter(Row, frozen=True, kw_only=True):
    """The opset that an exporter writes when none is asked for; ``how`` says which call.

    ``follows_onnx``: it writes less where the onnx beside it knows less.
    """

    package: str
    since: str
    opset: int
    how: str
    until: str = ""
    follows_onnx: bool = False


class Gpu(Row, frozen=True, kw_only=True):
    """Major versions that the builds of a package are for; none: not known, or does not matter.

    ``usual`` is the CUDA of the build that pip takes on Linux.
    """

    package: str
    since: str
    cuda: tuple[int, ...] = ()
    usual: int = 0
    cudnn: tuple[int, ...] = ()
    tensorrt: tuple[int, ...] = ()
    until: str = ""


class Jetpack(Row, frozen=True, kw_only=True):
    """What a release of JetPack has, and for which kinds of targets."""

    release: str
    kinds: tuple[str, ...]
    cuda: str
    tensorrt: tuple[int, ...]
    python: str


class Numpy2(Row, frozen=True, kw_only=True):
    """The first release of a package whose builds run on numpy 2."""

    package: str
    since: str


class Metadata(Row, frozen=True, kw_only=True):
    """What a release says of itself: requirements (PEP 508), Requires-Python; and the newest Python that has a wheel of it."""

    package: str
    release: str
    needs: tuple[str, ...] = ()
    python: str = ""
    newest: str = ""


class Pair(Row, frozen=True, kw_only=True):
    """Two packages of which one breaks the other: ranges (PEP 440) of both; without ``other_range``: where it is missing."""

    package: str
    range: str
    other: str
    says: str
    mend: str
    other_range: str = ""
    severity: Severity = "warning"


class Table(Record, frozen=True, kw_only=True):
    """All that is known. ``training_only`` are the packages that nothing in serving needs, and what each is for."""

    sources: dict[str, Source]
    onnx: tuple[Onnx, ...]
    onnxruntime: tuple[Onnx, ...]
    exporter: tuple[Exporter, ...]
    gpu: tuple[Gpu, ...]
    jetpack: tuple[Jetpack, ...]
    numpy2: tuple[Numpy2, ...]
    metadata: tuple[Metadata, ...]
    pair: tuple[Pair, ...]
    training_only: dict[str, str]


Dated = TypeVar("Dated", Exporter, Gpu)


@cache
def table() -> Table:
    """The table of this release of ours."""
    return msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), Table)


def writes(version: Version) -> Onnx | None:
    """What this onnx writes by default; ``None`` when the table does not know its release."""
    return next((row for row in table().onnx if Version(row.release).release == version.release[:2]), None)


def loads(version: Version) -> Onnx | None:
    """What this onnxruntime loads at most; ``None`` when the table does not know its release."""
    return next((row for row in table().onnxruntime if Version(row.release).release == version.release[:2]), None)


def first_that_loads(package: str, opset: int, ir_version: int) -> str:
    """The first release of this onnxruntime that is known to be there and loads such a model; empty when none does."""
    enough = [row.release for row in table().onnxruntime if row.opset >= opset and row.ir >= ir_version]
    return next((release for release in enough if says(package, Version(release))), "")


def at(rows: Sequence[Dated], package: str, version: Version) -> Dated | None:
    """The row that holds for a version of a package: the last whose ``since`` it has reached, if it is not past its end."""
    held = [row for row in rows if row.package == package and Version(row.since) <= version]
    last = max(held, key=lambda row: Version(row.since), default=None)
    return last if last and not (last.until and version.release[:2] > Version(last.until).release) else None


def says(package: str, version: Version) -> Metadata | None:
    """What the release of a package says of itself."""
    rows = [row for row in table().metadata if row.package == package]
    return next((row for row in rows if Version(row.release).release == version.release[:2]), None)
