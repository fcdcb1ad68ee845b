"""Reports in the formats of other tools: what the standards ask for, whatever a model's names are."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy import check
from shipworthy.check.tell import github, sarif
from shipworthy.records import Finding, Report

EVIL = "x\x1b[31m\r\n::error::pwned\n%0A::warning:: ##[add-mask]s \u202e\ud800 {0} [me](http://x) 'é漢\" \x00"
SILENCED = Finding(law="format.ir", severity="warning", place="IR version 12", evidence="above 10", silenced="we run 1.31")
FINDINGS = (
    Finding(law="signature.free", severity="note", place="input x", evidence="two are free"),
    Finding(law="numbers.parity", severity="warning", place="output y", evidence="one row differs"),
    Finding(law="signature.batch", severity="error", place="input x: float32 [1, 2]", evidence="fixed at 1", mend="free it"),
    Finding(law="signature.batch", severity="warning", place="output y", evidence="fixed at 1", mend="free it"),
    SILENCED,
)
REPORT = Report(model="d", laws=("format", "signature"), findings=FINDINGS)
TEXT = st.one_of(st.text(st.characters(), max_size=40), st.sampled_from(["", EVIL]))
REPORTS = st.lists(
    st.builds(
        Finding,
        law=st.sampled_from([*(law.name for law in check.LAWS), "of.another version"]),
        severity=st.sampled_from(["error", "warning", "note"]),
        place=TEXT,
        evidence=TEXT,
        mend=TEXT,
        silenced=TEXT,
    ),
    max_size=4,
).map(lambda findings: Report(model="d", laws=("format",), findings=tuple(findings)))


def log(report=REPORT, name="m", path="models/m.onnx", version="1.2.3"):
    return json.loads(sarif(report, check.LAWS, name, path, version))


# ---------------------------------------------------------------- GitHub


def commands(text):
    """The commands in a log, as GitHub's runner reads them, and its other lines (after ActionCommand.cs)."""
    found, plain = [], []
    for line in text.split("\n"):
        match = re.fullmatch(r"\s*::(\w[\w-]*) ?(.*?)::(.*)", line, re.DOTALL)
        if not match:
            assert "##[" not in line
            plain.append(line)
            continue
        properties = dict(pair.split("=", 1) for pair in match[2].split(","))
        found.append((match[1], {key: unescaped(value) for key, value in properties.items()}, unescaped(match[3])))
    return found, plain


def unescaped(text):
    for written, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(written, meant)
    return text


def test_annotations_stand_at_the_models_file_the_gravest_first():
    found, plain = commands(github(REPORT, "models/m.onnx"))
    assert found == [
        ("error", {"file": "models/m.onnx", "title": "signature.batch"}, "input x: float32 [1, 2]: fixed at 1\nmend: free it"),
        ("warning", {"file": "models/m.onnx", "title": "signature.batch"}, "output y: fixed at 1\nmend: free it"),
        ("warning", {"file": "models/m.onnx", "title": "numbers.parity"}, "output y: one row differs"),
        ("notice", {"file": "models/m.onnx", "title": "signature.free"}, "input x: two are free"),
    ]
    assert plain == [
        "silenced format.ir: IR version 12: above 10 (reason: we run 1.31)",
        "1 error, 2 warnings, 1 note, 1 silenced",
    ]


def test_what_has_a_meaning_in_commands_is_escaped():
    one = Finding(law="a,b:c", severity="error", place="100 %", evidence="a\r\nb%0A", mend="")
    line = github(Report(model="d", laws=(), findings=(one,)), "a:b,c%.onnx").split("\n")[0]
    assert line == "::error file=a%3Ab%2Cc%25.onnx,title=a%2Cb%3Ac::100 %25: a\\r%0Ab%250A"


@given(REPORTS, TEXT)
def test_any_report_gives_just_its_own_annotations(report, path):
    text = github(report, path)
    text.encode()
    found, plain = commands(text)
    heard = [one for one in report.findings if not one.silenced]
    assert sorted(name for name, _, _ in found) == sorted({"note": "notice"}.get(one.severity, one.severity) for one in heard)
    assert all(set(properties) == {"file", "title"} for _, properties, _ in found)
    assert len(plain) == len(report.silenced) + 1
    assert text.replace("\n", "").isprintable()


# ---------------------------------------------------------------- SARIF

# The properties of the standard's objects that we write, and whether it (or GitHub) demands them; from its section 3.
SHAPES = {
    "log": {"$schema": True, "version": True, "runs": True},
    "run": {"tool": True, "automationDetails": False, "originalUriBaseIds": False, "results": True},
    "driver": {"name": True, "version": False, "rules": True},
    "rule": dict.fromkeys(["id", "shortDescription", "fullDescription", "help", "defaultConfiguration", "properties"], True),
    "result": {
        **dict.fromkeys(["ruleId", "level", "message", "locations", "partialFingerprints", "suppressions"], True),
        "ruleIndex": False,
    },
    "location": {"physicalLocation": True, "logicalLocations": False},
    "artifactLocation": {"uri": True, "uriBaseId": False},
    "region": dict.fromkeys(["startLine", "startColumn", "endLine", "endColumn"], True),
    "logicalLocation": {"fullyQualifiedName": True, "kind": False, "name": False},
    "suppression": {"kind": True, "justification": True},
}


