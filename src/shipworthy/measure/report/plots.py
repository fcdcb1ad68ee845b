"""The pictures of the report, as SVG text that stands in the page and by itself, in light and in dark.

Each function takes the shipment and the width in pixels the picture is drawn for, and returns one ``<svg>`` element,
or an empty string where the figures it would show were not taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shipworthy.measure.report import draw, rows, wording
from shipworthy.measure.report.axes import Axis, Box, covered, padded, place, shortened, text_width
from shipworthy.measure.report.markup import Markup, join, tag
from shipworthy.measure.report.rows import Entry
from shipworthy.records import Figure, Metric, Shipment

WIDE, MIDDLE, NARROW = 920, 720, 360
"""Widths to draw for: a page, a README, and a telephone."""

_TEXT = 12.5
_HEIGHT = {True: 400.0, False: 370.0}
_LINE = 18.0
_DOT = 5.5
_TICKS_EVERY = 70.0
_FAR = 1.5
_TO_ONE = {"f1", "auc", "cosine"}


@dataclass(frozen=True, slots=True)
class _Point:
    """A variant in the plot of accuracy against latency."""

    entry: Entry
    latency: Figure
    accuracy: Figure
    tail: float | None

    @property
    def name(self) -> str:
        return self.entry.name


def accuracy_latency(shipment: Shipment, width: int = MIDDLE) -> str:
    """The metric against the P50 latency of one row: a labelled point for each variant, its intervals as whiskers.

    The variant that ships stands out, refused ones are hollow. Gates on metric and latency are lines, the side that
    misses them is tinted; with a gate on P99 that is not far off, a dotted tail leads from each point to its P99.
    """
    points = _points(shipment)
    if not points:
        return Markup()
    by = rows.metric(shipment)
    frame = Box(52.0, 42.0 if width > NARROW else 78.0, width - 18.0, _HEIGHT[width > NARROW] - 50.0)
    across, up = _axes(shipment, points, frame)
    taken = [_around(point, across, up) for point in points]
    thin = [box for point in points for box in _whiskers(point, across, up)]
    gates = _gates(shipment, points, (across, up), taken, thin)
    marks = join(*(_mark(point, across, up) for point in points))
    labels = _labels(points, (across, up), frame, taken, thin)
    key = _legend(points, frame, beside=width > NARROW)
    told = "; ".join(
        f"{point.name}: {wording.single(by.figure, point.accuracy.median, by.unit)} at "
        f"{wording.single('p50_ms', point.latency.median, 'ms')}, {point.entry.verdict}"
        for point in points
    )
    words = rows.answers(by)
    title = f"{words[:1].upper()}{words[1:]} against P50 latency of every variant"
    body = join(_grid(across, up, frame, by), gates, marks, labels, key)
    return draw.picture(f"accuracy-latency-{width}", title, told, (width, frame.bottom + 50.0), body)


def size_memory(shipment: Shipment, width: int = MIDDLE) -> str:
    """Two panels of bars from zero: size of the file and memory of a process, in MB, with the gates on them."""
    entries = rows.field(shipment)
    names = [name for name in ("size_mb", "memory_mb") if any(entry.value(name) is not None for entry in entries)]
    if not names:
        return Markup()
    beside = width > NARROW
    margin = 18.0
    room = min(max(text_width(entry.name, _TEXT) for entry in entries) + 8.0, 190.0 if beside else 118.0)
    height = 34.0 + len(entries) * 27.0
    panels, told = [], []
    for n, name in enumerate(names):
        if beside:
            part = (width - 2 * margin - room - 28.0 * (len(names) - 1)) / len(names)
            left, top = margin + room + n * (part + 28.0), margin
        else:
            part, left, top = width - 2 * margin - room, margin + room, margin + n * (height + 16.0)
        area = Box(left, top, left + part, top + height)
        panels.append(_panel(shipment, entries, name, area, names_room=room if n == 0 or not beside else 0.0))
        values = [(entry.name, entry.value(name)) for entry in entries]
        listed = ", ".join(f"{one} {wording.single(name, value, 'MB')}" for one, value in values if value is not None)
        told.append(f"{wording.label(name)}: {listed}")
    whole = margin * 2 + (height if beside else len(names) * (height + 16.0) - 16.0)
    return draw.picture(
        f"size-memory-{width}", "Size and memory of every variant", "; ".join(told), (width, whole), join(*panels)
    )


# ---------------------------------------------------------------- accuracy against latency


def _points(shipment: Shipment) -> list[_Point]:
    """The variants with both figures; the one that ships last, so that it is drawn on top."""
    gate, entries, found = rows.binding_gate(shipment, "p99_ms"), rows.field(shipment), []
    tails = gate is not None and gate.limit <= _FAR * max((entry.value("p99_ms") or 0.0 for entry in entries), default=0.0)
    for entry in entries:
        latency, accuracy = entry.figure("p50_ms"), entry.quality
        if latency and accuracy and accuracy.low >= 0:
            found.append(_Point(entry, latency, accuracy, entry.value("p99_ms") if tails else None))
    return sorted(found, key=lambda point: point.entry.state == "ships")


def _axes(shipment: Shipment, points: Sequence[_Point], frame: Box) -> tuple[Axis, Axis]:
    """The scales: wide enough for every interval, and for the gates that are not far off."""
    times = [value for p in points for value in (p.latency.low, p.latency.median, p.latency.high, p.tail) if value is not None]
    shares = [value for p in points for value in (p.accuracy.low, p.accuracy.median, p.accuracy.high)]
    times += _near([limit for limit, _ in _time_limits(shipment)], times, max(times))
    least = 1.0 if rows.metric(shipment).unit == "%" else 0.02 * max(shares)
    shares += _near([limit for limit, _ in _share_limits(shipment, points)], shares, least)
    across = Axis(*padded(times, 0.3 * max(times)), frame.left, frame.right)
    up = Axis(*padded(shares, least), frame.bottom, frame.top)
    return across, up


def _near(limits: Sequence[float], values: Sequence[float], reach: float) -> list[float]:
    """The limits that may widen the range of the values without pressing them into a corner."""
    room = max((max(values) - min(values)) * _FAR, reach)
    return [limit for limit in limits if min(values) - room <= limit <= max(values) + room]


def _time_limits(shipment: Shipment) -> list[tuple[float, str]]:
    gates = [rows.binding_gate(shipment, name) for name in ("p50_ms", "p99_ms")]
    return [(g.limit, f"gate: {wording.label(g.figure).split()[0]} {wording.limit(g)}") for g in gates if g]


def _share_limits(shipment: Shipment, points: Sequence[_Point]) -> list[tuple[float, str]]:
    """The limit on the metric that binds: the gate itself, or the share of the original's that must be kept."""
    limits, by = [], rows.metric(shipment)
    gate = rows.binding_gate(shipment, by.figure)
    if gate:
        limits.append((gate.limit, f"gate: {rows.answers(by)} {wording.limit(gate)}"))
    kept = rows.binding_gate(shipment, by.kept)
    original = next((p for p in points if p.name == rows.field(shipment)[0].name), None)
    if kept and original and kept.limit > 0:
        share = kept.limit / 100.0 if by.more else 100.0 / kept.limit
        limits.append((share * original.accuracy.median, f"gate: {rows.answers(by)} kept {wording.limit(kept)}"))
    return sorted(limits, reverse=not by.more)[-1:]


