"""What the terminal says of a report of check: all of it, by area, in lines that are not too long, and safely."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.cli.findings import show, wrapped
from shipworthy.cli.options import Way
from shipworthy.records import Finding, MemoryPoint, Model, Report, Shipment, Signature, Source, TensorSpec
from shipworthy.settings import for_model
from shipworthy.targets import PROCESS_MB

ERROR = Finding(law="signature.batch", severity="error", place="input x", evidence="fixed at 1", mend="free it")
WARNING = Finding(law="format.opset", severity="warning", place="opset 16", evidence="too old", mend="export anew")
NOTE = Finding(law="signature.free", severity="note", place="input x", evidence="two free dimensions")
SILENCED = Finding(law="format.ir", severity="error", place="IR 12", evidence="too new", mend="not told", silenced="it runs")
WAY = Way(
    what=Path("a b/m.onnx"),
    target="cpu-arm",
    trust=True,
    data=Path("e.npz"),
    factory="net.py:make",
    changes=("gates.p99_ms=5",),
    workspace=Path(".w"),
    as_json=False,
)
X = TensorSpec(name="x", dtype="float32", shape=(1,))
MODEL = Model(
    name="m",
    path="m.onnx",
    digest="d",
    signature=Signature(inputs=(X,), outputs=(X,)),
    opset=21,
    ir_version=10,
    source=Source(path="m.onnx", digest="d", framework="onnx"),
)


@pytest.fixture
def said(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)

    def say(*findings, memory=(), **changed):
        report = Report(model="d", laws=("format", "signature"), findings=findings, memory=memory)
        show(Shipment(name="m", model=MODEL, report=report, html="r.html", **changed), for_model(Path("m.onnx")), WAY)
        return capsys.readouterr().out

    return say


def test_areas_and_findings_stand_the_gravest_first_and_silenced_ones_last(said):
    text = said(NOTE, WARNING, SILENCED, ERROR)
    assert text.partition("sha256 d\n\n")[2].splitlines()[:16] == [
        "signature",
        "  error    signature.batch  input x",
        "           fixed at 1",
        "           mend: free it",
        "  note     signature.free  input x",
        "           two free dimensions",
        "",
        "format",
        "  warning  format.opset  opset 16",
        "           too old",
        "           mend: export anew",
        "",
        "silenced",
        "  error    format.ir  IR 12",
        "           too new",
        "           reason: it runs",
    ]
    assert "\n1 error, 1 warning, 1 note, 1 silenced\n" in text
    assert "[[check.silence]] in shipworthy.toml" in text
    assert "shipworthy ship" not in text


def test_when_nothing_is_wrong_that_is_said_and_how_to_go_on(said):
    text = said(NOTE, SILENCED)
    assert "\nnothing to mend: 0 errors, 0 warnings, 1 note, 1 silenced\n" in text
    assert text.endswith("ship 'a b/m.onnx' --target cpu-arm --trust --data e.npz --factory net.py:make --set gates.p99_ms=5\n")
    assert "silence]]" not in text
    text = said(WARNING)
    assert "nothing to mend" not in text
    assert "\n0 errors, 1 warning, 0 notes\n" in text
    assert " ship 'a b/m.onnx'" in text


def test_memory_is_a_table_by_rows(said):
    points = [MemoryPoint(rows=n, weights_mb=10.2, activations_mb=0.5 * n, total_mb=1500.0 + n) for n in (1, 1024)]
    text = said(memory=tuple(points))
    table = [line.split() for line in text.partition("in MB\n")[2].splitlines()]
    assert ["1", "10.2", "0.5", f"{PROCESS_MB + 1501:,.1f}"] in table
    assert ["1,024", "10.2", "512.0", f"{PROCESS_MB + 2524:,.1f}"] in table
    assert "memory of a process on cpu-arm, as predicted, in MB" in text
    assert "memory" not in said(NOTE)


@pytest.mark.parametrize(("columns", "widest"), [("", 80), ("60", 60), ("100", 100), ("300", 110)])
def test_long_texts_wrap_and_nothing_is_lost(said, monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", columns)
    evidence = " ".join(f"word{n}" for n in range(100))
    path = "x" * 250
    text = said(Finding(law="graph.a", severity="error", place=path, evidence=evidence, mend=evidence))
    report = text.partition("\ngraph\n")[2].partition("\n\n")[0]
    assert max(map(len, report.splitlines())) == widest
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "".join(report.split()).count("".join(evidence.split())) == 2
    assert path in "".join(report.split())


@given(st.text(st.characters()), st.text(st.characters()), st.integers(1, 200))
def test_any_text_is_printed_on_lines_that_are_no_orders(text, mend, width):
    one = Finding(law="a.b", severity="error", place=text, evidence=text, mend=mend)
    for line, _ in wrapped(one, width):
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
        assert len(line) <= max(width, 22) + 1  # a command that was made none is longer by a space


def test_wrapping_makes_no_command(said):
    text = said(Finding(law="a.b", severity="error", place="p", evidence=f"{'x' * 66} ::error::pwned", mend="m"))
    assert "\n           : :error::pwned\n" in text
