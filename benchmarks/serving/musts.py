"""What our server must reach, and aims at, beside the best of the others in the same run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.servers import OURS
from serving.table import BARE, Line
from serving.wires import KIND


@dataclass(frozen=True)
class Must:
    """One figure: how it is had from the lines (``None``: they do not hold it), its unit, the least good value, and the aim."""

    what: str
    value: Callable[[Sequence[Line]], float | None]
    unit: str
    must: float | None
    aim: float | None = None
    at_least: bool = False


def show(lines: Sequence[Line]) -> str:
    """The table of what was reached, in Markdown; empty when the lines hold none of it."""
    rows = []
    for one in MUSTS:
        value = one.value(lines)
        if value is None:
            continue
        sign = "≥" if one.at_least else "≤"
        limits = [f"{sign} {limit:g}" if limit is not None else "" for limit in (one.must, one.aim)]
        rows.append(f"| {one.what} | {value:.2f} {one.unit} | {limits[0]} | {limits[1]} | {_judged(one, value)} |")
    head = ["### What must be reached", "", "| figure | measured | must | aim | |", "|---|---:|---:|---:|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def _judged(one: Must, value: float) -> str:
    def holds(limit: float | None) -> bool:
        return limit is not None and (value >= limit if one.at_least else value <= limit)

    if holds(one.aim):
        return "aim reached"
    return "reached" if holds(one.must) else "**missed**"


def _ours(case: str, wire: str, name: str) -> Callable[[Sequence[Line]], float | None]:
    """One of our figures."""
    return lambda lines: next(
        (getattr(line, name) for line in lines if (line.case, line.server, line.wire) == (case, OURS, wire)), None
    )


def _share(lines: Sequence[Line]) -> float | None:
    """The part of the busiest process in the CPU of our tree, with few connections."""
    found = [line.shares_percent for line in lines if (line.case, line.server) == ("few", OURS)]
    return found[0][0] if found else None


def _times(wire: str) -> Callable[[Sequence[Line]], float | None]:
    """Our requests/s over the best of the others, over the same kind of wire."""

    def value(lines: Sequence[Line]) -> float | None:
        light = [line for line in lines if line.case == "light" and KIND[line.wire] == KIND[wire]]
        ours = [line.requests_a_second for line in light if line.server == OURS]
        others = [line.requests_a_second for line in light if line.server != OURS]
        return ours[0] / max(others) if ours and others else None

    return value


def _over_bare(wire: str, *, percent: bool) -> Callable[[Sequence[Line]], float | None]:
    """Our CPU a request over that of a bare loop: ms, or percent of it."""

    def value(lines: Sequence[Line]) -> float | None:
        ours = _ours("heavy", wire, "cpu_us")(lines)
        bare = next((line.cpu_us for line in lines if line.server == BARE), None)
        if ours is None or bare is None:
            return None
        return 100 * (ours - bare) / bare if percent else (ours - bare) / 1000

    return value


def _start(lines: Sequence[Line]) -> float | None:
    """Our start over the best of the others'."""
    light = [line for line in lines if line.case == "light"]
    ours = [line.start_seconds for line in light if line.server == OURS]
    others = [line.start_seconds for line in light if line.server != OURS]
    return min(ours) / min(others) if ours and others else None


MUSTS = (
    Must("light, JSON: CPU a request", _ours("light", "v2json", "cpu_us"), "µs", 38, 28),
    Must("light, binary: CPU a request", _ours("light", "v2binary", "cpu_us"), "µs", 32, 24),
    Must("light, gRPC: CPU a request", _ours("light", "grpc", "cpu_us"), "µs", 90, 50),
    Must("light, JSON: requests/s over the best of the others", _times("v2json"), "times", 2.5, 3.5, at_least=True),
    Must("light, binary: requests/s over the best of the others", _times("v2binary"), "times", 1.5, 2, at_least=True),
    Must("light: start to first answer over the best of the others", _start, "times", 1),
    Must("light: start to first answer", _ours("light", "v2json", "start_seconds"), "s", None, 0.6),
    Must("light: memory of the tree, two workers", _ours("light", "v2json", "pss_mb"), "MB", 130, 100),
    Must("1,000 idle connections", _ours("few", "v2binary", "idle_mb"), "MB", 20),
    Must("8 connections: the busiest process", _share, "%", 65),
    Must("heavy, binary: over bare onnxruntime", _over_bare("v2binary", percent=True), "%", 3),
    Must("heavy, JSON: over bare onnxruntime", _over_bare("v2json", percent=False), "ms", 12, 6),
)
