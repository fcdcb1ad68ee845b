"""Passes ``prune`` and ``structured_prune``: weights at zero, and whole channels less.

Zeros make a file smaller where it is compressed; no runtime here is faster by them. Fewer channels are less to compute.
Both train on where a PyTorch model comes with a function for that, ``prune`` where one of Keras 2 does; ``prune`` has one
shot without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from shipworthy.backends import tensorflow_prune, torch, torch_prune
from shipworthy.backends.fine_tune import Tuning
from shipworthy.backends.notes import note
from shipworthy.backends.onnx_graph import nodes
from shipworthy.backends.weights import sparsity_percent
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.optimize import reasons
from shipworthy.optimize.nodes import outline, read, write
from shipworthy.protocols import Arrays
from shipworthy.records import Target

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
# What an exporter may add to the numbers of a module, in points.
MARGIN = 1.0


@dataclass(frozen=True)
class Schedule:
    """The share of zeros over the steps of training: fast at first, slower towards ``final``.

    From ``begin`` to ``end``, both shares of all steps, it is
    ``final + (initial - final) * (1 - progress) ** power``; before, nothing is zero, and afterwards all that will be.
    """

    initial: float = 0.30
    final: float = 0.70
    power: float = 3.0
    begin: float = 0.0
    end: float = 0.5

    def at(self, step: int, steps: int) -> float:
        """The share after a step, which are counted from 1."""
        now = step / steps
        if now < self.begin:
            return 0.0
        progress = min(1.0, (now - self.begin) / (self.end - self.begin)) if self.end > self.begin else 1.0
        return self.final + (self.initial - self.final) * math.pow(1 - progress, self.power)


@dataclass(frozen=True)
class Prune:
    """The smallest weights of all layers together become zero; ``tuning``: step by step, while the model trains on."""

    tuning: Tuning | None = None
    schedule: Schedule = Schedule()
    name: str = "prune"
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        if self.tuning is None:
            return {"method": "one shot", "final": self.schedule.final}
        plan = self.schedule
        shape = {"initial": plan.initial, "final": plan.final, "power": plan.power, "begin": plan.begin, "end": plan.end}
        return {"method": "fine-tuned", **shape, **self.tuning.options}

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """Float weights; with ``tuning``, the file that the trained model was converted to."""
        proto = outline(model)
        said = reasons.quantized(proto) or reasons.in_training(proto)
        if not said and not _weights(proto):
            said = "the model has no float weights of a Conv, Gemm or MatMul"
        return said or _other(self.tuning, model)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Prune, and note in the file the share of zeros that is really in it."""
        if self.tuning is None:
            proto = read(model)
            _one_shot(proto, self.schedule.final)
            write(proto, result)
        elif isinstance(self.tuning, torch.Tuning):
            steps = self.tuning.steps
            torch_prune.sparse(self.tuning, lambda step: self.schedule.at(step, steps), model, result)
        else:
            tensorflow_prune.sparse(self.tuning, self.schedule, model, result)
        found = sparsity_percent(result)
        if found < 100 * self.schedule.final - MARGIN:
            result.unlink()
            raise Refused(
                "too few of the model's numbers are weights that can be zero",
                found=f"{found:.1f} % zero",
                expected=f"{100 * self.schedule.final:.0f} %",
            )
        proto = read(result)
        note(proto, {"sparsity_percent": f"{found:.2f}"})
        write(proto, result)


@dataclass(frozen=True)
class StructuredPrune:
    """``share`` of the channels of every layer go, with all that depends on them, and the model trains on."""

    tuning: torch.Tuning | None = None
    share: float = 0.5
    name: str = "structured_prune"
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def options(self) -> dict[str, Any]:
        """What shapes the result."""
        return {"share": self.share, **(self.tuning.options if self.tuning else {})}

    def requires(self, model: Path, target: Target, calibration: Arrays | None) -> str:  # noqa: ARG002
        """The file that a PyTorch model was converted to, and a function that trains it."""
        if self.tuning is None:
            return "it needs a PyTorch model (.safetensors) that can train on: name fine_tune under [optimize]"
        return _other(self.tuning, model)

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:  # noqa: ARG002
        """Take the channels out, train on, and note in the file what went."""
        assert self.tuning is not None  # noqa: S101 - requires has said no
        cut = torch_prune.narrow(self.tuning, self.share, model, result)
        proto = read(result)
        note(proto, {"channels": ", ".join(f"{name}: {numbers}" for name, numbers in cut.items())})
        write(proto, result)


def _one_shot(proto: onnx.ModelProto, share: float) -> None:
    """Set the smallest weights to zero, so many that ``share`` of all float numbers are."""
    wanted = _weights(proto)
    count = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer if tensor.data_type in FLOATS)
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name in wanted]
    arrays = [numpy_helper.to_array(tensor) for tensor in tensors]
    sizes = np.concatenate([np.abs(array).ravel() for array in arrays])
    keep = np.ones(sizes.size, bool)
    keep[np.argsort(sizes, kind="stable")[: math.ceil(share * count)]] = False
    start = 0
    for tensor, array in zip(tensors, arrays, strict=True):
        kept = keep[start : start + array.size].reshape(array.shape)
        tensor.CopyFrom(numpy_helper.from_array(np.where(kept, array, array.dtype.type(0)), tensor.name))
        start += array.size


def _weights(proto: onnx.ModelProto) -> set[str]:
    """The names of the float weights of layers, in the outermost graph."""
    read_by = {node.input[1] for node in nodes(proto.graph) if node.op_type in WEIGHTED}
    return {
        one.name for one in proto.graph.initializer if one.name in read_by and one.data_type in FLOATS and len(one.dims) > 1
    }


def _other(tuning: Tuning | None, model: Path) -> str:
    if tuning is None or file_digest(model) == tuning.original:
        return ""
    return "it starts from the trained model, so it has to be the first pass of a chain"
