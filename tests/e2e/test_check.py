"""``shipworthy check`` as it is typed, in a folder that holds a model and nothing else."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from .conftest import Project

SILENCE = """
[model]
name = "m"
path = "fixed.onnx"

[[check.silence]]
law = "signature.batch"
place = "{place}"
reason = "one camera, one picture at a time"
"""


def model(path: Path, rows: int | None, name: str = "x", declared: int = 3) -> None:
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    node = helper.make_node("MatMul", [name, "w"], ["y"])
    given, made = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [rows, m]) for n, m in ((name, 4), ("y", declared)))
    graph = helper.make_graph([node], "g", [given], [made], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three models: a good one, one that serves one row at a time, and one whose name attacks who reads it.

    What one test has found is reused by the next; those that need more have a folder of their own.
    """
    folder = tmp_path_factory.mktemp("bare")
    model(folder / "good.onnx", None)
    model(folder / "fixed.onnx", 1)
    model(folder / "evil.onnx", 1, "x\x1b[31m\n::error::pwned")
    return Project(folder)


def test_a_good_model(bare: Project) -> None:
    text, _ = bare.run("check", "good.onnx")
    assert "\nnothing to mend: 0 errors" in text
    assert text.endswith("ship good.onnx\n")
    assert "takes   x: float32 [?, 4]" in text
    assert {path.name for path in bare.folder.iterdir()} == {".shipworthy", "evil.onnx", "fixed.onnx", "good.onnx"}


def test_a_model_with_an_error(bare: Project) -> None:
    text, err = bare.run("check", "fixed.onnx", code=1)
    assert "  error    signature.batch  input x: float32 [1, 4]\n" in text
    assert "\n1 error, " in text
    assert max(map(len, text.splitlines())) <= 80
    assert "error:" not in err


def test_a_silenced_error_stops_nothing_and_is_told_with_its_reason(tmp_path: Path) -> None:
    alone, settings = Project(tmp_path), tmp_path / "shipworthy.toml"
    model(tmp_path / "fixed.onnx", 1)
    settings.write_text(SILENCE.format(place="output z"))
    text, _ = alone.run("check", code=1)
    assert "silence.idle  [[check.silence]] signature.batch, place output z" in text
    settings.write_text(SILENCE.format(place="input x: float32 [1, 4]"))
    text, _ = alone.run("check")
    assert "reason: one camera, one picture at a time" in text
    assert ", 1 silenced\n" in text
    assert "reused   inspect, intake, check: nothing" in text, "a silence is no reason to check again"
    assert "one camera, one picture at a time" in (tmp_path / ".shipworthy" / "reports" / "m.html").read_text()


def test_the_way_goes_on_with_a_silenced_error(tmp_path: Path) -> None:
    """An output whose declared shape is wrong: the checker refuses it, and the runtime does not mind."""
    model(tmp_path / "wrong.onnx", None, declared=5)
    alone = Project(tmp_path)
    alone.run("check", "wrong.onnx", code=1)
    quick = ("--set", "measure.processes=1", "--set", "measure.repeats=1", "--set", "optimize.passes=[]")
    silence = "check.silence=[{law = 'format', reason = 'the exporter is wrong, the graph is not'}]"
    text, _ = alone.run("measure", "wrong.onnx", *quick, "--set", silence)
    assert "(silenced: the exporter is wrong, the graph is not)" in text
    assert "chosen  original" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "xml"), "'xml' is not one of 'table', 'json', 'sarif', 'github'"),
        (("--environment", "nowhere.txt"), "Path 'nowhere.txt' does not exist"),
        (("--training-environment", "nowhere.txt"), "Path 'nowhere.txt' does not exist"),
        (("--target", "nowhere"), "there is no target 'nowhere'"),
        (("--set", "check.silence=[{law='format.opst', reason='r'}]"), "did you mean 'format.opset'?"),
        (("--set", "check.silence=[{law='format'}]"), "missing required field `reason`"),
    ],
)
def test_a_wrong_call_is_one_clear_error(bare: Project, arguments: tuple[str, ...], said: str) -> None:
    out, err = bare.run("check", "good.onnx", *arguments, code=2)
    assert not out
    assert err.count("error:") == 1
    assert said in err
    assert "do next:" in err


