"""What processes cost, from /proc: CPU of a whole tree, its memory, and what everybody else took meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
SUBREAPER = 36
STOP_SECONDS = 10.0
STEAL = 7
BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of the first line of /proc/stat


@dataclass(frozen=True)
class Moment:
    """All counters at one moment, in seconds: CPU by process of the tree, of us and our clients, busy and stolen."""

    clock: float
    tree: dict[int, float]
    ours: float
    busy: float
    stolen: float


@dataclass(frozen=True)
class Spent:
    """Between two moments: CPU seconds of the tree, each process's share of it, and the cores that others took."""

    cpu_seconds: float
    shares: list[float]
    foreign_cores: float


def adopt_orphans() -> None:
    """From now on, processes whose parents die are ours: so a server's tree is never lost from sight."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1)


def tree() -> list[int]:
    """Every descendant of this process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(_fields(int(entry.name))[1])
    found, fresh = [], [os.getpid()]
    while fresh:
        fresh = [pid for pid, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def now() -> Moment:
    """The counters of this moment; no client may be running."""
    cpu: dict[int, float] = {}
    for pid in tree():
        with contextlib.suppress(OSError):
            fields = _fields(pid)
            cpu[pid] = (int(fields[11]) + int(fields[12])) * TICK_SECONDS
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(one.ru_utime + one.ru_stime for one in usage)
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    busy = sum(ticks[i] for i in BUSY) * TICK_SECONDS
    return Moment(time.perf_counter(), cpu, ours, busy, ticks[STEAL] * TICK_SECONDS)


def between(start: Moment, end: Moment) -> Spent:
    """What was spent from ``start`` to ``end``."""
    spent = {pid: cpu - start.tree.get(pid, 0.0) for pid, cpu in end.tree.items()}
    total = sum(spent.values())
    others = (end.busy - start.busy) + (end.stolen - start.stolen) - total - (end.ours - start.ours)
    shares = sorted((100 * one / total for one in spent.values()), reverse=True) if total else []
    return Spent(total, shares, max(0.0, others) / (end.clock - start.clock))


def pss_mb() -> float:
    """Proportional set size of the tree, in MB: a page that n processes share counts 1/n in each."""
    total = 0
    for pid in tree():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def stop(root: int) -> None:
    """End every descendant: ask ``root`` first, kill what is left after a while. Returns when none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGTERM)
    asked = time.monotonic()
    while left := tree():
        if time.monotonic() > asked + STOP_SECONDS:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything: state, parent, …, 11 user, 12 system."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
