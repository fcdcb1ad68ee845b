"""Memory back to the system: the C library keeps what was freed, which after a model was unloaded is a lot."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def trim() -> None:
    """Give back what is free; where the C library cannot (musl has no ``malloc_trim``), nothing happens."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)


def own_bytes() -> int:
    """Resident memory of this process that is no file's: those are shared, and a forked process has them once it reads them."""
    _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text(encoding="utf-8").split())
    return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
