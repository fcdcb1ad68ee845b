"""Memory back to the system: the C library keeps what was freed, which after a model was unloaded is a lot."""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Give back what is free; where the C library cannot (musl has no ``malloc_trim``), nothing happens."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)
