"""The user's training script: run once, when the file is missing; whatever it does wrong is told."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipworthy.errors import Refused
from shipworthy.protocols import Quiet
from shipworthy.settings import ModelSettings, Settings
from shipworthy.training import train


def settings(folder, script="import pathlib; pathlib.Path('m.onnx').write_text('made')", **model):
    if script is not None:
        (folder / "train.py").write_text(script)
    return Settings(model=ModelSettings(**{"name": "a", "path": "m.onnx", "train": "train.py"} | model), folder=str(folder))


def test_the_script_makes_the_file_in_its_own_folder(tmp_path, monkeypatch):
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text))

    monkeypatch.chdir(tmp_path.parent)
    train(settings(tmp_path), Ear())
    assert (tmp_path / "m.onnx").read_text() == "made"
    assert heard
    assert heard[0][0] == "train"
    assert heard[0][1].startswith(str(tmp_path / "train.py"))


def test_a_file_that_is_there_is_not_made_again(tmp_path):
    (tmp_path / "m.onnx").write_text("old")
    train(settings(tmp_path, "raise SystemExit(1)"), Quiet())
    assert (tmp_path / "m.onnx").read_text() == "old"


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("import sys; print('it was me'); sys.exit(4)", 4, "it was me"),
        ("raise ValueError('no rows')", 1, "ValueError: no rows"),
        ("def f(:", 1, "SyntaxError"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe' * 5000); sys.exit('last words')", 1, "last words"),
    ],
    ids=["exit", "raise", "syntax", "killed", "binary"],
)
def test_a_script_that_fails_says_why(tmp_path, script, code, words):
    with pytest.raises(Refused, match=r"train\.py failed") as caught:
        train(settings(tmp_path, script), Quiet())
    assert f"exit code {code};" in caught.value.found
    assert words in caught.value.found
    assert len(caught.value.found) < 2000
    assert str(tmp_path / "train.py") in caught.value.next


def test_a_script_that_leaves_no_file(tmp_path):
    with pytest.raises(Refused, match=r"train\.py left no .*m\.onnx"):
        train(settings(tmp_path, "print('done')"), Quiet())


def test_neither_file_nor_script(tmp_path):
    with pytest.raises(Refused, match="there is no file") as caught:
        train(settings(tmp_path, None), Quiet())
    assert "no script" in caught.value.found
    with pytest.raises(Refused, match="there is no file") as caught:
        train(settings(tmp_path, None, train=""), Quiet())
    assert "no train script under [model]" in caught.value.found


PARENT = """
import sys
from shipworthy.protocols import Quiet
from shipworthy.settings import ModelSettings, Settings
from shipworthy.training import train
train(Settings(model=ModelSettings(name="a", path="m.onnx", train="train.py"), folder=sys.argv[1]), Quiet())
"""


def test_the_script_dies_with_a_parent_that_is_killed(tmp_path):
    """It writes its process id and works on; when shipworthy is killed, it goes too."""
    settings(tmp_path, "import os, time, pathlib; pathlib.Path('.pid').write_text(f'{os.getpid()}\\n'); time.sleep(60)")
    pid = tmp_path / ".pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)]) as parent:
        end = time.monotonic() + 20
        while not (pid.exists() and pid.read_text().endswith("\n")) and time.monotonic() < end:
            time.sleep(0.02)
        script = Path(f"/proc/{pid.read_text().strip()}/stat")
        assert script.exists()
        parent.kill()
    end = time.monotonic() + 5
    while alive(script) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(script)


def alive(stat):
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