def shaped(kind, plain):
    shape = SHAPES[kind]
    assert {name for name, must in shape.items() if must} <= set(plain) <= set(shape), f"{kind}: {sorted(plain)}"
    return plain


def assert_valid(plain):
    """What the standard's section 3 and GitHub's list of properties say of the parts that we write."""
    shaped("log", plain)
    assert plain["version"] == "2.1.0"
    (run,) = (shaped("run", one) for one in plain["runs"])
    assert run["automationDetails"]["id"].endswith("/"), "all before the last slash is the category"
    driver = shaped("driver", run["tool"]["driver"])
    rules = [shaped("rule", one) for one in driver["rules"]]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        for key in ("shortDescription", "fullDescription", "help"):
            assert set(rule[key]) == {"text"}
            assert 3 < len(rule[key]["text"]) <= 1024
        assert rule["defaultConfiguration"]["level"] in {"error", "warning", "note"}
    prints = [one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]]
    assert len(set(prints)) == len(prints)
    for result in run["results"]:
        shaped("result", result)
        assert result["level"] in {"error", "warning", "note"}
        if "ruleIndex" in result:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        text = result["message"]["text"]
        assert not re.search(r"(?<!\{)(\{\{)*\{(?!\{)\d+\}", text), "a placeholder"
        assert "](" not in text, "a link"
        (location,) = (shaped("location", one) for one in result["locations"])
        physical = location["physicalLocation"]
        assert re.fullmatch(r"[\w.~%/-]*|file:///.*", shaped("artifactLocation", physical["artifactLocation"])["uri"])
        assert min(shaped("region", physical["region"]).values()) >= 1
        for one in location.get("logicalLocations", []):
            shaped("logicalLocation", one)
        for one in result["suppressions"]:
            assert shaped("suppression", one)["kind"] == "external"


def test_laws_are_the_rules_and_findings_the_results():
    plain = log()
    assert_valid(plain)
    (run,) = plain["runs"]
    assert (run["tool"]["driver"]["name"], run["tool"]["driver"]["version"]) == ("shipworthy", "1.2.3")
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert list(rules) == [law.name for law in check.LAWS]
    for law in check.LAWS:
        rule = rules[law.name]
        assert rule["shortDescription"]["text"].lower() == f"{law.holds}.".lower()
        assert law.breaks in rule["fullDescription"]["text"]
        assert law.mend in rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] == law.severity
    first, *_, last = run["results"]
    assert (first["ruleId"], first["level"]) == ("signature.batch", "error")
    assert first["message"]["text"] == "input x: float32 [1, 2]: fixed at 1\nMend: free it"
    assert first["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "models/m.onnx", "uriBaseId": "%SRCROOT%"}
    assert first["locations"][0]["logicalLocations"] == [
        {"fullyQualifiedName": "input x: float32 [1, 2]", "kind": "input", "name": "x: float32 [1, 2]"}
    ]
    assert [one["level"] for one in run["results"]] == ["error", "warning", "note", "warning", "warning"]
    assert [bool(one["suppressions"]) for one in run["results"]] == [False, False, False, False, True]
    assert last["suppressions"] == [{"kind": "external", "justification": "we run 1.31"}]
    assert last["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "IR version 12"}], "IR is no kind of thing"


def fingerprints(report):
    return [one["partialFingerprints"]["primaryLocationLineHash"] for one in log(report)["runs"][0]["results"]]


def test_fingerprints_are_of_law_and_place_not_of_figures_that_change():
    one = Finding(law="numbers.parity", severity="error", place="output y", evidence="0.1 off")
    again = Finding(law="numbers.parity", severity="error", place="output y", evidence="0.2 off")
    other = Finding(law="numbers.parity", severity="error", place="output z", evidence="0.1 off")
    alone, both = (Report(model="d", laws=(), findings=findings) for findings in ((again,), (one, other, again)))
    first, second, third = fingerprints(both)
    assert fingerprints(alone) == [first]
    assert first.split(":")[0] == third.split(":")[0] != second.split(":")[0]
    assert (first[-2:], second[-2:], third[-2:]) == (":1", ":1", ":2")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("a b/ü%:1.onnx", {"uri": "a%20b/%C3%BC%25%3A1.onnx", "uriBaseId": "%SRCROOT%"}),
        ("m\udcff.onnx", {"uri": "m%FF.onnx", "uriBaseId": "%SRCROOT%"}),
        ("/opt/m x.onnx", {"uri": "file:///opt/m%20x.onnx"}),
    ],
)
def test_paths_are_uris(path, location):
    found = log(path=path)["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert found == location
    assert unquote(found["uri"], errors="surrogateescape").removeprefix("file://") == path


def test_a_report_without_findings_is_a_log_without_results():
    plain = log(Report(model="d", laws=("format",), findings=()))
    assert_valid(plain)
    assert plain["runs"][0]["results"] == [], "there was a run, and it found nothing"


@given(REPORTS, TEXT)
def test_any_report_is_a_valid_log(report, name):
    text = sarif(report, check.LAWS, name, "m.onnx", "1")
    text.encode()
    plain = json.loads(text)
    assert_valid(plain)
    json.dumps(plain, ensure_ascii=False).encode()
    assert len(plain["runs"][0]["results"]) == len(report.findings)
