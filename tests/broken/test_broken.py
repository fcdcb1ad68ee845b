"""Every broken model is a clear finding or a clear refusal: no traceback, nothing executed, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shipworthy import check, records
from shipworthy.check import areas
from shipworthy.check.subject import Origin
from shipworthy.cli import main
from shipworthy.errors import Refused

from . import make

# A few, for what takes a process a case.
SOME = (
    "cut at 50 percent",
    "opset of tomorrow",
    "payload deep in a joblib",
    "a Lambda of Keras",
)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def told(report) -> set[str]:
    """The laws that found errors; each finding must be fit to be read."""
    for one in report.findings:
        assert one.place
        assert one.evidence
        assert "\n" not in one.evidence
        assert all(letter.isprintable() for letter in one.place + one.evidence), "a file writes to the terminal as it likes"
        assert len(one.evidence) < 2000
        assert one.mend or one.severity == "note"
        json.dumps(records.dump(one)).encode()
    return {one.law for one in report.errors}


def all_the_way(path: Path, *, trust: bool) -> set[str]:
    """As ``ship`` does it: what is found on the file; if nothing, it is taken in and looked at as a model."""
    try:
        found = told(areas.inspect(Origin(path, path, trust=trust)))
        if found:
            return found
        model = check.take_in(path, "broken", path.parent.parent / "models", trust=trust)
        return told(check.run(model))
    except Refused as error:
        return {"Refused"} if str(path) in str(error) else {"a refusal that does not name the file"}


def test_there_are_many():
    assert len(make.CASES) >= 50


@pytest.mark.parametrize("name", make.CASES)
def test_it_is_found_and_never_executed(name, tmp_path):
    case, path = make.CASES[name], make.write(name, tmp_path)
    before = files(tmp_path)
    found = all_the_way(path, trust=case.trust)
    assert found & set(case.laws), f"found {found}, wanted one of {case.laws}"
    assert not (path.parent / make.EXECUTED).exists(), "the payload was executed"
    assert {one for one in files(tmp_path) - before if one != "models"} <= {f"models/{one}" for one in kept(tmp_path)}


def kept(folder: Path) -> list[str]:
    """What taking a model in leaves: whole files named by their digests."""
    return [path.name for path in (folder / "models").glob("*.onnx") if len(path.stem) == 64]


def test_the_payload_of_these_tests_does_something(tmp_path):
    path = make.write("payload in protocol 4", tmp_path)
    with pytest.raises(Refused):  # what comes out of it is no model
        check.take_in(path, "broken", tmp_path / "models", trust=True)
    assert (path.parent / make.EXECUTED).exists(), "nothing executes it: the tests above prove nothing"


def test_the_same_bytes_every_time(tmp_path):
    for name in make.CASES:
        if any(word in name for word in ("payload", "link", "pipe", "over 2 GB", "bomb")):
            continue  # their bytes name their folder, or there are none, or many
        one, two = make.write(name, tmp_path / "one"), make.write(name, tmp_path / "two")
        if one.is_file():
            assert one.read_bytes() == two.read_bytes(), name


def command(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``shipworthy check`` over it: exit code 1 for a finding, 2 for a refusal, and what a person reads."""
    case, path = make.CASES[name], make.write(name, folder)
    before = files(folder)
    trust = ["--trust"] if case.trust else []
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path), "--workspace", str(folder / "work"), *trust, "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert ended.value.code == (2 if "Refused" in case.laws else 1), out + err
    said = json.loads(out)
    if ended.value.code == 1:
        errors = {one["law"] for one in said["report"]["findings"] if one["severity"] == "error"}
        assert errors & set(case.laws), errors
        assert said["stopped"]
    else:
        assert said["error"]
    assert not (path.parent / make.EXECUTED).exists(), "the payload was executed"
    left = {one for one in files(folder) - before if not one.startswith("work")}
    assert not left
    assert not list((folder / "work").rglob("draft-*")) + list((folder / "work").rglob(".writing-*"))


@pytest.mark.parametrize("name", SOME)
def test_the_command_line_says_so(name, tmp_path, capsys):
    command(name, tmp_path, capsys)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", [*make.CASES][::3])
def test_the_command_line_says_so_of_every_third(name, tmp_path, capsys):
    command(name, tmp_path, capsys)
