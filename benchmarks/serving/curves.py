"""Goodput and P99 against offered load, as one SVG picture in the colours of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shipworthy.measure.report import palette
from shipworthy.measure.report.axes import Axis, Box
from shipworthy.measure.report.markup import Markup, join, tag

WIDTH, HEIGHT = 720.0, 330.0
COLOURS = ("accent", "warn", "bad", "good", "mute")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 5")
STYLE = """
.sw text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink)}
.sw .soft{fill:var(--soft)}
.sw .card{fill:var(--card)}
.sw .grid{stroke:var(--line)}
.sw .limit{stroke:var(--soft);stroke-dasharray:5 4}
.sw polyline{fill:none;stroke-width:2}
"""


@dataclass(frozen=True)
class Point:
    """What was seen at one load: offered load and goodput over what is sustainable, and P99 in ms."""

    load: float
    goodput: float
    p99_ms: float


def draw(curves: Mapping[str, Sequence[Point]], limit_ms: float, note: str) -> str:
    """Two panels side by side, a line for each server; ``limit_ms`` is drawn across the second."""
    most = max(point.load for points in curves.values() for point in points)
    slowest = max(limit_ms, *(point.p99_ms for points in curves.values() for point in points))
    left, right = Box(48.0, 64.0, 340.0, HEIGHT - 56.0), Box(412.0, 64.0, WIDTH - 18.0, HEIGHT - 56.0)
    best = max(1.0, *(point.goodput for points in curves.values() for point in points))
    panels = [
        _panel(curves, "Goodput, of what is sustainable", left, most, 1.05 * best, lambda point: point.goodput),
        _panel(curves, "P99 of what was not refused, s", right, most, 1.05 * slowest / 1000, lambda point: point.p99_ms / 1000),
    ]
    limit = Axis(0, 1.05 * slowest / 1000, right.bottom, right.top).at(limit_ms / 1000)
    panels.append(tag("line", x1=right.left, y1=limit, x2=right.right, y2=limit, class_="limit"))
    keys = [_key(name, i) for i, name in enumerate(curves)]
    told = "; ".join(
        f"{name}: " + ", ".join(f"at {p.load:g} times {p.goodput:.2f}, P99 {p.p99_ms:,.0f} ms" for p in points)
        for name, points in curves.items()
    )
    colours = "".join(f".sw .line{i}{{stroke:var(--{colour})}}" for i, colour in enumerate(COLOURS))
    return tag(
        "svg",
        tag("title", "Goodput and P99 under overload", id="overload-title"),
        tag("desc", told, id="overload-desc"),
        tag("style", Markup(palette.variables(".sw") + STYLE + colours)),
        tag("rect", class_="card", width=WIDTH, height=HEIGHT, rx=10.0),
        *keys,
        *panels,
        tag("text", note, x=left.left, y=HEIGHT - 10.0, class_="soft"),
        xmlns="http://www.w3.org/2000/svg",
        class_="sw",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
        aria_labelledby="overload-title overload-desc",
    )


def _panel(
    curves: Mapping[str, Sequence[Point]], title: str, frame: Box, most: float, top: float, value: Callable[[Point], float]
) -> Markup:
    across, up = Axis(0, most, frame.left, frame.right), Axis(0, top, frame.bottom, frame.top)
    parts = [tag("text", title, x=frame.left, y=frame.top - 10.0)]
    for y, text in up.ticks(5):
        parts.append(tag("line", x1=frame.left, y1=y, x2=frame.right, y2=y, class_="grid"))
        parts.append(tag("text", text, x=frame.left - 6.0, y=y + 4.0, class_="soft", text_anchor="end"))
    for x, text in across.ticks(5):
        parts.append(tag("text", f"{text} x", x=x, y=frame.bottom + 18.0, class_="soft", text_anchor="middle"))
    for i, points in enumerate(curves.values()):
        line = " ".join(f"{across.at(point.load):.1f},{up.at(value(point)):.1f}" for point in points)
        parts.append(tag("polyline", points=line, class_=f"line{i}", stroke_dasharray=DASHES[i] or None))
    return join(*parts)


def _key(name: str, i: int) -> Markup:
    x = 48.0 + 130.0 * i
    line = tag("polyline", points=f"{x:g},24 {x + 28:g},24", class_=f"line{i}", stroke_dasharray=DASHES[i] or None)
    return join(line, tag("text", name, x=x + 36.0, y=28.0))
