"""The seams: what others may bring, each with at most five methods. Their laws are in ``shipworthy.testing``.

Protocols, not base classes: an implementer imports nothing of ours. They are for the type checker; nothing here is
tested with ``isinstance``. Before a method is added, ask whether a free function would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shipworthy.records import Promotion, Record, Release, Signature, Target

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]


class Runner(Protocol):
    """A loaded model. One thread may call ``run`` while another does."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        ...

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Answer one batch: every input by name, rows along the first axis; every output by name, rows alike.

        Raises:
            Refused: an input is missing, unknown, or of another dtype or shape than the signature says.
            Failed: the runtime could not run the batch.
        """
        ...

    def close(self) -> None:
        """Give the memory back; may be called twice."""
        ...


class Pass(Protocol):
    """One transformation of a model that keeps its signature."""

    @property
    def name(self) -> str:
        """The word that settings, chains and reports use."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Everything that shapes the result beside the model and the calibration data; part of the variant's identity."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices whose runtimes gain by the result."""
        ...

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:
        """Why the pass cannot be applied here, in one sentence; empty when it can."""
        ...

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Read ``model``, write ``result``; never touch ``model``."""
        ...


class Registry(Protocol):
    """Releases, aliases and the log of every promotion. Each method is one transaction."""

    def add(self, name: str, bundle: str, by: str) -> Release:
        """Give the bundle the next version number; the same bundle again gives the release it already has."""
        ...

    def get(self, name: str, which: str | int) -> Release:
        """The release of that version number or alias.

        Raises:
            NotFound: there is none; the message names those there are.
        """
        ...

    def swap(self, name: str, alias: str, *, expected: int | None, version: int | None, by: str, reason: str) -> Promotion:
        """Move ``alias`` from ``expected`` (``None``: it does not exist) to ``version`` (``None``: remove it), and log it.

        Raises:
            Conflict: the alias is not at ``expected`` any more; nothing was changed.
            NotFound: there is no such version.
        """
        ...

    def log(self, name: str) -> tuple[Promotion, ...]:
        """Every promotion of that name, oldest first; never shortened, never edited."""
        ...

    def releases(self, name: str | None = None) -> tuple[Release, ...]:
        """All releases, or those of one name, oldest first."""
        ...


class Sink(Protocol):
    """Takes records while they happen (progress now; events later). Must not raise."""

    def emit(self, record: Record) -> None:
        """Take one record."""
        ...


class Quiet:
    """The sink that drops everything: the default of the Python API."""

    def emit(self, record: Record) -> None:
        """Drop it."""


__all__ = ["Array", "Arrays", "Pass", "Quiet", "Registry", "Runner", "Sink"]
