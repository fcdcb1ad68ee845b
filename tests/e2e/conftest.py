"""A small project on its way, real processes, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
# The digits model, trained for a moment: as large as the real one, so that INT8 is faster beyond any noise.
QUICK_TRAINING = "max_iter=2, early_stopping=False"
SETTINGS = """
[model]
name = "digits"
path = "model.joblib"
train = "train.py"
trust = true

[data]
evaluation = "evaluation.npz"
calibration = "calibration.npz"
baseline = "train.npz"

[gates]
accuracy_percent = 60.0
accuracy_kept_percent = 90.0
availability_percent = 99.95

[optimize]
passes = ["int8_static"]
goal = "size"

[measure]
processes = 1
repeats = 3
repeat_seconds = 0.03

[release]
mlflow = "off"
"""


@dataclass(frozen=True)
class Project:
    """A folder with a project in it; the workspace is ``.shipworthy`` there."""

    folder: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A real ``shipworthy`` process in the folder, its output readable."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "SHIPWORTHY_"))}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "shipworthy", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=clean | environment,
            # Where the tests run in the background of a shell, it is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def run(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """Run to the end; the exit code must be ``code``; standard output and standard error."""
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=240)
        assert process.returncode == code, f"{arguments}: exit code {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err
        return out, err

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run with ``--json``; what was printed."""
        plain: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code)[0])
        return plain


def write_project(folder: Path) -> Project:
    """The project, not trained yet."""
    script = (EXAMPLE / "train.py").read_text()
    quick = script.replace("max_iter=40, early_stopping=True, n_iter_no_change=8", QUICK_TRAINING)
    assert quick != script
    head = "import warnings\nwarnings.simplefilter('ignore')\n"

    (folder / "train.py").write_text(head + quick)
    (folder / "shipworthy.toml").write_text(SETTINGS)
    return Project(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project trained, made once; never written to by tests."""
    folder = tmp_path_factory.mktemp("trained")
    write_project(folder)
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def untrained(tmp_path: Path) -> Project:
    """The project before its training."""
    return write_project(tmp_path)


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Project:
    """A copy of the trained project."""
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return Project(tmp_path)
