"""The report: everything a shipment says is on the page, nothing on it can act, and no plot leaves its frame."""

from __future__ import annotations

import hashlib
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shipworthy.measure.metrics import named
from shipworthy.measure.report import curves, html, palette, plots, rows, wording
from shipworthy.measure.report.axes import Axis, Box, padded, place, shortened, text_width
from shipworthy.measure.report.markup import Markup, tag
from shipworthy.records import (
    Choice,
    Curve,
    Evidence,
    Exchange,
    Figure,
    Finding,
    Gate,
    Judged,
    Machine,
    Measured,
    Model,
    Optimized,
    Point,
    Promotion,
    Release,
    Report,
    Served,
    Shipment,
    Signature,
    Skip,
    Source,
    Step,
    Target,
    Tracked,
    Variant,
    Verdict,
)

UNITS = {
    "size_mb": "MB",
    "memory_mb": "MB",
    "load_ms": "ms",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "throughput_rps": "rows/s",
    "accuracy_percent": "%",
    "accuracy_kept_percent": "%",
    "latency_ratio": "x",
}
MACHINE = Machine(
    cpu="Test CPU 9000",
    isa=("avx2", "avx512_vnni"),
    cores=2,
    memory_mb=7800,
    system="Linux 6.1",
    python="3.11.2",
    packages={"onnxruntime": "1.32.0"},
)
AT_LEAST_97 = Gate(figure="accuracy_percent", limit=97.0, unit="%", at_least=True)
P99_UNDER_80_US = Gate(figure="p99_ms", limit=0.08, unit="ms", at_least=False)
MEMORY_UNDER_90 = Gate(figure="memory_mb", limit=90.0, unit="MB", at_least=False)
FIELD = {
    "original": (1.214, 71.3, 31.0, 0.0412, 0.0691, 61234.0, 97.96, 100.0, 1.0),
    "graph": (1.209, 71.1, 30.0, 0.0391, 0.0655, 64100.0, 97.96, 100.0, 0.951),
    "graph+int8_static": (0.325, 66.9, 29.0, 0.0231, 0.0455, 121050.0, 97.41, 99.44, 0.5),
    "int8_rough": (0.318, 66.2, 28.0, 0.0226, 0.0448, 123400.0, 95.37, 97.36, 0.548),
}
SVG = "{http://www.w3.org/2000/svg}"


def digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def evidence(name: str, values: dict[str, float], spread: float = 0.02) -> Evidence:
    figures = tuple(
        Figure(
            name=key,
            unit=UNITS.get(key, "MB"),
            median=v,
            low=v * (1 - spread),
            high=v * (1 + spread),
            samples=9,
            how=f"how {key}",
        )
        for key, v in values.items()
    )
    return Evidence(
        variant=digest(name),
        variant_name=name,
        target=Target(threads=2),
        machine=MACHINE,
        data=digest("rows"),
        measured_at="2026-11-22T14:50:21+00:00",
        figures=figures,
    )


def judge(one: Evidence, *gates: Gate) -> Judged:
    verdicts = []
    for gate in gates:
        figure = one.figure(gate.figure)
        value = figure.median if figure else None
        passed = value is not None and (value >= gate.limit if gate.at_least else value <= gate.limit)
        verdicts.append(Verdict(gate=gate, figure=value, passed=passed, reason=f"reason of {one.variant_name}, {gate.figure}"))
    return Judged(variant=one.variant, variant_name=one.variant_name, verdicts=tuple(verdicts))


def shipment(
    field: dict[str, dict[str, float]] | None = None,
    *,
    chosen: str | None = "graph+int8_static",
    gates: tuple[Gate, ...] = (AT_LEAST_97, P99_UNDER_80_US, MEMORY_UNDER_90),
) -> Shipment:
    """A shipment that went all the way; ``field`` is variant to figure to value."""
    field = {name: dict(zip(UNITS, values, strict=True)) for name, values in FIELD.items()} if field is None else field
    taken = tuple(evidence(name, values) for name, values in field.items())
    return Shipment(
        name="digits",
        model=Model(
            name="digits",
            path="model.onnx",
            digest=digest("original"),
            signature=Signature(inputs=(), outputs=()),
            opset=21,
            ir_version=10,
            source=Source(
                path="models/digits.joblib", digest="1" * 64, framework="scikit-learn", packages={"skl2onnx": "1.19.1"}
            ),
        ),
        report=Report(
            model=digest("original"),
            laws=("format", "signature"),
            findings=(
                Finding(law="graph", severity="note", place="node ZipMap", evidence="a map was taken out"),
                Finding(law="signature", severity="warning", place="input X", evidence="nameless features", mend="name them"),
            ),
        ),
        optimized=Optimized(
            variants=tuple(
                Variant(
                    name=name,
                    path=f"{name}.onnx",
                    digest=digest(name),
                    parent=digest("original"),
                    chain=()
                    if n == 0
                    else (Step(name="quantise", options={"per_channel": True, "operators": ["Conv", "Gemm"]}),),
                    devices=("cpu",),
                    size_mb=values.get("size_mb", 1.0),
                )
                for n, (name, values) in enumerate(field.items())
            ),
            skips=(Skip(name="pruned", reason="nothing to prune in it"),),
        ),
        measured=Measured(evidence=taken),
        choice=Choice(
            variant=digest(chosen) if chosen else None,
            variant_name=chosen,
            reason="the reason of the choice",
            judged=tuple(judge(one, *gates) for one in taken),
        ),
        release=Release(name="digits", version=3, bundle="f" * 64, created_at="2026-11-22T14:52:00Z", created_by="ana"),
        served=Served(
            bundle="f" * 64,
            version=3,
            measured_accuracy_percent=97.41,
            gap_points=0.0,
            exchanges=(
                Exchange(
                    encoding="json",
                    requests=1540,
                    answered=1539,
                    rows=540,
                    accuracy_percent=97.42,
                    largest_difference=0.0,
                    p50_ms=0.391,
                    p99_ms=0.812,
                ),
                Exchange(
                    encoding="binary",
                    requests=540,
                    answered=540,
                    rows=540,
                    accuracy_percent=97.43,
                    largest_difference=5.96e-8,
                    p50_ms=0.342,
                    p99_ms=0.702,
                ),
            ),
            verdicts=(
                Verdict(
                    gate=Gate(figure="availability_percent", limit=99.9, unit="%", at_least=True),
                    figure=100.0,
                    passed=True,
                    reason="all were answered",
                ),
            ),
        ),
        promotion=Promotion(name="digits", alias="champion", before=2, after=3, at="now", by="ana", reason="verified"),
        tracked=Tracked(
            tracking_uri="http://tracking:5000",
            experiment="harbour",
            run_id="run9f8e",
            model_name="digits",
            model_version="7",
            alias="champion",
        ),
        reused=("check", "optimize"),
    )


