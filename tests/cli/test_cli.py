"""The command line: quick, exact about what is wrong, and the same for people and machines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipworthy.cli import VERBS


def call(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "shipworthy", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False, env=environment or None,
    )  # fmt: skip


def test_help_answers_in_under_200_ms() -> None:
    took = []
    for _ in range(5):
        start = time.perf_counter()
        done = call("--help")
        took.append(time.perf_counter() - start)
        assert done.returncode == 0
    for verb in VERBS:
        assert f"  {verb} " in done.stdout
    assert min(took) < 0.2, f"the quickest of five took {1000 * min(took):.0f} ms"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str) -> None:
    done = call(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: shipworthy {verb}")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("shp",), ["there is no verb 'shp'; did you mean 'ship'?"]),
        (("frobnicate",), ["there is no verb 'frobnicate'", "check"]),
        (("ship", "--bogus"), ["--bogus", "shipworthy ship --help"]),
        (("ship", "nowhere"), ["there is nothing at nowhere", "correct the path"]),
        (("ship",), ["there is no shipworthy.toml in ."]),
        (("ship", ".", "--set", "gates.p99_ms"), ["--set takes KEY=VALUE"]),
        (("serve", "digits"), ["nothing", "released"]),
        (("serve", "nowhere/model.onnx"), ["there is no file nowhere/model.onnx"]),
        (("serve", "model.onnx", "--port", "eighty"), ["'eighty' is not a valid integer"]),
        (("serve", "model.onnx", "--port", "70000"), ["serve.port is not right", "70000"]),
        (("init", "nowhere.onnx"), ["nowhere.onnx"]),
        (("completion", "tcsh"), ["tcsh"]),
    ],
)
def test_a_wrong_call_gets_one_clear_error_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], parts: list[str]
) -> None:
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error:") == 1
    assert not done.stdout
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert not list(tmp_path.iterdir()), "a refused call left something behind"
    machine = call(*arguments, "--json", cwd=tmp_path)
    if arguments[0] in ("ship", "serve", "init"):
        assert machine.returncode == 2
        assert "error" in json.loads(machine.stdout)
        assert not machine.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = call("ship", "nowhere", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "there is nothing at nowhere" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = call("completion", shell)
    assert done.returncode == 0
    assert "_SHIPWORTHY_COMPLETE" in done.stdout


def test_bash_completes_verbs_and_options() -> None:
    script = Path(sys.executable).with_name("shipworthy")
    for words, word, expected in (
        ("shipworthy se", "1", "serve"),
        ("shipworthy ship --tru", "2", "--trust"),
        ("shipworthy check --env", "2", "--environment"),
        ("shipworthy check --format s", "3", "sarif"),
    ):
        done = subprocess.run(
            [str(script)],
            env={"_SHIPWORTHY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": word},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert f"plain,{expected}" in done.stdout


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -W error -m shipworthy --help | true"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30, check=False
    )
    assert not done.stderr
