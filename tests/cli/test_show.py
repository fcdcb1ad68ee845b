"""What the terminal says of a measurement: curves, and gates that were only just met."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from shipworthy import measure
from shipworthy.cli.show import show
from shipworthy.records import (
    Curve,
    Evidence,
    Figure,
    Finding,
    Machine,
    Measured,
    Model,
    Optimized,
    Point,
    Report,
    Shipment,
    Signature,
    Source,
    Target,
    TensorSpec,
    Variant,
)
from shipworthy.settings import GateSettings, for_model

MACHINE = Machine(cpu="", isa=(), cores=2, memory_mb=1, system="", python="", packages={})


def figure(name, median, low=None, high=None):
    ends = {"low": median if low is None else low, "high": median if high is None else high}
    return Figure(name=name, unit="", median=median, samples=400, how="", **ends)


def shipment(accuracy, *, curves=()):
    """One variant, the original, that ships; its accuracy as (median, low, high)."""
    evidence = Evidence(
        variant="d",
        variant_name="original",
        target=Target(),
        machine=MACHINE,
        data="",
        measured_at="",
        figures=(figure("accuracy_percent", *accuracy), figure("latency_ratio", 1.0)),
    )
    judged = measure.judge(measure.gates(GateSettings(accuracy_percent=90), Target()), evidence)
    return Shipment(
        name="m",
        model=Model(
            name="m",
            path="m.onnx",
            digest="d",
            signature=Signature(inputs=(), outputs=()),
            opset=21,
            ir_version=10,
            source=Source(path="m.onnx", digest="d", framework="onnx"),
        ),
        report=Report(model="d", laws=(), findings=()),
        optimized=Optimized(
            variants=(Variant(name="original", path="p", digest="d", parent="d", chain=(), devices=(), size_mb=1.0),)
        ),
        measured=Measured(evidence=(evidence,), curves=curves),
        choice=measure.choose((judged,), (evidence,), {"original": 0}, "latency"),
        html="r.html",
    )


@pytest.fixture
def said(capsys):
    def say(one):
        show(one, for_model(Path("m.onnx")))
        return capsys.readouterr().out

    return say


@pytest.mark.parametrize(("interval", "close"), [((92, 88, 95), True), ((92, 91, 95), False)])
def test_a_gate_that_was_only_just_met_is_named(said, interval, close):
    text = said(shipment(interval))
    assert "chosen" in text
    assert ("close   accuracy_percent is 92 %, within the limit" in text) == close
    assert ("88 to 95 % from 400 rows" in text) == close


def test_findings_are_one_line_each_silenced_ones_say_why_and_notes_are_counted(said):
    found = (
        Finding(law="format.opset", severity="error", place="opset 16", evidence="old", mend="export anew"),
        Finding(law="format.ir", severity="warning", place="IR 12", evidence="new", mend="save anew", silenced="it works here"),
        Finding(law="numbers.parity", severity="note", place="model", evidence="as ONNX"),
        Finding(law="memory.peak", severity="note", place="model", evidence="much"),
    )
    one = replace(shipment((92, 91, 95)), report=Report(model="d", laws=("format",), findings=found))
    lines = [line.strip() for line in said(one).splitlines()]
    start = lines.index("check   error format.opset: opset 16: old")
    assert lines[start + 1 : start + 5] == [
        "do next: export anew",
        "check   warning format.ir: IR 12: new (silenced: it works here)",
        "check   note numbers.parity: model: as ONNX",
        "check   1 error, 0 warnings, 2 notes, 1 silenced: the report has all",
    ]


def test_a_name_in_a_model_writes_no_escape_sequence_and_no_line_of_its_own(said):
    evil = "\x1b[31m\n::error::x [red]a[/red] \ud800\r"
    signature = Signature(inputs=(TensorSpec(name=evil, dtype="float32", shape=(None,)),), outputs=())
    one = shipment((92, 91, 95))
    found = (Finding(law="a.b", severity="error", place=evil, evidence=evil, mend=evil),)
    one = replace(one, model=replace(one.model, signature=signature), report=Report(model="d", laws=(), findings=found))
    text = said(replace(one, stopped=f"stopped by {evil}"))
    assert text.replace("\n", "").isprintable()
    assert not [line for line in text.splitlines() if line.strip().startswith("::")]
    assert text.count("[red]a[/red]") == 5


def test_a_model_that_nobody_has_read_has_no_empty_lines(said):
    one = shipment((92, 91, 95))
    text = said(replace(one, model=replace(one.model, opset=0, ir_version=0)))
    assert text.strip().startswith("m  m.onnx (onnx, sha256 d)")
    assert not {"takes", "gives", "onnx"} & {line.split()[0] for line in text.splitlines() if line.strip()}


def test_a_measurement_that_no_choice_followed(said):
    assert "close" not in said(replace(shipment((92, 88, 95)), choice=None))


def test_curves_are_a_table_by_rows_and_threads(said):
    points = [Point(rows=n, threads=t, latency=figure("p50_ms", n * 0.5 / t)) for t in (1, 2) for n in (1, 2, 4)]
    text = said(shipment((92, 91, 95), curves=(Curve(variant="d", variant_name="original", points=tuple(points[:-1])),)))
    lines = [line.split() for line in text.splitlines()]
    assert ["P50", "ms", "of", "a", "call", "of", "1", "row", "2", "rows", "4", "rows"] in lines
    assert ["original,", "1", "thread", "0.500", "1.000", "2.000"] in lines
    assert ["original,", "2", "threads", "0.250", "0.500", "\u2013"] in lines, "one was not taken"


def test_without_curves_there_is_no_table_of_them(said):
    assert "of a call of" not in said(shipment((92, 91, 95)))
