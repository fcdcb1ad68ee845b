"""Which chains of passes are tried on a target, the most promising first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shipworthy.backends import torch
from shipworthy.backends.fine_tune import Tuning
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic, Int8Static
from shipworthy.optimize.int8_nncf import Int8Nncf
from shipworthy.optimize.precision import Half
from shipworthy.optimize.prune import Prune, Schedule, StructuredPrune
from shipworthy.protocols import Pass
from shipworthy.records import Precision, Runtime, Target
from shipworthy.settings import OptimizeSettings


@dataclass(frozen=True)
class Candidate:
    """Passes one after the other, and what runs the result where that is not for the target to say.

    ``instead_of`` names a candidate: this one is tried when that one has missed the accuracy that is demanded, and no other
    has taken its place. ``guarded``: the last pass leaves as many nodes in float as the accuracy needs.
    """

    name: str
    chain: tuple[Pass, ...]
    runtime: Runtime | None = None
    precision: Precision | None = None
    instead_of: str = ""
    guarded: bool = False


def candidates(wanted: Sequence[str | Candidate], target: Target) -> Iterator[Candidate]:
    """Everything that the words of ``[optimize] passes`` allow on the target, then the candidates among them.

    INT8 comes first, since it gains most where it holds the accuracy; what only changes the runtime follows, then what
    helps where INT8 is not to be had.
    """
    words = [one for one in wanted if isinstance(one, str)]
    start: tuple[Pass, ...] = (Graph(),) if "graph" in words else ()
    if "graph" in words:
        yield Candidate("graph", start)
    if "int8_static" in words:
        yield Candidate("int8_static", (*start, Int8Static(target.int8)))
        yield Candidate("int8_static_per_tensor", (*start, Int8Static(target.int8, per_channel=False)))
        for method in ("percentile", "entropy"):
            yield Candidate(f"int8_static_{method}", (*start, Int8Static(target.int8, method)), instead_of="int8_static")
        yield Candidate("int8_static_guarded", (*start, Int8Static(target.int8)), instead_of="int8_static", guarded=True)
    if "openvino" in words and target.device == "cpu" and target.runtime != "openvino":
        yield Candidate("openvino", start, "openvino", "float32")
        if "bfloat16" in target.precisions:
            yield Candidate("openvino_bf16", start, "openvino", "bfloat16")
        if "int8_static" in words:
            yield Candidate("openvino_int8", (*start, Int8Static(target.int8)), "openvino", "float32")
            yield Candidate("openvino_int8_nncf", (*start, Int8Nncf()), "openvino", "float32")
    if "int8_dynamic" in words:
        yield Candidate("int8_dynamic", (*start, Int8Dynamic(types=target.int8)))
    if "fp16" in words:
        yield Candidate("fp16", (*start, Half("float16")))
    if {"fp16", "int8_static"} <= set(words) and target.int8 == "s8s8_symmetric":
        # TensorRT: what is not INT8 is FP16, or INT8 may be slower than FP16 alone.
        yield Candidate("int8_static_fp16", (*start, Int8Static(target.int8), Half("float16")))
    if "bf16" in words:
        yield Candidate("bf16", (*start, Half("bfloat16")))
    yield from (one for one in wanted if isinstance(one, Candidate))


def pruned(wanted: OptimizeSettings, target: Target, tuning: Tuning | None) -> Iterator[Candidate]:
    """The chains that begin with a smaller model: of fewer channels, or of more zeros, as many as the settings say.

    They come after all others: training takes minutes. INT8 is next in the chain, since it gains on top of both.
    """
    start: tuple[Pass, ...] = (Graph(),) if "graph" in wanted.passes else ()
    channels = wanted.structured_prune_percent / 100
    schedule = Schedule(
        initial=wanted.prune_initial_percent / 100,
        final=wanted.prune_final_percent / 100,
        begin=wanted.prune_begin_percent / 100,
        end=wanted.prune_end_percent / 100,
    )
    steps: dict[str, Pass] = {
        "structured_prune": StructuredPrune(tuning if isinstance(tuning, torch.Tuning) else None, channels),
        "prune": Prune(tuning, schedule),
    }
    for word, step in steps.items():
        if word in wanted.passes:
            yield Candidate(word, (step, *start))
            if "int8_static" in wanted.passes:
                yield Candidate(f"{word}_int8", (step, *start, Int8Static(target.int8)))
