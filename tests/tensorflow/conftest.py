"""Models of Keras 3, Keras 2 and TensorFlow, trained here on scikit-learn's digits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shipworthy import check
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.records import Model, Target

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Models:
    """The folder that they are in, rows that no training has seen, and the shares of those that were right in training."""

    folder: Path
    rows: np.ndarray
    labels: np.ndarray
    accuracy: dict[str, float]

    def right(self, path: Path | str, inputs: dict[str, np.ndarray], output: str = "output_0") -> float:
        """The share of the rows that an ONNX file gets right."""
        answers = OnnxRuntimeRunner(Path(path), Target()).run(inputs)[output]
        return float((answers.argmax(1) == self.labels).mean())


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("trained")
    done = subprocess.run([sys.executable, HERE / "make_models.py", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "digits.npz") as digits:
        rows, labels = digits["rows"], digits["labels"]
    return Models(folder, rows, labels, json.loads((folder / "accuracy.json").read_text()))


@pytest.fixture
def take(models: Models, tmp_path: Path) -> Callable[..., Model]:
    """Take one of them in."""
    return lambda name, trust=True: check.take_in(models.folder / name, "m", tmp_path / "models", trust=trust)
