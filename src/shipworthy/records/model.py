"""A model, what was found in it, and its variants."""

from __future__ import annotations

from typing import Any, Literal

from shipworthy.records.base import Record


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

    @property
    def is_batched(self) -> bool:
        """Whether rows, any number of them, lie along the first axis of every input and output."""
        return all(spec.shape and spec.shape[0] is None for spec in (*self.inputs, *self.outputs))


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


Device = Literal["cpu", "cuda"]
Runtime = Literal["onnxruntime", "tensorrt", "openvino"]
# The devices that each runtime runs on here.
RUNTIMES: dict[Runtime, tuple[Device, ...]] = {"onnxruntime": ("cpu", "cuda"), "tensorrt": ("cuda",), "openvino": ("cpu",)}


class Target(Record, frozen=True, kw_only=True):
    """Where a model will run. ``threads`` are those of one call; ``memory_mb`` is its budget, ``None`` for no limit.

    ``tensorrt`` is onnxruntime's TensorRT provider, with CUDA and the CPU for the nodes that it leaves; engines of
    TensorRT's own are not made. ``RUNTIMES`` says which device goes with which runtime.
    """

    name: str = "cpu"
    device: Device = "cpu"
    runtime: Runtime = "onnxruntime"
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
