"""Every command of README is run, as a reader would: in order, from the folder of the project."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(README)]
CLIENTS = {"tritonclient": "triton", "ovmsclient": "ovms"}
SHOWN = re.compile(r"^print\(.*\)  # (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone as a reader has it after ``make demo`` trained the model."""
    folder = tmp_path_factory.mktemp("clone") / "shipworthy"
    shutil.copytree(ROOT / "examples", folder / "examples")
    for command in (("init", "-q"), ("add", "examples"), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")):
        subprocess.run(["/usr/bin/git", *command], cwd=folder, check=True)
    subprocess.run([sys.executable, "examples/digits/train.py"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for one in running:
        one.terminate()
        one.communicate(timeout=30)
        assert one.returncode == 0


def test_the_make_targets_are_what_ci_runs() -> None:
    made = [line.split("#")[0].strip() for kind, block in BLOCKS for line in block.splitlines() if line.startswith("make ")]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert made[:2] == ["make demo", "make test"]
    assert made == [line for line in script if line.startswith("make ")]


def test_every_command_works(clone: Path, servers: list[subprocess.Popen[str]]) -> None:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        port, grpc = (str(probe.getsockname()[1]) for probe in (one, other))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "SHIPWORTHY_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    blocks = [block for kind, block in BLOCKS if (kind == "sh" and not block.startswith("make ")) or client_of(block)]
    assert [client_of(block) for block in blocks if client_of(block)] == ["triton", "ovms"]
    assert len(blocks) >= 6
    said = ""
    for block in blocks:
        here = block.replace(":8000", f":{port}").replace(":8001", f":{grpc}")
        if here.startswith("shipworthy serve"):
            command = [*here.split("#")[0].split(), "--port", port, "--grpc-port", grpc]
            servers.append(subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True))
            wait_for(int(port), servers[-1])
        elif client_of(block):
            assert answered(client_of(block), here, clone) == SHOWN.findall(block)
        else:
            command = ["/bin/bash", "-euo", "pipefail", "-c", here]
            done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
    assert '"label"' in said
    assert '"data":[0]' in said, "the picture of a nought is a nought"


def client_of(block: str) -> str:
    """The environment of ``make clients`` that a Python block needs; empty for our own."""
    return next(
        (name for package, name in CLIENTS.items() if re.search(rf"^(import|from) {package}\b", block, re.MULTILINE)), ""
    )


def answered(client: str, block: str, folder: Path) -> list[str]:
    """What a block prints, in the environment of a client: its packages clash with ours."""
    python = ROOT / ".clients" / client / "bin" / "python"
    assert python.exists(), "run 'make clients' first"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [python, "-c", block], cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


def test_the_python_block_works(clone: Path) -> None:
    (block,) = [block for kind, block in BLOCKS if kind == "python" and not client_of(block)]
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gap between development and production: 0.0" in done.stdout


def test_the_step_by_step_example_works(clone: Path, tmp_path: Path) -> None:
    script = clone / "examples" / "digits" / "step_by_step.py"
    done = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "digits version 1, gap 0.0 points" in done.stdout


def wait_for(port: int, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the server did not answer in 30 s")
