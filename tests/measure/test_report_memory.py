"""The report's section on memory: every part in the picture, nothing outside its frame, nothing where nothing was predicted."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from shipworthy.measure.report import html, memory, plots
from shipworthy.records import Evidence, Machine, Measured, MemoryPoint, Model, Report, Shipment, Signature, Source, Target
from shipworthy.targets import PROCESS_MB

MACHINE = Machine(cpu="c", isa=(), cores=1, memory_mb=1, system="s", python="3", packages={})
SVG = "{http://www.w3.org/2000/svg}"


def shipment(totals=(291.0, 316.0, 351.0, 432.0, 628.0, 949.0), budget=None):
    source = Source(path="m.onnx", digest="1", framework="onnx")
    model = Model(
        name="m", path="m", digest="d", signature=Signature(inputs=(), outputs=()), opset=21, ir_version=10, source=source
    )
    points = tuple(
        MemoryPoint(rows=2**n, weights_mb=102.0, activations_mb=7.0 * 2**n, total_mb=total) for n, total in enumerate(totals)
    )
    one = Evidence(
        variant="d",
        variant_name="original",
        target=Target(memory_mb=budget),
        machine=MACHINE,
        data="",
        measured_at="",
        figures=(),
    )
    report = Report(model="d", laws=("memory",), findings=(), memory=points)
    return Shipment(name="m", model=model, report=report, measured=Measured(evidence=(one,)))


@pytest.mark.parametrize("width", [plots.WIDE, plots.MIDDLE, plots.NARROW])
@pytest.mark.parametrize("budget", [None, 1200.0, 500.0, 90_000.0])
def test_all_parts_lie_within_the_frame(width, budget):
    picture = ET.fromstring(memory.memory_rows(shipment(budget=budget), width))  # noqa: S314 - it is our own
    high = float(picture.get("height"))
    classes = {one.get("class") for one in picture.iter(f"{SVG}polygon")}
    assert classes == {"part-own", "part-weights", "part-runtime", "part-live"}
    for one in (*picture.iter(f"{SVG}polygon"), *picture.iter(f"{SVG}polyline")):
        for place in one.get("points").split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= high
    for one in picture.iter(f"{SVG}text"):
        assert 0 <= float(one.get("x")) <= width
        assert 0 <= float(one.get("y")) <= high


def test_the_parts_stand_on_one_another_up_to_the_whole():
    picture = ET.fromstring(memory.memory_rows(shipment()))  # noqa: S314 - it is our own
    parts = [one.get("points").split() for one in picture.iter(f"{SVG}polygon")]
    for below, above in pairwise(parts):
        assert below[: len(below) // 2] == above[: len(above) // 2 - 1 : -1]
    line = next(picture.iter(f"{SVG}polyline")).get("points").split()
    assert parts[-1][: len(line)] == line


@pytest.mark.parametrize(("budget", "lines", "words"), [(None, 0, ""), (1200.0, 1, "budget 1,200 MB"), (9e4, 0, "90,000 MB ↑")])
def test_the_budget_is_a_line_or_an_arrow_where_it_is_far(budget, lines, words):
    picture = memory.memory_rows(shipment(budget=budget))
    assert picture.count('class="limit"') == lines
    assert words in picture


def test_the_page_has_the_section_with_its_numbers():
    page = html(shipment())
    assert "Memory by batch" in page
    assert f"{PROCESS_MB + 949:,.0f}" in re.sub(r"<[^>]*>", " ", page)
    assert 'class="sw wide"' in page


def test_nothing_is_drawn_where_nothing_was_predicted_and_one_point_is_a_table():
    assert "Memory by batch" not in html(shipment(()))
    one = memory.section(shipment((291.0,)))
    assert "<table>" in one
    assert "<svg" not in one
    broken = shipment((291.0, float("nan")))
    assert memory.section(broken) == ""
    assert replace(broken, measured=None).measured is None
