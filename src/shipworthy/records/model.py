"""A model, what was found in it, and its variants."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

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

    @property
    def is_read(self) -> bool:
        """Whether more is known of it than its file: check may stop a model before anything loads it."""
        return bool(self.opset or self.signature.inputs or self.signature.outputs)


Severity = Literal["error", "warning", "note"]


class Finding(Record, frozen=True, kw_only=True):
    """One thing a law of ``check`` found, with the evidence and the mend; ``silenced``: the user's reason to live with it."""

    law: str
    severity: Severity
    place: str
    evidence: str
    mend: str = ""
    silenced: str = ""

    @property
    def area(self) -> str:
        """The area of its law: the word before the dot."""
        return self.law.partition(".")[0]


class MemoryPoint(Record, frozen=True, kw_only=True):
    """What a process with the model is predicted to need for calls of so many rows, in MB of 10**6 bytes.

    ``weights_mb`` are the constants; ``activations_mb`` the largest sum of tensors that live at one time; ``total_mb`` what
    resident memory grows by from before the model is loaded, the runtime's own share in it.
    """

    rows: int
    weights_mb: float
    activations_mb: float
    total_mb: float


class Report(Record, frozen=True, kw_only=True):
    """All findings of one model on one target; ``laws`` are the areas of laws that were applied.

    ``memory`` is the prediction by the rows of a call, up to what fits the target's budget.
    """

    model: str
    laws: tuple[str, ...]
    findings: tuple[Finding, ...]
    memory: tuple[MemoryPoint, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a model from going on."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.silenced)

    @property
    def silenced(self) -> tuple[Finding, ...]:
        """The findings that the user lives with, the gravest first."""
        return tuple(sorted((f for f in self.findings if f.silenced), key=_gravity))

    @property
    def by_area(self) -> dict[str, tuple[Finding, ...]]:
        """The other findings by area: areas and, in each, findings, the gravest first."""
        heard = sorted((f for f in self.findings if not f.silenced), key=_gravity)
        return {area: tuple(f for f in heard if f.area == area) for area in dict.fromkeys(f.area for f in heard)}

    @property
    def summary(self) -> str:
        """How many findings there are, as ``1 error, 2 warnings, 5 notes, 1 silenced``."""
        heard = [f.severity for f in self.findings if not f.silenced]
        counts = [(heard.count(word), word) for word in get_args(Severity)]
        parts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts]
        return ", ".join(parts + [f"{len(self.silenced)} silenced"] * bool(self.silenced))

    def __add__(self, other: Report) -> Report:
        """Both, of what is one model: the other's digest and memory, the findings of this one first."""
        laws = tuple(dict.fromkeys(self.laws + other.laws))
        return Report(model=other.model, laws=laws, findings=self.findings + other.findings, memory=other.memory or self.memory)


def _gravity(finding: Finding) -> int:
    return get_args(Severity).index(finding.severity)


Device = Literal["cpu", "cuda"]
Runtime = Literal["onnxruntime", "tensorrt", "openvino"]
# The devices that each runtime runs on here.
RUNTIMES: dict[Runtime, tuple[Device, ...]] = {"onnxruntime": ("cpu", "cuda"), "tensorrt": ("cuda",), "openvino": ("cpu",)}


Precision = Literal["float32", "float16", "bfloat16", "int8"]
Int8Types = Literal["u8s8", "u8s8_reduced", "s8s8", "s8s8_symmetric"]


class Target(Record, frozen=True, kw_only=True):
    """Where a model will run. ``threads`` are those of one call; ``memory_mb`` is its budget, ``None`` for no limit.

    ``tensorrt`` is onnxruntime's TensorRT provider, with CUDA and the CPU for the nodes that it leaves; engines of
    TensorRT's own are planned for such a target, not run. ``RUNTIMES`` says which device goes with which runtime.
    ``precisions`` are those that the device multiplies in by itself; ``precision`` is what a runtime that has the choice
    (OpenVINO) computes float32 in. ``int8`` names what INT8 has to look like there: the types of activations and weights;
    ``reduced`` weights have 7 bits (no VNNI: sums saturate), ``symmetric`` ranges have no zero point and biases are floats
    (TensorRT). ``kind`` is a name of ``targets.KINDS``; empty: the machine that we are on says what it can.
    """

    name: str = "cpu"
    device: Device = "cpu"
    runtime: Runtime = "onnxruntime"
    threads: int = 1
    memory_mb: float | None = None
    precisions: tuple[Precision, ...] = ("float32",)
    int8: Int8Types = "u8s8"
    precision: Precision = "float32"
    kind: str = ""


class Step(Record, frozen=True, kw_only=True):
    """One pass with the options it ran with."""

    name: str
    options: dict[str, Any] = {}


class Variant(Record, frozen=True, kw_only=True):
    """The model after a chain of passes (none: the original).

    ``digest`` is that of its bytes, ``parent`` that of the model the chain began with; ``devices`` are those it is for.
    ``runtime`` and ``precision`` say how it is run where they are not those of the target; two variants may so share a file,
    never a name.
    """

    name: str
    path: str
    digest: str
    parent: str
    chain: tuple[Step, ...]
    devices: tuple[str, ...]
    size_mb: float
    runtime: Runtime | None = None
    precision: Precision | None = None
    notes: tuple[str, ...] = ()

    def on(self, target: Target) -> Target:
        """The target, as this variant is run on it."""
        return msgspec.structs.replace(
            target, runtime=self.runtime or target.runtime, precision=self.precision or target.precision
        )


class Skip(Record, frozen=True, kw_only=True):
    """A variant that was not made, or not kept, and why; ``log``: what a library said that failed."""

    name: str
    reason: str
    log: str = ""


class Made(Record, frozen=True, kw_only=True):
    """What came of one pass: a variant, or the reason why there is none; ``log`` is what the libraries said meanwhile."""

    variant: Variant | None = None
    reason: str = ""
    log: str = ""


class Optimized(Record, frozen=True, kw_only=True):
    """The original first, then the variants that are worth a measurement; what was skipped; whether the budget ended it."""

    variants: tuple[Variant, ...]
    skips: tuple[Skip, ...] = ()
    cut_short: bool = False
