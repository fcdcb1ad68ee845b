"""Latency by the rows of a call and by threads: a picture with both axes logarithmic, and the numbers in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shipworthy.measure.report import draw, plots, wording
from shipworthy.measure.report.axes import Axis, Box, shortened, text_width
from shipworthy.measure.report.markup import Markup, join, tag
from shipworthy.records import Curve, Point, Shipment

_HEIGHT = 330.0
_TEXT = 12.5
_LINE = 18.0
_STEPS = (1, 2, 5)


def section(shipment: Shipment) -> Markup:
    """The heading, the picture and the table; nothing where no curve was taken."""
    curves = _drawn(shipment)
    if not curves:
        return Markup()
    wide, narrow = (
        Markup(latency_rows(shipment, width).replace('class="sw"', f'class="sw {on}"', 1))
        for width, on in ((plots.WIDE, "wide"), (plots.NARROW, "narrow"))
    )
    heads = ("variant", "threads", "rows a call", "P50 ms", "interval", "rows/s")
    cells = (
        tag("th", head, scope="col", class_="right" if place else None)  # the names stand to the left, numbers to the right
        for place, head in enumerate(heads)
    )
    body = [line for curve in curves for line in _lines(curve)]
    table = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *body))
    return join(
        tag("h2", "Latency by batch and threads"),
        tag("p", "One process each, calls one after the other, the variants in turn; rows a second follow from the latency."),
        tag("figure", wide, narrow, class_="card"),
        tag("div", table, class_="card"),
    )


def latency_rows(shipment: Shipment, width: int = plots.MIDDLE) -> Markup:
    """The P50 latency of a call against its rows: a line for each variant and number of threads, both scales logarithmic."""
    curves = _drawn(shipment)
    if not curves:
        return Markup()
    every = [point for curve in curves for point in curve.points]
    lines = [(curve, threads) for curve in curves for threads in sorted({point.threads for point in curve.points})]
    frame = Box(56.0, 24.0 + _LINE * len(lines), width - 18.0, _HEIGHT - 50.0 + _LINE * len(lines))
    low, high = min(point.latency.low for point in every), max(point.latency.high for point in every)
    most = max(point.rows for point in every)
    across = Axis(0.0, math.log2(max(most, 2)), frame.left + 12.0, frame.right - 12.0)
    up = Axis(math.log10(low) - 0.1, math.log10(high) + 0.1, frame.bottom, frame.top)
    drawn = [_grid(across, up, frame, sorted({point.rows for point in every}))]
    for place, (curve, threads) in enumerate(lines):
        chosen = shipment.choice is not None and curve.variant_name == shipment.choice.variant_name
        class_, dashed = "ships" if chosen else "passed", threads > 1
        points = [point for point in curve.points if point.threads == threads]
        drawn.append(_curve(points, across, up, class_, dashed=dashed))
        words = f"{curve.variant_name}, {threads} thread{'s' if threads > 1 else ''}"
        drawn.append(_key(words, frame, 18.0 + _LINE * place, class_, dashed=dashed))
    told = "; ".join(
        f"{curve.variant_name} with {point.threads} threads, {point.rows} rows: "
        f"{wording.single('p50_ms', point.latency.median, 'ms')}"
        for curve in curves
        for point in curve.points
    )
    title = "P50 latency of a call against its rows"
    return draw.picture(f"latency-rows-{width}", title, told, (width, frame.bottom + 50.0), join(*drawn))


def _drawn(shipment: Shipment) -> list[Curve]:
    curves = shipment.measured.curves if shipment.measured else ()
    return [curve for curve in curves if curve.points and all(_is_drawable(point) for point in curve.points)]


def _is_drawable(point: Point) -> bool:
    ends = (point.latency.low, point.latency.median, point.latency.high)
    return point.rows > 0 and all(math.isfinite(end) and end > 0 for end in ends)


def _lines(curve: Curve) -> list[Markup]:
    places = wording.decimals("p50_ms", [point.latency.median for point in curve.points])
    return [
        tag(
            "tr",
            tag("th", curve.variant_name, scope="row"),
            *(
                tag("td", text, class_="right")
                for text in (
                    str(point.threads),
                    str(point.rows),
                    wording.number(point.latency.median, places),
                    wording.interval(point.latency, places),
                    wording.number(1000 * point.rows / point.latency.median, 0),
                )
            ),
        )
        for point in curve.points
    ]


def _grid(across: Axis, up: Axis, frame: Box, batches: Sequence[int]) -> Markup:
    drawn = []
    for rows in batches:
        x = across.at(math.log2(rows))
        drawn += [
            draw.line(x, frame.top, x, frame.bottom, "grid"),
            draw.text(f"{rows}", x, frame.bottom + _LINE, anchor="middle"),
        ]
    for value in _round(up.low, up.high):
        y = up.at(math.log10(value))
        drawn += [
            draw.line(frame.left, y, frame.right, y, "grid"),
            draw.text(f"{value:g}", frame.left - 8.0, y + 4.0, anchor="end"),
        ]
    drawn += [
        draw.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"),
        draw.text("rows of a call", (frame.left + frame.right) / 2, frame.bottom + 40.0, anchor="middle"),
        draw.text("P50, ms", 14.0, frame.top - 10.0),
    ]
    return join(*drawn)


def _round(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; powers alone where those would crowd the axis."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    steps = _STEPS if high - low < len(_STEPS) else _STEPS[:1]
    return [step * 10.0**power for power in powers for step in steps if low <= math.log10(step) + power <= high]


def _curve(points: Sequence[Point], across: Axis, up: Axis, class_: str, *, dashed: bool) -> Markup:
    places = [(across.at(math.log2(point.rows)), up.at(math.log10(point.latency.median))) for point in points]
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    dash = "5 4" if dashed else None
    drawn = [tag("polyline", points=path, class_=f"curve-{class_}", stroke_dasharray=dash)]
    for (x, y), point in zip(places, points, strict=True):
        low, high = up.at(math.log10(point.latency.low)), up.at(math.log10(point.latency.high))
        drawn += [draw.line(x, low, x, high, "whisker"), tag("circle", cx=x, cy=y, r=3.5, class_=class_)]
    return join(*drawn)


def _key(words: str, frame: Box, y: float, class_: str, *, dashed: bool) -> Markup:
    """What a line is, at the right above the plot."""
    words = shortened(words, _TEXT, frame.right - frame.left - 40.0)
    x = frame.right - text_width(words, _TEXT)
    dash = "5 4" if dashed else None
    mark = tag(
        "polyline", points=f"{x - 30:.2f},{y - 4:.2f} {x - 8:.2f},{y - 4:.2f}", class_=f"curve-{class_}", stroke_dasharray=dash
    )
    return join(mark, draw.text(words, x, y))
