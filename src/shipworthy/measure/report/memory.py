"""The memory that ``check`` predicts, by the rows of a call: a picture of its parts, the budget in it, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shipworthy.measure.report import draw, plots, wording
from shipworthy.measure.report.axes import Axis, Box, text_width
from shipworthy.measure.report.markup import Markup, join, tag
from shipworthy.records import MemoryPoint, Shipment
from shipworthy.targets import PROCESS_MB, whole_mb

_HEIGHT = 330.0
_TEXT = 12.5
_LINE = 18.0
_MARK = 11.0
# A budget so many times as high as the prediction would press it into the ground: an arrow says where it lies.
_FAR = 1.6
# From the ground up: what each part is, and its class in the style.
_PARTS = (
    ("process without a model", "own"),
    ("weights", "weights"),
    ("runtime and copies", "runtime"),
    ("activations", "live"),
)


def section(shipment: Shipment) -> Markup:
    """The heading, the picture and the table; nothing where nothing was predicted."""
    points = _drawn(shipment)
    if not points:
        return Markup()
    wide, narrow = (
        Markup(memory_rows(shipment, width).replace('class="sw"', f'class="sw {on}"', 1))
        for width, on in ((plots.WIDE, "wide"), (plots.NARROW, "narrow"))
    )
    heads = ("rows a call", "weights MB", "activations MB", "runtime and copies MB", "the whole process MB")
    cells = (tag("th", head, scope="col", class_="right" if place else None) for place, head in enumerate(heads))
    body = [_line(point) for point in points]
    return join(
        tag("h2", "Memory by batch"),
        tag("p", "Predicted from the graph, before any call: what a process that holds only the original model will need."),
        tag("figure", wide, narrow, class_="card") if wide else Markup(),
        tag("div", tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *body)), class_="card"),
    )


def memory_rows(shipment: Shipment, width: int = plots.MIDDLE) -> Markup:
    """The parts of the predicted memory on one another against the rows of a call; the target's budget is a line."""
    points = _drawn(shipment)
    if len(points) < 2:  # noqa: PLR2004 - a single point has no width
        return Markup()
    budget = _budget(shipment)
    lines = 1 if width > plots.NARROW else 2
    frame = Box(62.0, 40.0 + _LINE * lines, width - 18.0, _HEIGHT - 36.0 + _LINE * lines)
    highest = max(whole_mb(point) for point in points)
    shown = budget is not None and budget <= _FAR * highest
    across = Axis(0.0, math.log2(points[-1].rows), frame.left, frame.right - 8.0)
    up = Axis(0.0, 1.08 * max(highest, budget if budget is not None and shown else 0.0), frame.bottom, frame.top)
    drawn = [
        *_bands(points, across, up),
        _grid(points, across, up, frame),
        *_limit(budget, up, frame, shown=shown),
        _key(lines),
    ]
    told = "; ".join(f"{point.rows} rows: {wording.single('memory_mb', whole_mb(point), 'MB')}" for point in points)
    if budget is not None:
        told += f"; the budget is {wording.single('memory_mb', budget, 'MB')}"
    title = "Predicted memory of a process against the rows of a call"
    return draw.picture(f"memory-rows-{width}", title, told, (width, frame.bottom + 50.0), join(*drawn))


def _drawn(shipment: Shipment) -> list[MemoryPoint]:
    points = sorted(shipment.report.memory, key=lambda point: point.rows)
    return points if all(point.rows > 0 and math.isfinite(whole_mb(point)) and whole_mb(point) > 0 for point in points) else []


def _budget(shipment: Shipment) -> float | None:
    evidence = shipment.measured.evidence if shipment.measured else ()
    return next((one.target.memory_mb for one in evidence if one.target.memory_mb is not None), None)


def _rest(point: MemoryPoint) -> float:
    """What the runtime takes beside the constants and what lives at one time."""
    return max(point.total_mb - point.weights_mb - point.activations_mb, 0.0)


def _line(point: MemoryPoint) -> Markup:
    values = (point.weights_mb, point.activations_mb, _rest(point), whole_mb(point))
    numbers = (wording.number(value, wording.decimals("memory_mb", [value])) for value in values)
    return tag("tr", tag("th", f"{point.rows:,}", scope="row"), *(tag("td", text, class_="right") for text in numbers))


def _bands(points: Sequence[MemoryPoint], across: Axis, up: Axis) -> list[Markup]:
    """The parts on one another, and the whole as a line."""
    parts = [(PROCESS_MB, point.weights_mb, _rest(point), point.activations_mb) for point in points]
    places = [across.at(math.log2(point.rows)) for point in points]
    drawn = []
    for number, (_, class_) in enumerate(_PARTS):
        tops, grounds = ([up.at(sum(part[:count])) for part in parts] for count in (number + 1, number))
        path = [*zip(places, tops, strict=True), *reversed(list(zip(places, grounds, strict=True)))]
        drawn.append(tag("polygon", points=_path(path), class_=f"part-{class_}"))
    edge = [(x, up.at(whole_mb(point))) for x, point in zip(places, points, strict=True)]
    drawn.append(tag("polyline", points=_path(edge), class_="curve-ships"))
    drawn += [tag("circle", cx=x, cy=y, r=3.5, class_="ships") for x, y in edge]
    return drawn


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)


def _grid(points: Sequence[MemoryPoint], across: Axis, up: Axis, frame: Box) -> Markup:
    """Thin lines over the parts at round values, their numbers, and the names of the axes."""
    drawn = []
    for point in points:
        x = across.at(math.log2(point.rows))
        drawn.append(draw.text(f"{point.rows}", x, frame.bottom + _LINE, anchor="middle"))
    for y, words in up.ticks(6):
        drawn += [
            draw.line(frame.left, y, frame.right, y, "grid thin"),
            draw.text(words, frame.left - 8.0, y + 4.0, anchor="end"),
        ]
    drawn += [
        draw.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"),
        draw.text("rows of a call", (frame.left + frame.right) / 2, frame.bottom + 40.0, anchor="middle"),
        draw.text("memory, MB", 14.0, frame.top - 10.0),
    ]
    return join(*drawn)


def _limit(budget: float | None, up: Axis, frame: Box, *, shown: bool) -> list[Markup]:
    """The budget as a line, what is above it tinted; off the scale, words with an arrow."""
    if budget is None:
        return []
    words = f"budget {wording.single('memory_mb', budget, 'MB')}"
    if not shown:
        return [draw.text(f"{words} ↑", frame.left + 8.0, frame.top + 13.0, "gate halo")]
    y = up.at(budget)
    beyond = tag("rect", x=frame.left, y=frame.top, width=frame.right - frame.left, height=y - frame.top, class_="beyond")
    return [
        beyond,
        draw.line(frame.left, y, frame.right, y, "limit"),
        draw.text(words, frame.left + 8.0, y - 6.0 if y - frame.top > _LINE else y + 15.0, "gate halo"),
    ]


def _key(lines: int) -> Markup:
    """What the parts are, above the plot from the left, from the top part down."""
    drawn, each = [], math.ceil(len(_PARTS) / lines)
    x = 14.0
    for number, (words, class_) in enumerate(reversed(_PARTS)):
        row, place = divmod(number, each)
        x, y = 14.0 if place == 0 else x, 20.0 + _LINE * row
        drawn += [
            tag("rect", x=x, y=y - _MARK + 1.0, width=_MARK, height=_MARK, rx=2.0, class_=f"part-{class_}"),
            draw.text(words, x + _MARK + 6.0, y),
        ]
        x += text_width(words, _TEXT) + _MARK + 20.0
    return join(*drawn)
