"""Importing does nothing that anybody can see: no word printed, no thread, no file, no socket, no process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# Runs in a fresh interpreter: imports every module of a package under an audit hook and writes down what was done.
PROBE = """
import importlib, json, os, pkgutil, sys, threading
deeds, now = [], ""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.putenv", "os.system", "os.fork", "os.chdir",
          "subprocess.Popen", "socket.bind", "socket.connect", "shutil.rmtree", "tempfile.mkstemp", "sqlite3.connect"}
def hook(event, args):
    if event in EVENTS or (event == "open" and args[0] != os.devnull and isinstance(args[2], int) and args[2] & WRITING):
        deeds.append(f"{now}: {event} {args[0]!r}")
package, report = sys.argv[1:]
out = open(report, "w")
import numpy  # sets and unsets a variable of the environment for its own linear algebra
sys.addaudithook(hook)
names = [package]
for name in names:
    now = name
    module = importlib.import_module(name)
    names += [f"{name}.{one.name}" for one in pkgutil.iter_modules(getattr(module, "__path__", []))]
deeds += [f"thread {one.name}" for one in threading.enumerate() if one is not threading.main_thread()]
json.dump({"names": names, "deeds": deeds}, out)
"""


def deeds(package: str, path: Path, report: Path) -> tuple[list[str], list[str]]:
    """The modules of a package, and what importing them did."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, package, str(report)],
        env={"PYTHONPATH": str(path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return [], [done.stderr.strip().splitlines()[-1]]
    found = json.loads(report.read_text())
    printed = [f"printed {text!r}" for text in (done.stdout, done.stderr) if text]
    return found["names"], found["deeds"] + printed


# A variable that onnxruntime reads when it is imported, and only then: it switches its telemetry off.
ALLOWED = ["shipworthy.backends: os.putenv b'ORT_DISABLE_TELEMETRY'"]


def test_importing_any_module_does_nothing(tmp_path):
    names, done = deeds("shipworthy", SOURCE, tmp_path / "report.json")
    assert done == ALLOWED
    compiled = {path.with_name(path.name.partition(".")[0]) for path in SOURCE.rglob("*.so")}
    paths = {*compiled, *(path.with_suffix("") for path in SOURCE.rglob("*.py"))}
    files = {".".join(path.relative_to(SOURCE).parts) for path in paths}
    assert set(names) == {name.removesuffix(".__init__") for name in files}, "a folder without __init__.py hides modules"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("print('hello')", "printed 'hello\\n'"),
        ("import sys; sys.stderr.write('hm')", "printed 'hm'"),
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True, name='busy').start()", "thread busy"),
        ("open('left', 'w').close()", "bad.inner: open 'left'"),
        ("import os; os.environ['A'] = 'b'", "bad.inner: os.putenv b'A'"),
        ("import subprocess; subprocess.run(['/bin/true'])", "bad.inner: subprocess.Popen '/bin/true'"),
        ("import socket; socket.socket().bind(('127.0.0.1', 0))", "bad.inner: socket.bind"),
        ("raise ImportError('no such thing')", "ImportError: no such thing"),
        ("import tempfile; tempfile.mkdtemp()", "bad.inner: os.mkdir"),
    ],
)
def test_the_checker_sees(tmp_path, monkeypatch, source, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "__init__.py").touch()
    (tmp_path / "bad" / "inner.py").write_text(source)
    _, done = deeds("bad", tmp_path, tmp_path / "report.json")
    assert any(one.startswith(said) for one in done), done