def test_a_list_that_the_settings_name_and_nobody_has_is_a_finding(bare: Project) -> None:
    text, _ = bare.run("check", "good.onnx", "--set", "check.environment=['nowhere.txt']", code=1)
    assert "  error    environment.readable  nowhere.txt\n           there is no such file\n" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "--format", "sarif"), "--json is --format json, and --format sarif was given, too"),
        (("--format", "json", "--environment", "nowhere.txt"), "Path 'nowhere.txt' does not exist"),
        (("--format=json", "--set", "check.silence=[{law='format'}]"), "check.silence[0] is not right"),
    ],
)
def test_a_wrong_call_is_json_for_machines(bare: Project, arguments: tuple[str, ...], said: str) -> None:
    out, err = bare.run("check", "good.onnx", *arguments, code=2)
    assert said in json.loads(out)["error"]
    assert not err


def test_the_formats_say_the_same(bare: Project) -> None:
    plain: dict[str, Any] = json.loads(bare.run("check", "fixed.onnx", "--format", "json", code=1)[0])
    assert plain["stopped"].startswith("check found ")
    findings = sorted((one["law"], one["severity"]) for one in plain["report"]["findings"])
    run = json.loads(bare.run("check", "fixed.onnx", "--format", "sarif", code=1)[0])["runs"][0]
    assert sorted((one["ruleId"], one["level"]) for one in run["results"]) == findings
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "fixed.onnx"
    text, _ = bare.run("check", "fixed.onnx", "--format", "github", code=1)
    assert text.startswith("::error file=fixed.onnx,title=signature.batch::input x: float32 [1, 4]: ")
    assert text.count("\n::") == len(findings) - 1


def test_a_name_in_a_model_gives_no_orders(bare: Project) -> None:
    for form in ("table", "github"):
        text, _ = bare.run("check", "evil.onnx", "--format", form, code=1)
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::error::")]
        assert "pwned" in text


def test_lists_of_packages_and_kinds_of_targets_are_taken(bare: Project) -> None:
    """The folder's name has a quote and a space: both are to reach the settings."""
    folder = bare.folder / "it's here"
    folder.mkdir()
    (folder / "requirements.txt").write_text("numpy\n")
    np.savez(folder / "rows.npz", x=np.ones((3, 4), np.float32), y=np.zeros(3, np.int64))
    way = ("check", "good.onnx", "--target", "cpu-arm", "--data", "it's here/rows.npz")
    lists = [word for name in ("--environment", "--training-environment") for word in (name, "it's here/requirements.txt")]
    text, _ = bare.run(*way, *lists)
    assert f'check.environment=["{folder}/requirements.txt"]' in shlex.split(text.splitlines()[-1]), "what comes next has them"
    assert "inspect" not in bare.json(*way)["reused"], "without the lists it is another check"


@pytest.mark.parametrize(
    ("arguments", "away", "code"),
    [
        ("good.onnx", "| true; exit ${PIPESTATUS[0]}", 0),
        ("fixed.onnx --format sarif", "| true; exit ${PIPESTATUS[0]}", 1),
        ("fixed.onnx", ">&-", 1),
    ],
)
def test_a_reader_that_goes_early_changes_nothing(bare: Project, arguments: str, away: str, code: int) -> None:
    call = f"{sys.executable} -W error -m shipworthy check {arguments} {away}"
    done = subprocess.run(["/bin/bash", "-c", call], cwd=bare.folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr


def test_interrupted_it_leaves_nothing_behind(bare: Project, tmp_path: Path) -> None:
    """Ctrl-C while a child looks at the file: the child is gone, and so is its folder."""
    home, scraps = tmp_path / "home", tmp_path / "scraps"
    scraps.mkdir()
    command = ("check", "good.onnx", "--workspace", str(home))
    with bare.start(*command, TMPDIR=str(scraps)) as process:
        deadline = time.monotonic() + 60
        while not list(scraps.glob("shipworthy-check-*/log.txt")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(scraps.iterdir()), "no child was ever begun"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, f"{out}\n{err}"
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not list(scraps.iterdir())
    while running := [one for one in commands() if str(scraps) in one]:  # one that is just beginning sees it in a moment
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
    assert not list(home.rglob("draft-*")) + list(home.rglob(".writing-*"))
    bare.run(*command)


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(os.fsdecode(path.read_bytes()))
        except OSError:  # it has ended
            continue
    return found
