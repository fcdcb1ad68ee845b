"""The kinds of places where models run: what each multiplies in by itself, and what INT8 has to look like there. Pure.

Sources: types of INT8, docs/optimize.md; precisions of the Jetsons, NVIDIA's data sheets (AGX Xavier: Volta, FP16 and INT8;
AGX Orin: Ampere, BF16 too); their memory, which CPU and GPU share, is that of the 32 GB modules.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec.structs import replace

from shipworthy.records import Int8Types, Machine, MemoryPoint, Precision, Target

Kind = Literal[
    "cpu-x86-vnni",
    "cpu-x86",
    "cpu-arm",
    "openvino-cpu",
    "cuda",
    "tensorrt-10",
    "tensorrt-11",
    "jetson-agx-xavier",
    "jetson-orin",
]

# Resident memory of a process of ours that has its runtime and has loaded no model (docs/memory.md); part of every budget.
PROCESS_MB = 66.0
VNNI = {"avx512_vnni", "avx_vnni"}
# What the name of the board, or of the GPU, holds.
BOARDS = {"jetson-agx-xavier": "Xavier", "jetson-orin": "Orin"}
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
ARM = {"aarch64", "arm64"}
_GPU: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8")
_VOLTA: tuple[Precision, ...] = ("float32", "float16", "int8")
_INT8: tuple[Precision, ...] = ("float32", "int8")

KINDS: dict[str, Target] = {
    one.name: replace(one, kind=one.name)
    for one in (
        Target(name="cpu-x86-vnni", precisions=_INT8),
        Target(name="cpu-x86", int8="u8s8_reduced"),
        Target(name="cpu-arm", precisions=_INT8, int8="s8s8"),
        Target(name="openvino-cpu", runtime="openvino", precisions=_INT8),
        Target(name="cuda", device="cuda", precisions=_GPU, int8="s8s8_symmetric"),
        Target(name="tensorrt-10", device="cuda", runtime="tensorrt", precisions=_GPU, int8="s8s8_symmetric"),
        Target(name="tensorrt-11", device="cuda", runtime="tensorrt", precisions=_GPU, int8="s8s8_symmetric"),
        Target(
            name="jetson-agx-xavier",
            device="cuda",
            runtime="tensorrt",
            precisions=_VOLTA,
            int8="s8s8_symmetric",
            memory_mb=32_000.0,
        ),
        Target(
            name="jetson-orin",
            device="cuda",
            runtime="tensorrt",
            precisions=_GPU,
            int8="s8s8_symmetric",
            memory_mb=32_000.0,
        ),
    )
}
assert tuple(KINDS) == get_args(Kind)  # noqa: S101  one list, twice written for the type checker


def whole_mb(point: MemoryPoint) -> float:
    """The process before it loads anything, and what it grows by, in MB: what a budget is for."""
    return PROCESS_MB + point.total_mb


def fit(target: Target, machine: Machine) -> Target:
    """The target with what the machine says of it; one of a kind that was named stays as it is."""
    if target.kind:
        return target
    if target.device == "cuda":
        like = KINDS["cuda"]
        return replace(target, precisions=like.precisions, int8=like.int8)
    isa = set(machine.isa)
    precisions: tuple[Precision, ...] = ("float32",)
    int8: Int8Types = "u8s8" if isa & VNNI else "u8s8_reduced"
    if any(name in machine.system for name in ARM):
        int8 = "s8s8"
    if isa & BF16:
        precisions += ("bfloat16",)
    if int8 != "u8s8_reduced":
        precisions += ("int8",)
    return replace(target, precisions=precisions, int8=int8)


def is_here(target: Target, machine: Machine) -> str:
    """Why figures of the target cannot be taken on this machine; empty when they can."""
    gpus = ", ".join(machine.gpus)
    if target.device == "cuda":
        board = BOARDS.get(target.kind, "")
        if not machine.gpus:
            return "it has no NVIDIA GPU that the kernel tells of"
        return "" if board in gpus else f"it is no {board}: its GPU is {gpus}"
    arm = any(name in machine.system for name in ARM)
    if target.kind == "cpu-arm" and not arm:
        return f"it is no ARM: {machine.system}"
    if target.kind in {"cpu-x86", "cpu-x86-vnni"} and arm:
        return f"it is no x86: {machine.system}"
    if target.kind == "cpu-x86-vnni" and not set(machine.isa) & VNNI:
        return "its CPU has no VNNI"
    return ""
