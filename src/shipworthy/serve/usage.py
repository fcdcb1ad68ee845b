"""What processes take of the machine, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """CPU time since they began, in user and system mode, and resident memory, in which what they share counts for each."""

    cpu_seconds: float
    resident_bytes: int


def mine() -> Usage:
    """Of this process."""
    times = os.times()
    return Usage(times.user + times.system, _of(os.getpid()).resident_bytes)


def of_children(pids: Iterable[int]) -> Usage:
    """Of these children of this process; the CPU time of those that have ended is in it."""
    times = os.times()
    each = [_of(pid) for pid in pids]
    ended = times.children_user + times.children_system
    ticks = round((ended + sum(one.cpu_seconds for one in each)) * os.sysconf("SC_CLK_TCK"))
    # In whole ticks: by a rounding less than before would be taken for a counter that began anew.
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), sum(one.resident_bytes for one in each))


def _of(pid: int) -> Usage:
    """Of one process; nothing, when it has gone."""
    with contextlib.suppress(OSError):
        # The name of the program, in brackets, may hold anything; what follows it are numbers: see proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        user, system, pages = int(fields[11]), int(fields[12]), int(fields[21])
        return Usage((user + system) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))
    return Usage(0.0, 0)
