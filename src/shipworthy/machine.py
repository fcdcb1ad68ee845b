"""What machine this is, part of the identity of every figure taken on it; and its memory, given back."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata
from pathlib import Path

from shipworthy.records import Machine

# Instruction sets that decide which precision pays: x86 first, then ARM.
TELLING = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
GPUS, BOARD = Path("/proc/driver/nvidia/gpus"), Path("/proc/device-tree/model")
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "numpy", "shipworthy")


def describe() -> Machine:
    """This machine, and the versions that shape a figure."""
    cpu = _cpuinfo()
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    return Machine(
        cpu=cpu.get("model name") or platform.processor() or platform.machine(),
        isa=tuple(flag for flag in TELLING if flag in flags),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
        gpus=_gpus(),
    )


def trim() -> None:
    """Give free memory back to the system: the C library keeps what was freed, which after a model was unloaded is a lot.

    Where it cannot (musl has no ``malloc_trim``), nothing happens.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpuinfo() -> dict[str, str]:
    return _pairs(_text(Path("/proc/cpuinfo")).split("\n\n")[0])


def _gpus() -> tuple[str, ...]:
    """NVIDIA's GPUs as its driver shows them; a Jetson's has no entry there, and the board tells of it."""
    found = [_pairs(_text(one)).get("Model", "") for one in sorted(GPUS.glob("*/information"))]
    board = _text(BOARD).rstrip("\0")
    return (*filter(None, found), *([board] if "Jetson" in board else []))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _pairs(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
