"""What the laws look at: the model in all its forms, and rows for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from shipworthy.data import Dataset
from shipworthy.protocols import Array, Runner
from shipworthy.records import Model


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
