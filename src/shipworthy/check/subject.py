"""What the laws look at: a file before anything loads it, and the model that it became."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from shipworthy.data import Dataset
from shipworthy.protocols import Array, Runner
from shipworthy.records import Model, Target


@dataclass(frozen=True)
class Origin:
    """The trained file, or the ONNX file that it became, as bytes that nobody has loaded, and what it is to run beside.

    ``named`` is the path that messages say. ``serving`` and ``training`` are lists of packages: requirements.txt,
    pyproject.toml, conda.yaml, what MLflow has logged.
    """

    path: Path
    named: Path
    target: Target = field(default_factory=Target)
    trust: bool = False
    serving: tuple[Path, ...] = ()
    training: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Subject:
    """One model before the laws.

    ``reference`` gives the trained framework's own answers for the inputs of ``data``, in the order of the signature's
    outputs; ``None`` when the model came as ONNX and there is nothing to compare with.
    """

    model: Model
    proto: onnx.ModelProto
    runner: Runner
    data: Dataset | None
    reference: Callable[[dict[str, Array]], list[Array]] | None
    target: Target = field(default_factory=Target)