class Reader(HTMLParser):
    """What a reader sees, and what a browser would do: text, elements with attributes, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def words(one: Shipment) -> str:
    return Reader(html(one)).words


# ---------------------------------------------------------------- the page


def test_the_page_holds_everything_a_shipment_says():
    told = words(shipment())
    for expected in (
        "✓ PASSED",
        "digits v3",
        "the reason of the choice",
        "champion moved from v2 to v3 by ana",
        "released 2026-11-22 14:52:00 UTC by ana",
        "2.00\u00d7",  # speed-up: 1 / 0.5
        "0.27\u00d7",  # size: 0.325 / 1.214
        "\u22120.55 points",
        "2,079 of 2,080 requests answered",
        *FIELD,
        *("1.214", "66.9", "0.0231", "0.0655", "121,050", "97.41", "95.37", "1.05\u00d7"),
        "refused: accuracy",
        *(f"reason of {name}, {gate}" for name in FIELD for gate in ("accuracy_percent", "p99_ms", "memory_mb")),
        *("≥ 97 %", "≤ 0.08 ms", "≤ 90 MB", "✓ met", "✗ missed"),
        *("97.42", "97.43", "1,539 of 1,540", "5.96e-08", "0.391", "0.702", "all were answered"),
        *("node ZipMap", "a map was taken out", "nameless features", "name them"),
        *("pruned", "nothing to prune in it", "quantise per_channel=True operators=Conv+Gemm"),
        *("digits.joblib", "111111111111", "ffffffffffff", digest("original")[:12], digest("graph+int8_static")[:12]),
        *("Test CPU 9000, 2 cores", "avx512_vnni", "onnxruntime 1.32.0", "skl2onnx 1.19.1", "2 threads a call"),
        *("run9f8e", "harbour", "http://tracking:5000", digest("rows")),
        *(f"how {name}" for name in UNITS),
        "2026-11-22 14:50:21 UTC",
        "Reused from an earlier run: check, optimize",
    ):
        assert expected in told, expected


def test_digests_stand_in_full_as_titles():
    titles = [attrs.get("title") for _, attrs in Reader(html(shipment())).elements]
    assert {"1" * 64, "f" * 64, digest("graph+int8_static")} <= set(titles)


def test_the_gravest_finding_stands_first():
    told = words(shipment())
    assert told.index("nameless features") < told.index("a map was taken out")


def test_findings_are_grouped_by_area_and_silenced_ones_stand_apart_with_their_reason():
    found = (
        Finding(law="graph.a", severity="note", place="node 1", evidence="a note"),
        Finding(law="memory.b", severity="error", place="node 2", evidence="line one\nline two", mend="less"),
        Finding(law="graph.c", severity="warning", place="node 3", evidence="a warning"),
        Finding(law="graph.d", severity="error", place="node 4", evidence="known", mend="never", silenced="we live with it"),
    )
    page = html(replace(shipment(), report=Report(model="m", laws=("graph", "memory"), findings=found)))
    reader = Reader(page)
    section = reader.words.partition("Findings of check")[2].partition("Variants that were not made")[0]
    assert section.startswith(" 1 error, 1 warning, 1 note, 1 silenced . Areas of laws that were applied: graph, memory.")
    order = [
        "memory",
        "memory.b",
        "less",
        "graph",
        "graph.c",
        "graph.a",
        "silenced in shipworthy.toml",
        "graph.d",
        "we live with it",
    ]
    at = [section.index(f" {word} ", section.index("memory.")) for word in order]
    assert at == sorted(at)
    assert "never" not in section, "what is to stay has a reason, not a mend"
    assert "line one\nline two" in page, "lines are kept"


def test_a_report_without_findings_says_so():
    told = words(replace(shipment(), report=Report(model="m", laws=("graph",), findings=())))
    assert "0 errors, 0 warnings, 0 notes . Areas of laws that were applied: graph." in told


@pytest.mark.parametrize("part", ["optimized", "measured", "choice", "release", "served", "promotion", "tracked"])
def test_a_page_without_one_record_is_whole(part):
    assert "digits" in words(replace(shipment(), **{part: None}))


def test_a_model_that_check_stopped_gets_its_mends_on_top():
    errors = (Finding(law="graph", severity="error", place="node Foo", evidence="unknown operator", mend="convert it plainly"),)
    early = replace(
        shipment(),
        **dict.fromkeys(("optimized", "measured", "choice", "release", "served", "promotion", "tracked")),
        report=Report(model="m", laws=("graph",), findings=errors),
        stopped="check found 1 error",
    )
    told = words(early)
    assert "✗ STOPPED" in told
    assert told.index("check found 1 error") < told.index("node Foo: convert it plainly") < told.index("unknown operator")
    assert "<svg" not in html(early)


def test_a_model_that_nobody_has_read_shows_only_its_file():
    errors = (Finding(law="format.valid", severity="error", place="m.onnx", evidence="no model", mend="export it again"),)
    model = replace(shipment().model, opset=0, ir_version=0)
    early = Shipment(
        name="digits", model=model, report=Report(model="m", laws=("format",), findings=errors), stopped="check found 1 error"
    )
    told = words(early)
    assert "m.onnx: export it again" in told
    assert "trained file digits.joblib" in told
    assert "opset" not in told


def test_a_field_without_a_winner_says_which_gates_and_what_to_do():
    none = shipment(chosen=None, gates=(Gate(figure="accuracy_percent", limit=99, unit="%", at_least=True),))
    reason = "no variant passes every gate: original: too wrong; graph: too wrong as well"
    choice = replace(none.choice, reason=reason)
    told = words(replace(none, choice=choice, release=None, served=None, promotion=None, stopped=reason))
    assert "no variant passes every gate original: too wrong graph: too wrong as well" in told
    assert "accuracy_percent ≥ 99 %" in told
    assert "speed-up 1" not in told
    assert told.count("refused: accuracy") >= len(FIELD)


def test_a_stop_that_says_what_to_do_is_left_its_own_words():
    told = words(replace(shipment(), stopped="the disk is full\n  found:    0 bytes\n  do next:  make room"))
    assert "the disk is full found: 0 bytes do next: make room" in told
    assert "What to do" not in told


def test_a_gap_between_development_and_production_is_told():
    one = shipment()
    served = replace(one.served, gap_points=1.25)
    told = words(replace(one, served=served, promotion=None, stopped="the served model is not the measured one"))
    assert "+1.250 points" in told
    assert "no alias points to it" in told


def test_without_labels_nothing_speaks_of_accuracy():
    field = {name: {"p50_ms": 0.03, "size_mb": 1.0, "latency_ratio": 1.0} for name in FIELD}
    one = replace(shipment(field, gates=()), served=None)
    page = html(one)
    assert "accuracy" not in Reader(page).words
    assert plots.accuracy_latency(one) == ""
    assert 'class="sw wide"' in page  # the bars are there


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(2, 3, "champion moved from v2 to v3 by"), (None, 3, "champion moved to v3 by"), (2, None, "champion taken away by")],
)
def test_a_promotion_is_told_in_words(before, after, expected):
    one = shipment()
    assert expected in words(replace(one, promotion=replace(one.promotion, before=before, after=after)))


def test_a_ship_of_the_original_says_so():
    told = words(shipment({"original": {"size_mb": 1.0, "p50_ms": 0.03, "latency_ratio": 1.0}}, chosen="original", gates=()))
    assert "P50 0.0300 ms, the original ships" in told


def test_unmeasured_figures_fail_their_gate_and_show_no_number():
    told = words(shipment({"original": {"size_mb": 1.0}}, chosen=None, gates=(AT_LEAST_97,)))
    assert "≥ 97 % \u2013 ✗ not measured" in told


# ---------------------------------------------------------------- safety

EVIL = "</title></style><script>alert(1)</script><img src=x onerror='a'>\"&\x00\ud800"


def evil(one: Shipment) -> Shipment:
    """Every name and sentence of a shipment replaced by one that attacks the page."""
    field = {f"{EVIL}{name}": dict(zip(UNITS, values, strict=True)) for name, values in FIELD.items()}
    two = shipment(field, chosen=f"{EVIL}graph")
    machine = replace(MACHINE, cpu=EVIL, isa=(EVIL,), system=EVIL, packages={EVIL: EVIL})
    taken = tuple(
        replace(e, machine=machine, data=EVIL, figures=tuple(replace(f, how=EVIL, unit=EVIL) for f in e.figures))
        for e in two.measured.evidence
    )
    return replace(
        two,
        name=EVIL,
        model=replace(one.model, name=EVIL, source=Source(path=EVIL, digest=EVIL, framework=EVIL, packages={EVIL: EVIL})),
        report=Report(
            model=EVIL, laws=(EVIL,), findings=(Finding(law=EVIL, severity="error", place=EVIL, evidence=EVIL, mend=EVIL),)
        ),
        optimized=replace(two.optimized, skips=(Skip(name=EVIL, reason=EVIL),)),
        measured=Measured(evidence=taken),
        choice=replace(two.choice, reason=EVIL),
        release=Release(name=EVIL, version=1, bundle=EVIL, created_at=EVIL, created_by=EVIL),
        promotion=Promotion(name=EVIL, alias=EVIL, before=None, after=1, at=EVIL, by=EVIL, reason=EVIL),
        tracked=Tracked(tracking_uri=EVIL, experiment=EVIL, run_id=EVIL, model_name=EVIL, model_version=EVIL, alias=EVIL),
        reused=(EVIL,),
        stopped=f"{EVIL}\n{EVIL}",
    )


@pytest.mark.parametrize("make", [shipment, lambda: evil(shipment())], ids=["honest", "evil"])
def test_the_page_runs_nothing_and_fetches_nothing(make):
    page = html(make())
    reader = Reader(page)
    page.encode()  # no lone surrogate is left
    assert "\x00" not in page
    for element, attributes in reader.elements:
        assert element not in {
            "script",
            "img",
            "link",
            "iframe",
            "object",
            "embed",
            "base",
            "a",
            "image",
            "use",
            "foreignobject",
        }
        assert not {"src", "href", "xlink:href", "srcset", "style"} & set(attributes), (element, attributes)
        assert not any(name.startswith("on") for name in attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in reader.elements)


def test_what_attacks_is_shown_as_text():
    told = words(evil(shipment()))
    assert "<script>alert(1)</script>" in told
    assert f"{EVIL[:-2]}��" in told


def test_markup_escapes_all_but_itself():
    assert tag("p", "<b>", Markup("<i></i>"), title='"', data_x=1.5, hidden=None) == (
        '<p title="&quot;" data-x="1.5">&lt;b&gt;<i></i></p>'
    )


def test_the_page_can_be_read_by_everybody():
    reader = Reader(html(shipment()))
    heads = [attributes for element, attributes in reader.elements if element == "th"]
    assert heads
    assert all(one.get("scope") in {"col", "row", "rowgroup"} for one in heads)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for element, attributes in reader.elements if element == "svg"]
    assert len(pictures) == 4  # two plots, each for a wide and a narrow screen
    assert all(set((one["aria-labelledby"] or "").split()) <= set(ids) for one in pictures)
    assert [attributes["lang"] for element, attributes in reader.elements if element == "html"] == ["en"]


@pytest.mark.parametrize("theme", ["_LIGHT", "_DARK"])
def test_every_text_colour_stands_out_from_its_ground(theme):
    colours = getattr(palette, theme)
    pairs = [(ink, ground) for ink in ("ink", "soft", "good", "bad", "warn", "accent") for ground in ("ground", "card")]
    for ink, ground in [*pairs, ("accent", "wash"), ("ink", "wash"), ("ink", "bad-wash")]:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---------------------------------------------------------------- the table


def test_the_table_has_a_cell_for_every_column():
    table = rows.rows(shipment())
    assert [column.header for column in table.columns] == [
        "variant",
        "memory MB",
        "P50 ms",
        "P99 ms",
        "rows/s",
        "speed-up",
        "size MB",
        "accuracy %",
        "verdict",
    ]
    assert [column.align for column in table.columns] == ["left", *["right"] * 7, "left"]
    assert table.rows[2].cells == (
        "graph+int8_static",
        "66.9",
        "0.0231",
        "0.0455",
        "121,050",
        "2.00\u00d7",
        "0.325",
        "97.41",
        "ships",
    )
    assert [row.state for row in table.rows] == ["passed", "passed", "ships", "refused"]


def test_a_figure_that_some_lack_is_a_dash_and_one_that_all_lack_no_column():
    table = rows.rows(shipment({"original": {"p50_ms": 0.03}, "graph": {}}, gates=()))
    assert [column.title for column in table.columns] == ["variant", "P50", "size", "verdict"]
    assert table.rows[1].cells[1] == wording.NONE


def judged_by(name: str, values: dict[str, float], *gates: Gate) -> Shipment:
    """A shipment whose answers are judged by another metric than the accuracy."""
    metric = named(name)
    one = shipment({variant: {"p50_ms": 0.03, "latency_ratio": 1.0} for variant in values}, chosen="int8", gates=())
    taken = []
    for e in one.measured.evidence:
        value = values[e.variant_name]
        own = Figure(name=metric.figure, unit=metric.unit, median=value, low=value, high=value, samples=9, how="by rows")
        taken.append(replace(e, metric=metric, figures=(*e.figures, own)))
    choice = replace(one.choice, judged=tuple(judge(e, *gates) for e in taken))
    return replace(one, measured=Measured(evidence=tuple(taken)), choice=choice, served=None)


@pytest.mark.parametrize(
    ("name", "column", "cell", "tile"),
    [
        ("f1", "F1", "0.9000", "F1 \u22120.0300 0.9300 → 0.9000"),
        ("top_5", "top_5 %", "0.90", "top_5 \u22120.03 points 0.93 → 0.90 %"),
        ("rmse", "RMSE", "0.900", "RMSE \u22120.030 0.930 → 0.900"),
        ("score.py:wer", "score.py:wer", "0.900", "score.py:wer \u22120.030 0.930 → 0.900"),
    ],
)
def test_the_metric_has_its_own_column_and_tile(name, column, cell, tile):
    one = judged_by(name, {"original": 0.93, "int8": 0.9})
    table = rows.rows(one)
    assert table.columns[-2].header == column
    assert table.rows[1].cells[-2] == cell
    told = words(one)
    assert tile in told
    assert "accuracy" not in told


@pytest.mark.parametrize(("name", "text", "side"), [("f1", "gate: F1 ≥ 0.92", "below"), ("rmse", "gate: RMSE ≤ 0.92", "above")])
def test_the_side_that_misses_the_limit_is_tinted(name, text, side):
    metric = named(name)
    gate = Gate(figure=metric.figure, limit=0.92, unit=metric.unit, at_least=metric.more)
    root = drawn(plots.accuracy_latency(judged_by(name, {"original": 0.93, "int8": 0.9}, gate)))
    inside(root)
    assert text in [one.text for one in root.iter(f"{SVG}text")]
    (line,) = [one for one in root.iter(f"{SVG}line") if one.get("class") == "limit"]
    (zone,) = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "beyond"]
    top, height, y = float(zone.get("y")), float(zone.get("height")), float(line.get("y1"))
    assert (top if side == "below" else top + height) == pytest.approx(y, abs=0.02)
    assert root.find(f"{SVG}title").text == f"{wording.label(name)} against P50 latency of every variant"


@pytest.mark.parametrize(("name", "kept", "at"), [("f1", 90, 0.45), ("rmse", 80, 0.625)])
def test_what_must_be_kept_of_the_original_is_a_line_of_the_metric(name, kept, at):
    metric, heights = named(name), []
    share = Gate(figure=metric.kept, limit=kept, unit="%", at_least=True)
    same = Gate(figure=metric.figure, limit=at, unit="", at_least=metric.more)
    for gate in (share, same):
        root = drawn(plots.accuracy_latency(judged_by(name, {"original": 0.5, "int8": 0.6}, gate)))
        heights.append([one.get("y1") for one in root.iter(f"{SVG}line") if one.get("class") == "limit"])
    assert heights[0] == heights[1]
    assert len(heights[0]) == 1


def test_of_errors_the_smaller_limit_binds():
    values = {"original": 0.93, "int8": 0.9}
    gates = [Gate(figure="rmse", limit=limit, unit="", at_least=False) for limit in (0.92, 0.91)]
    root = drawn(plots.accuracy_latency(judged_by("rmse", values, *gates)))
    assert "gate: RMSE ≤ 0.91" in [one.text for one in root.iter(f"{SVG}text")]
    kept = Gate(figure="rmse_kept_percent", limit=99, unit="%", at_least=True)
    root = drawn(plots.accuracy_latency(judged_by("rmse", values, *gates, kept)))
    assert "gate: RMSE ≤ 0.91" in [one.text for one in root.iter(f"{SVG}text")], "0.93 / 0.99 is more"


def test_a_metric_below_zero_has_a_column_and_no_plot():
    one = judged_by("score.py:wer", {"original": -0.2, "int8": -0.3})
    assert plots.accuracy_latency(one) == ""
    assert rows.rows(one).rows[1].cells[-2] == "\u22120.300"


def test_what_runs_a_variant_stands_there_where_it_differs():
    one = shipment()
    assert "runs on" not in [column.title for column in rows.rows(one).columns]
    taken = list(one.measured.evidence)
    taken[1] = replace(taken[1], target=Target(runtime="openvino", precision="bfloat16"))
    table = rows.rows(replace(one, measured=Measured(evidence=tuple(taken))))
    assert table.columns[1].title == "runs on"
    assert [row.cells[1] for row in table.rows] == ["onnxruntime", "openvino bfloat16", "onnxruntime", "onnxruntime"]


def test_the_compressed_size_has_a_column_when_it_was_taken():
    table = rows.rows(shipment({"original": {"size_mb": 2.0, "compressed_mb": 1.5}}, chosen="original", gates=()))
    assert [column.header for column in table.columns] == ["variant", "size MB", "gzip MB", "verdict"]
    assert table.rows[0].cells[2] == "1.50"


def test_a_strict_limit_says_so():
    assert wording.limit(replace(AT_LEAST_97, strict=True)) == "≥ 97 %, strict"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p50_ms", "P50 latency"),
        ("f1_kept_percent", "F1 kept"),
        ("top_5_percent", "top_5"),
        ("top_5_kept_percent", "top_5 kept"),
        ("metric_kept_percent", "metric kept"),
        ("_kept_percent", "_kept"),
    ],
)
def test_figures_in_a_readers_words(name, expected):
    assert wording.label(name) == expected


# ---------------------------------------------------------------- latency by batch and threads

LATENCIES = {("original", 1): 0.03, ("original", 2): 0.02, ("graph+int8_static", 1): 0.015, ("graph+int8_static", 2): 0.012}


def with_curves(scale: float = 1.0, names: dict[str, str] | None = None) -> Shipment:
    """Latencies that double with the rows of a call."""
    one, made = shipment(), []
    for variant in ("original", "graph+int8_static"):
        points = []
        for (name, threads), first in LATENCIES.items():
            for n in (1, 2, 4, 8, 16, 32, 64) if name == variant else ():
                m = first * n * scale
                taken = Figure(name="p50_ms", unit="ms", median=m, low=m * 0.9, high=m * 1.1, samples=3, how="")
                points.append(Point(rows=n, threads=threads, latency=taken))
        shown = (names or {}).get(variant, variant)
        made.append(Curve(variant=digest(variant), variant_name=shown, points=tuple(points)))
    return replace(one, measured=replace(one.measured, curves=tuple(made)))


def test_the_page_has_every_latency_by_batch_and_threads():
    told = words(with_curves())
    assert "Latency by batch and threads" in told
    assert "graph+int8_static 2 64 0.7680 0.6912\u20130.8448 83,333" in told
    assert "Latency by batch" not in words(shipment())


@pytest.mark.parametrize("width", [plots.WIDE, plots.MIDDLE, plots.NARROW])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_curves_stay_in_the_picture_and_cover_no_text(width, scale):
    root = drawn(curves.latency_rows(with_curves(scale), width))
    inside(root)
    texts = [(what, box) for what, box in boxes(root) if what.startswith("text")]
    for (one, a), (other, b) in combinations(texts, 2):
        assert a.shared(b) == 0, (one, other)


def test_a_curve_lies_where_its_figures_say():
    root = drawn(curves.latency_rows(with_curves()))
    lines = [one for one in root.iter(f"{SVG}polyline") if len(one.get("points").split()) == 7]
    assert [one.get("class") for one in lines] == ["curve-passed"] * 2 + ["curve-ships"] * 2
    assert [one.get("stroke-dasharray") for one in lines] == [None, "5 4"] * 2
    places = [[tuple(map(float, place.split(","))) for place in one.get("points").split()] for one in lines]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(places[0], places[0][1:], strict=False)]
    assert all(step == pytest.approx(steps[0], abs=0.05) for step in steps), (
        "twice the time for twice the rows: a straight line"
    )
    assert steps[0][0] > 0 > steps[0][1]
    assert all(ours[1] > theirs[1] for ours, theirs in zip(places[2], places[0], strict=True)), "faster is lower"
    assert "graph+int8_static with 2 threads, 64 rows: 0.768 ms" in root.find(f"{SVG}desc").text


def test_curves_with_evil_names_or_broken_figures():
    one = with_curves(names={"original": EVIL})
    inside(drawn(curves.latency_rows(one, plots.NARROW)))
    assert EVIL not in html(one)
    for scale in (0.0, math.inf, -1.0):
        assert curves.latency_rows(with_curves(scale)) == ""
        assert "Latency by batch" not in words(with_curves(scale))


def test_variants_that_were_not_measured_are_in_the_field():
    table = rows.rows(replace(shipment(), measured=None, choice=None))
    assert [row.cells for row in table.rows] == [(name, f"{FIELD[name][0]:.3f}", "not judged") for name in FIELD]


@pytest.mark.parametrize(
    ("value", "places", "expected"),
    [
        (0.0, 2, "0.00"),
        (1234.5, 1, "1,234.5"),
        (-0.25, 2, "\u22120.25"),
        (3.21e-5, 4, "3.21e\u221205"),
        (1e12, 0, "1e+12"),
        (math.inf, 2, wording.NONE),
    ],
)
def test_numbers_are_written_for_people(value, places, expected):
    assert wording.number(value, places) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.001, "0.00"), (-0.001, "0.00"), (0.5, "+0.50"), (-0.5, "\u22120.50")])
def test_a_difference_that_rounds_to_nothing_has_no_sign(value, expected):
    assert wording.signed(value, 2) == expected


def test_a_column_shows_three_digits_of_its_smallest_value():
    assert wording.decimals("p50_ms", [12.0, 0.0297, 0.0]) == 4
    assert wording.decimals("throughput_rps", [61234.0, 121050.0]) == 0


# ---------------------------------------------------------------- the plots


def drawn(svg: str) -> ET.Element:
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.tag == f"{SVG}svg"
    return root


def boxes(root: ET.Element) -> list[tuple[str, Box]]:
    """Every shape and every text with the room it takes, as a pessimist would estimate that of text."""
    found = []
    for one in root.iter():
        number = {key: float(value) for key, value in one.attrib.items() if re.fullmatch(r"-?[\d.]+", value)}
        assert not re.search(
            r"nan|inf", " ".join(one.attrib.get(key, "") for key in ("x", "y", "cx", "cy", "x1", "y1", "x2", "y2"))
        )
        kind = one.tag.removeprefix(SVG)
        if kind == "circle":
            cx, cy, r = number["cx"], number["cy"], number["r"]
            found.append((kind, Box(cx - r, cy - r, cx + r, cy + r)))
        elif kind == "line":
            x, y = sorted((number["x1"], number["x2"])), sorted((number["y1"], number["y2"]))
            found.append((kind, Box(x[0], y[0], x[1], y[1])))
        elif kind == "rect":
            x, y = number.get("x", 0.0), number.get("y", 0.0)
            assert number["width"] >= 0
            assert number["height"] >= 0
            found.append((kind, Box(x, y, x + number["width"], y + number["height"])))
        elif kind == "polyline":
            xs, ys = zip(*(map(float, spot.split(",")) for spot in one.get("points").split()), strict=True)
            found.append((kind, Box(min(xs), min(ys), max(xs), max(ys))))
        elif kind == "text":
            wide = text_width(one.text or "", 12.5)
            left = number["x"] - wide * {"middle": 0.5, "end": 1.0}.get(one.get("text-anchor", ""), 0.0)
            found.append((f"text {one.text}", Box(left, number["y"] - 10.0, left + wide, number["y"] + 3.0)))
    return found


def inside(root: ET.Element) -> None:
    x, y, width, height = map(float, root.attrib["viewBox"].split())
    for what, box in boxes(root):
        assert all(map(math.isfinite, (box.left, box.top, box.right, box.bottom))), what
        slack = 0.5
        assert box.left >= x - slack, what
        assert box.top >= y - slack, what
        assert box.right <= x + width + slack, what
        assert box.bottom <= y + height + slack, what


@pytest.mark.parametrize("width", [plots.WIDE, plots.MIDDLE, plots.NARROW])
@pytest.mark.parametrize("draw", [plots.accuracy_latency, plots.size_memory])
def test_a_picture_stands_alone_and_no_text_covers_another(draw, width):
    root = drawn(draw(shipment(), width))
    inside(root)
    texts = [(what, box) for what, box in boxes(root) if what.startswith("text")]
    for (one, a), (other, b) in combinations(texts, 2):
        assert a.shared(b) == 0, (one, other)
    style = root.find(f"{SVG}style").text
    assert "prefers-color-scheme:dark" in style
    assert {f"--{name}" for name in re.findall(r"var\(--([\w-]+)\)", style)} <= set(re.findall(r"--[\w-]+(?=:)", style))


def test_the_plot_tells_the_fate_of_each_variant():
    root = drawn(plots.accuracy_latency(shipment()))
    frame_top = 42.0
    marks = [one.get("class") for one in root.iter(f"{SVG}circle") if float(one.get("cy")) > frame_top]
    assert sorted(marks) == ["passed", "passed", "refused", "ships"]
    assert marks[-1] == "ships"  # drawn last, so on top
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert set(FIELD) <= set(texts)
    assert {"gate: accuracy ≥ 97 %", "gate: P99 ≤ 0.08 ms"} <= set(texts)
    assert len([one for one in root.iter(f"{SVG}line") if one.get("class") == "limit"]) == 2
    for name in FIELD:
        assert name in root.find(f"{SVG}desc").text


@pytest.mark.parametrize(("limit", "tails"), [(0.08, 4), (5.0, 0)])
def test_tails_lead_to_a_p99_that_its_gate_is_near(limit, tails):
    gate = replace(P99_UNDER_80_US, limit=limit)
    root = drawn(plots.accuracy_latency(shipment(gates=(gate,))))
    assert len([one for one in root.iter(f"{SVG}line") if one.get("class") == "tail" and float(one.get("y1")) > 42]) == tails


def test_points_in_one_place_have_labels_apart():
    field = {f"variant_{n}": {"p50_ms": 0.03, "accuracy_percent": 97.0} for n in range(6)}
    root = drawn(plots.accuracy_latency(shipment(field, chosen="variant_3", gates=(AT_LEAST_97,))))
    names = [(what, box) for what, box in boxes(root) if what.startswith("text variant_")]
    assert len(names) == 6
    for (one, a), (other, b) in combinations(names, 2):
        assert a.shared(b) == 0, (one, other)


def test_a_wide_number_at_the_end_of_the_scale_stays_in_the_picture():
    field = {"original": {"p50_ms": 1.4310494362532524e16, "accuracy_percent": 0.0}}
    inside(drawn(plots.accuracy_latency(shipment(field, chosen=None, gates=()), plots.WIDE)))


def test_a_point_lies_where_its_figures_say():
    field = {
        name: {"p50_ms": x, "accuracy_percent": y} for name, x, y in (("a", 1.0, 90.0), ("b", 2.0, 95.0), ("c", 3.0, 92.5))
    }
    root = drawn(plots.accuracy_latency(shipment(field, chosen=None, gates=())))
    (ax, ay), (bx, by), (cx, cy) = [
        (float(one.get("cx")), float(one.get("cy"))) for one in root.iter(f"{SVG}circle") if float(one.get("cy")) > 42
    ]
    assert bx - ax == pytest.approx(cx - bx, abs=0.02)
    assert ax < bx
    assert by < cy < ay  # up is more accurate
    assert cy - by == pytest.approx(ay - cy, abs=0.02)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (Gate(figure="p50_ms", limit=50.0, unit="ms", at_least=False), "gate: P50 ≤ 50 ms →"),
        (Gate(figure="p50_ms", limit=1e-4, unit="ms", at_least=False), "gate: P50 ≤ 0.0001 ms"),
        (Gate(figure="accuracy_percent", limit=10.0, unit="%", at_least=True), "gate: accuracy ≥ 10 % ↓"),
        (Gate(figure="accuracy_kept_percent", limit=99.0, unit="%", at_least=True), "gate: accuracy kept ≥ 99 %"),
    ],
)
def test_a_gate_far_off_is_named_at_the_edge_and_presses_nothing(gate, words):
    root = drawn(plots.accuracy_latency(shipment(gates=(gate,))))
    inside(root)
    assert words in [one.text for one in root.iter(f"{SVG}text")]
    lines = [one for one in root.iter(f"{SVG}line") if one.get("class") == "limit"]
    assert len(lines) == (0 if words[-1] in "→↓" else 1)
    xs = [float(one.get("cx")) for one in root.iter(f"{SVG}circle") if float(one.get("cy")) > 42]
    assert max(xs) - min(xs) > 100


def test_a_share_to_keep_is_a_line_at_that_share_of_the_original():
    kept = Gate(figure="accuracy_kept_percent", limit=99.0, unit="%", at_least=True)
    same = Gate(figure="accuracy_percent", limit=97.96 * 0.99, unit="%", at_least=True)
    heights = [
        next(
            one.get("y1")
            for one in drawn(plots.accuracy_latency(shipment(gates=(gate,)))).iter(f"{SVG}line")
            if one.get("class") == "limit"
        )
        for gate in (kept, same)
    ]
    assert heights[0] == heights[1]


@pytest.mark.parametrize("draw", [plots.accuracy_latency, plots.size_memory])
def test_names_in_a_picture_are_text(draw):
    root = drawn(draw(evil(shipment())))
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        *("svg", "title", "desc", "style", "rect", "line", "circle", "text"),
    }
    inside(root)


def test_bars_are_as_long_as_their_values():
    field = {name: {"size_mb": size} for name, size in (("original", 4.0), ("half", 2.0), ("none", 0.0))}
    root = drawn(plots.size_memory(shipment(field, chosen="half", gates=())))
    lengths = [float(one.get("width")) for one in root.iter(f"{SVG}rect") if one.get("class") != "card"]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.02)
    assert lengths[2] == 0


positive = st.floats(min_value=0, max_value=1e300, allow_nan=False) | st.floats(min_value=0.001, max_value=100.0)
share = st.floats(min_value=0, max_value=100)
figures = st.fixed_dictionaries(
    {},
    optional={
        "size_mb": positive,
        "memory_mb": positive,
        "p50_ms": positive,
        "p99_ms": positive,
        "accuracy_percent": share,
        "latency_ratio": positive,
        "throughput_rps": positive,
    },
)
fields = st.dictionaries(st.text(max_size=40), figures, min_size=1, max_size=8)
limits = st.lists(
    st.builds(
        Gate,
        figure=st.sampled_from(["accuracy_percent", "accuracy_kept_percent", "p50_ms", "p99_ms", "memory_mb", "size_mb"]),
        limit=positive,
        unit=st.sampled_from(["ms", "%", "MB"]),
        at_least=st.booleans(),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(field=fields, gates=limits, width=st.sampled_from([plots.WIDE, plots.MIDDLE, plots.NARROW]))
def test_no_figures_break_a_plot_or_leave_it(field, gates, width):
    one = shipment(field, chosen=next(iter(field)), gates=tuple(gates))
    for svg in (plots.accuracy_latency(one, width), plots.size_memory(one, width)):
        if svg:
            inside(drawn(svg))


@settings(deadline=None, max_examples=25)
@given(field=fields, gates=limits)
def test_no_figures_break_the_page(field, gates):
    one = shipment(field, chosen=next(iter(field)), gates=tuple(gates))
    assert Reader(html(one)).words
    assert len(rows.rows(one).rows) == len(field)


def test_broken_figures_are_not_measured():
    one = shipment({"original": {"p50_ms": math.nan, "accuracy_percent": math.inf, "memory_mb": math.nan}}, chosen=None)
    assert plots.accuracy_latency(one) == ""
    assert "nan" not in plots.size_memory(one)
    assert "nan" not in words(one).replace("nanny", "")


# ---------------------------------------------------------------- geometry


@settings(deadline=None)
@given(values=st.lists(st.floats(min_value=0, max_value=1e308), min_size=1, max_size=9), least=st.floats(0, 1e3))
def test_a_range_holds_its_values_and_has_ticks(values, least):
    low, high = padded(values, least)
    assert 0 <= low < high < math.inf
    assert low <= min(*values, 1e300)
    assert high >= min(max(values), 1e300)
    axis = Axis(low, high, 10.0, 110.0)
    ticks = axis.ticks(6)
    assert len(ticks) <= 7
    assert all(10.0 <= place <= 110.0 for place, _ in ticks)


def test_what_is_beyond_an_axis_lies_at_its_end():
    assert [Axis(10.0, 20.0, 100.0, 0.0).at(value) for value in (5.0, 15.0, 30.0)] == [100.0, 50.0, 0.0]


def test_equal_values_get_a_sensible_axis():
    low, high = padded([97.5, 97.5], 1.0)
    assert (low, high) == (97.0, 98.0)
    assert [words for _, words in Axis(low, high, 0, 100).ticks(6)] == ["97.0", "97.2", "97.4", "97.6", "97.8", "98.0"]
    assert [words for _, words in Axis(99.5, 100.5, 0, 100).ticks(6, ceiling=100.0)][-1] == "100.0"


def test_labels_of_points_in_one_place_keep_apart():
    inside_of, taken = Box(0, 0, 400, 300), [Box(192, 142, 208, 158)]
    for _ in range(6):
        box = place((200, 150), (80, 15), inside_of, taken, [])
        assert sum(box.shared(other) for other in taken) == 0
        assert box.left >= 0
        assert box.bottom <= 300
        taken.append(box)


def test_a_label_crosses_no_line_where_it_need_not():
    line = Box(200, 140, 400, 160)
    box = place((200, 150), (80, 15), Box(0, 0, 400, 300), [Box(192, 142, 208, 158)], [line])
    assert box.shared(line) == 0


def test_long_names_are_cut_to_their_room():
    assert shortened("short", 12.5, 100) == "short"
    cut = shortened("x" * 200, 12.5, 100)
    assert cut.endswith("…")
    assert text_width(cut, 12.5) <= 100
    assert text_width("量", 12.5) > text_width("a", 12.5)