def _gates(shipment: Shipment, points: Sequence[_Point], axes: tuple[Axis, Axis], taken: list[Box], thin: list[Box]) -> Markup:
    """The gates as lines, the side that misses them tinted; their words stand clear of the marks.

    The words join ``taken`` and the lines join ``thin``. A gate off the scale has no line: an arrow at the edge
    says where it lies.
    """
    across, up = axes
    left, right, bottom, top = across.start, across.end, up.start, up.end
    zones, lines, words = [], [], []
    for limit, text in _share_limits(shipment, points):
        y, arrow = up.at(limit), _off(up, limit, "↓", "↑")
        if not arrow:
            start, end = (y, bottom) if rows.metric(shipment).more else (top, y)
            zones.append(tag("rect", x=left, y=start, width=right - left, height=end - start, class_="beyond"))
            lines.append(draw.line(left, y, right, y, "limit"))
        below, above = max(y, top) + 3.0, min(y, bottom) - 19.0
        words.append((text + arrow, [(share, height) for height in (below, above) for share in (1.0, 0.0, 0.5)]))
        thin.append(Box(left, y - 1.0, right, y + 1.0))
    for limit, text in _time_limits(shipment):
        x, arrow = across.at(limit), _off(across, limit, "←", "→")
        if not arrow:
            zones.append(tag("rect", x=x, y=top, width=right - x, height=bottom - top, class_="beyond"))
            lines.append(draw.line(x, top, x, bottom, "limit"))
        beside = [
            (side, height)
            for height in (top + 3.0, top + 20.0, bottom - 19.0, bottom - 36.0)
            for side in _sides(x, text, across)
        ]
        words.append((text + arrow, beside))
        thin.append(Box(x - 1.0, top, x + 1.0, bottom))
    drawn = []
    for text, places in words:
        wide = text_width(text, _TEXT) + 4.0
        lefts = [(left + 4.0 + share * (right - left - wide - 8.0), height) for share, height in places]
        tall = ((x, min(max(y, top + 2.0), bottom - 18.0)) for x, y in lefts)
        box = min((Box(x, y, x + wide, y + 16.0) for x, y in tall), key=lambda one: covered(one, [*taken, *thin]))
        taken.append(box)
        drawn.append(draw.text(text, (box.left + box.right) / 2, box.bottom - 4.0, "gate halo", "middle"))
    return join(*zones, *lines, *drawn)


