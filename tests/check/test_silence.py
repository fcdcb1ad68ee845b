"""Silenced findings: which, with what reason, and which silences are for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipworthy import check, readiness
from shipworthy.check import silence
from shipworthy.errors import Refused
from shipworthy.job import Job
from shipworthy.records import Finding, Report, Target
from shipworthy.sections import SilenceSettings
from shipworthy.settings import for_model
from shipworthy.workspace import Workspace

OPSET = Finding(law="format.opset", severity="error", place="opset 16", evidence="e")
INPUT = Finding(law="signature.batch", severity="error", place="input x: float32 [1, 2]", evidence="e")
OUTPUT = Finding(law="signature.batch", severity="warning", place="output y: float32 [1, 2]", evidence="e")
REPORT = Report(model="m", laws=("format", "signature"), findings=(OPSET, INPUT, OUTPUT))


def silent(law, place="*", reason="so it is"):
    return SilenceSettings(law=law, place=place, reason=reason)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (silent("format.opset"), [OPSET]),
        (silent("signature"), [INPUT, OUTPUT]),
        (silent("signature.batch"), [INPUT, OUTPUT]),
        (silent("signature.batch", "input *"), [INPUT]),
        (silent("signature.batch", "input x: float32 [1, 2]"), [INPUT]),
        (silent("signature.batch", "*float32 [1, 2]"), [INPUT, OUTPUT]),
        (silent("signature", "INPUT *"), []),
        (silent("signature", "input"), []),
        (silent("signature.free"), []),
        (silent("sig"), []),
        (silent("graph"), []),
    ],
)
def test_law_or_area_and_place_say_which(one, found):
    assert [f.place for f in silence.apply(REPORT, [one]).silenced] == [f.place for f in found]


def test_a_silenced_error_stops_nothing_and_keeps_its_reason():
    report = silence.apply(
        REPORT, [silent("format", reason="first"), silent("*", reason="no"), silent("format.opset", reason="b")]
    )
    assert report.errors == (INPUT,)
    assert [f.silenced for f in report.findings] == ["first", "", ""]
    assert silence.apply(report, []) == REPORT, "a silence that was taken out silences no more"


def test_a_silence_for_nothing_is_a_note():
    report = silence.told_idle(REPORT, [silent("format"), silent("numbers.parity", "output z")])
    assert report.findings[:3] == REPORT.findings
    (note,) = report.findings[3:]
    assert (note.law, note.severity, note.place) == ("silence.idle", "note", "[[check.silence]] numbers.parity, place output z")


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ("format.opst", "there is no law 'format.opst'; did you mean 'format.opset'?"),
        ("signatur", "there is no law 'signatur'; did you mean 'signature'?"),
        ("xyzzy", "there is no law 'xyzzy'\n"),
        ("", "there is no law ''\n"),
        ("*", "there is no law '*'\n"),
    ],
)
def test_a_law_that_does_not_exist_is_refused_with_the_nearest(law, said):
    with pytest.raises(Refused) as caught:
        silence.refuse_unknown([silent("format.opset"), silent(law)], check.LAWS)
    assert said in f"{caught.value}\n"
    assert "format, security, environment" in caught.value.expected


def test_every_law_and_area_can_be_named():
    names = {law.name for law in check.LAWS} | {law.name.partition(".")[0] for law in check.LAWS}
    silence.refuse_unknown([silent(name) for name in names], check.LAWS)


def test_another_silence_needs_no_new_check(tmp_path, monkeypatch):
    """The arrows read the kept report, and only then is anything silenced."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    calls = []
    monkeypatch.setattr(check.apart, "inspect", lambda origin: calls.append(origin) or REPORT)

    def inspected(*laws):
        values = ", ".join(f"{{law = '{law}', reason = 'r'}}" for law in laws)
        settings = for_model(Path(tmp_path / "m.onnx"), {"check.silence": f"[{values}]"})
        return readiness.inspect_file(Job(settings, Workspace(tmp_path / "w"), Target()))

    assert len(inspected().errors) == 2
    assert [f.law for f in inspected("format").errors] == ["signature.batch"]
    assert not inspected("format", "signature").errors
    assert len(inspected().errors) == 2
    assert len(calls) == 1
