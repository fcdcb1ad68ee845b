"""What is printed: one line a server and wire, and how ours stands to the best of the others."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from serving.servers import OURS
from serving.wires import KIND

TEXTS = ("server", "wire")
NUMBERS = ("requests/s", "P50 ms", "P99 ms", "CPU µs a request", "CPU by process %", "PSS MB", "1,000 idle MB", "start s")
NUMBERS += ("foreign cores", "errors")
BARE = "bare onnxruntime"
MENTIONED_PERCENT = 3


@dataclass(frozen=True)
class Window:
    """One server under one load for one stretch of time; the units are in the names."""

    case: str
    server: str
    wire: str
    requests: int
    requests_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    shares_percent: list[float]
    errors: int
    foreign_cores: float
    pss_mb: float
    start_seconds: float
    idle_mb: float | None = None


@dataclass(frozen=True)
class Line:
    """The medians over the windows of one server and wire; the best start, the most idle memory and foreign load."""

    case: str
    server: str
    wire: str
    requests_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    shares_percent: list[float]
    pss_mb: float
    start_seconds: float
    foreign_cores: float
    errors: int
    windows: int
    idle_mb: float | None


def lines(windows: Iterable[Window]) -> list[Line]:
    """One line a case, server and wire; the least CPU a request first."""
    groups: dict[tuple[str, str, str], list[Window]] = defaultdict(list)
    for window in windows:
        groups[window.case, window.server, window.wire].append(window)
    made = [_line(group) for group in groups.values()]
    return sorted(made, key=lambda line: line.cpu_us)


def _line(group: list[Window]) -> Line:
    def median(name: str) -> float:
        return statistics.median(getattr(window, name) for window in group)

    first = group[0]
    return Line(
        first.case,
        first.server,
        first.wire,
        median("requests_a_second"),
        median("p50_ms"),
        median("p99_ms"),
        median("cpu_us"),
        max((window.shares_percent for window in group), key=lambda shares: shares[:1]),
        median("pss_mb"),
        min(window.start_seconds for window in group),
        max(window.foreign_cores for window in group),
        sum(window.errors for window in group),
        len(group),
        max((window.idle_mb for window in group if window.idle_mb is not None), default=None),
    )


def show(title: str, made: list[Line]) -> str:
    """The table of one case, in Markdown."""
    head = "| " + " | ".join(TEXTS + NUMBERS) + " |"
    rule = "|" + "---|" * len(TEXTS) + "---:|" * len(NUMBERS)
    return "\n".join([f"### {title}", "", head, rule, *(_row(line) for line in made), "", *_ratios(made)])


def _row(line: Line) -> str:
    shares = " ".join(f"{share:.0f}" for share in line.shares_percent if share >= MENTIONED_PERCENT)
    cells = [
        f"**{line.server}**" if line.server == OURS else line.server,
        line.wire,
        f"{line.requests_a_second:,.1f}" if line.requests_a_second < 100 else f"{line.requests_a_second:,.0f}",  # noqa: PLR2004
        f"{line.p50_ms:.2f}",
        f"{line.p99_ms:.2f}",
        f"{line.cpu_us:,.1f}" if line.cpu_us < 100 else f"{line.cpu_us:,.0f}",  # noqa: PLR2004
        shares,
        f"{line.pss_mb:.0f}" if line.pss_mb else "",
        "" if line.idle_mb is None else f"{line.idle_mb:.1f}",
        f"{line.start_seconds:.2f}" if line.start_seconds else "",
        f"{line.foreign_cores:.2f}",
        str(line.errors),
    ]
    return "| " + " | ".join(cells) + " |"


def _ratios(made: list[Line]) -> list[str]:
    """Ours against the best of the others, by kind of wire."""
    said = []
    for kind in dict.fromkeys(KIND.values()):
        same = [line for line in made if KIND.get(line.wire) == kind]
        ours = [line for line in same if line.server == OURS]
        others = [line for line in same if line.server != OURS]
        if not ours or not others:
            continue
        least, most = min(others, key=lambda line: line.cpu_us), max(others, key=lambda line: line.requests_a_second)
        said.append(
            f"- {kind}: CPU a request, {least.server}'s is {least.cpu_us / ours[0].cpu_us:.2f} times ours; "
            f"requests/s, ours are {ours[0].requests_a_second / most.requests_a_second:.2f} times {most.server}'s"
        )
    bare = [line for line in made if line.server == BARE]
    for line in made:
        if bare and line.server == OURS:
            more = line.cpu_us - bare[0].cpu_us
            said.append(
                f"- {line.wire} over {BARE}: {more / 1e3:+.2f} ms of CPU a request, {100 * more / bare[0].cpu_us:+.1f} %"
            )
    return said