def _off(axis: Axis, limit: float, lower: str, upper: str) -> str:
    """An arrow, when the limit lies off the scale."""
    return f" {lower}" if limit < axis.low else f" {upper}" if limit > axis.high else ""


def _sides(x: float, text: str, across: Axis) -> list[float]:
    """Left and right of a line at ``x``, as shares of the room that words of that width have."""
    wide = text_width(text, _TEXT) + 12.0
    room = max(across.end - across.start - wide, 1.0)
    return [min(max((start - across.start) / room, 0.0), 1.0) for start in (x - wide, x + 4.0)]


def _grid(across: Axis, up: Axis, frame: Box, by: Metric) -> Markup:
    """Lines at round values, their numbers, and the names of the axes."""
    drawn = []
    for x, words in across.ticks(max(int((frame.right - frame.left) / _TICKS_EVERY), 2)):
        middle = min(x, frame.right + 16.0 - text_width(words, _TEXT) / 2)
        drawn += [
            draw.line(x, frame.top, x, frame.bottom, "grid"),
            draw.text(words, middle, frame.bottom + _LINE, anchor="middle"),
        ]
    for y, words in up.ticks(6, ceiling=100.0 if by.unit == "%" else 1.0 if by.figure in _TO_ONE else math.inf):
        drawn += [draw.line(frame.left, y, frame.right, y, "grid"), draw.text(words, frame.left - 8.0, y + 4.0, anchor="end")]
    drawn += [
        draw.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"),
        draw.text(
            "P50 latency of one row, ms  (← faster)", (frame.left + frame.right) / 2, frame.bottom + 40.0, anchor="middle"
        ),
        draw.text(wording.with_unit(rows.answers(by), by.unit), 14.0, frame.top - 10.0),
    ]
    return join(*drawn)


def _mark(point: _Point, across: Axis, up: Axis) -> Markup:
    x, y = across.at(point.latency.median), up.at(point.accuracy.median)
    drawn = []
    if point.tail is not None:
        end = across.at(point.tail)
        drawn += [draw.line(x, y, end, y, "tail"), draw.line(end, y - 5.0, end, y + 5.0, "whisker")]
    drawn += [
        draw.line(across.at(point.latency.low), y, across.at(point.latency.high), y, "whisker"),
        draw.line(x, up.at(point.accuracy.low), x, up.at(point.accuracy.high), "whisker"),
        _dot(point.entry.state, x, y),
    ]
    return join(*drawn)


def _dot(state: str, x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=_DOT + 2.0 if state == "ships" else _DOT, class_=state)


def _around(point: _Point, across: Axis, up: Axis) -> Box:
    """What a point's dot covers."""
    x, y = across.at(point.latency.median), up.at(point.accuracy.median)
    return Box(x - 8.0, y - 8.0, x + 8.0, y + 8.0)


def _whiskers(point: _Point, across: Axis, up: Axis) -> list[Box]:
    """What a point's intervals and its tail cover."""
    x, y = across.at(point.latency.median), up.at(point.accuracy.median)
    tail = across.at(point.tail) if point.tail is not None else x
    return [
        Box(across.at(point.latency.low), y - 2.0, across.at(point.latency.high), y + 2.0),
        Box(min(x, tail), y - 5.0, max(x, tail), y + 5.0),
        Box(x - 2.0, up.at(point.accuracy.high), x + 2.0, up.at(point.accuracy.low)),
    ]


def _labels(points: Sequence[_Point], axes: tuple[Axis, Axis], frame: Box, taken: Sequence[Box], thin: Sequence[Box]) -> Markup:
    """The names beside their points; the one that ships picks its place first."""
    across, up = axes
    drawn = []
    taken = list(taken)
    inside = Box(frame.left + 3.0, frame.top + 2.0, frame.right - 3.0, frame.bottom - 2.0)
    for point in reversed(points):
        chosen = point.entry.state == "ships"
        name = shortened(point.name, _TEXT, (frame.right - frame.left) / 2)
        x, y = across.at(point.latency.median), up.at(point.accuracy.median)
        box = place((x, y), (text_width(name, _TEXT * (1.06 if chosen else 1.0)) + 2.0, 15.0), inside, taken, thin)
        taken.append(box)
        near = box.nearest(x, y)
        if max(abs(near[0] - x), abs(near[1] - y)) > 12.0:  # noqa: PLR2004 - farther than the nearest ring of places
            drawn.append(draw.line(x, y, *near, "leader"))
        words = "bold halo" if chosen else "halo"
        drawn.append(draw.text(name, (box.left + box.right) / 2, box.bottom - 3.5, words, "middle"))
    return join(*drawn)


def _legend(points: Sequence[_Point], frame: Box, *, beside: bool) -> Markup:
    """The meaning of the marks that occur: at the right above the plot, or in lines from the left where it is narrow."""
    states = {point.entry.state for point in points}
    items: list[tuple[str, str]] = [(state, words) for state, words in wording.STATES.items() if state in states]
    items.append(("whisker", "interval"))
    if any(point.tail is not None for point in points):
        items.append(("tail", "to P99"))
    wide = [text_width(words, _TEXT) + 30.0 for _, words in items]
    first = 22.0
    x, y = (frame.right - sum(wide) + 12.0, frame.top - 10.0) if beside else (first, 24.0)
    drawn = []
    for (kind, words), room in zip(items, wide, strict=True):
        if not beside and x + room - 12.0 > frame.right:
            x, y = first, y + _LINE
        if kind in wording.STATES:
            drawn.append(_dot(kind, x, y - 4.0))
        else:
            drawn.append(draw.line(x - 7.0, y - 4.0, x + 7.0, y - 4.0, kind))
        drawn.append(draw.text(words, x + 11.0, y))
        x += room
    return join(*drawn)


# ---------------------------------------------------------------- bars


def _panel(shipment: Shipment, entries: Sequence[Entry], name: str, area: Box, *, names_room: float) -> Markup:
    """One panel: a bar for each variant, its value at the end, the gate as a line; names to the left where asked."""
    values = [entry.value(name) for entry in entries]
    known = [value for value in values if value is not None]
    places = wording.decimals(name, known)
    room = max(text_width(wording.number(value, places), _TEXT) for value in known) + 10.0
    gate = rows.binding_gate(shipment, name)
    most = max([*known, *(f.high for f in (entry.figure(name) for entry in entries) if f)])
    shown = gate is not None and gate.limit <= max(most, 1e-6) * _FAR
    most = max(most, gate.limit if gate and shown else 0.0, 1e-6)
    scale = Axis(0.0, min(most, 1e300), area.left, max(area.right - room, area.left + 10.0))
    title = f"{wording.label(name)}, MB"
    drawn = [draw.text(title, area.left, area.top + 12.0)]
    if gate:
        drawn.append(draw.text(f"gate {wording.limit(gate)}", area.right, area.top + 12.0, "gate", "end"))
    base = area.top + 28.0
    if gate and shown:
        drawn.append(draw.line(scale.at(gate.limit), base - 4.0, scale.at(gate.limit), area.bottom, "limit"))
    for n, (entry, value) in enumerate(zip(entries, values, strict=True)):
        y = base + n * 27.0
        if names_room:
            words = shortened(entry.name, _TEXT, names_room - 8.0)
            class_ = "bold" if entry.state == "ships" else "plain"
            drawn.append(draw.text(words, area.left - 8.0, y + 15.0, class_, "end"))
        drawn += _bar(entry, name, value, scale, y, wording.number(value, places) if value is not None else wording.NONE)
    drawn.append(draw.line(area.left, base - 2.0, area.left, area.bottom, "axis"))
    return join(*drawn)


def _bar(entry: Entry, name: str, value: float | None, scale: Axis, y: float, words: str) -> list[Markup]:
    end = scale.at(value or 0.0)
    figure = entry.figure(name)
    drawn = [tag("rect", x=scale.start, y=y, width=end - scale.start, height=20.0, rx=2.0, class_=entry.state)]
    if figure and figure.high > figure.low:
        drawn.append(draw.line(scale.at(figure.low), y + 10.0, scale.at(figure.high), y + 10.0, "whisker"))
        end = max(end, scale.at(figure.high))
    drawn.append(draw.text(words, end + 6.0, y + 14.5, "bold halo" if entry.state == "ships" else "halo"))
    return drawn
