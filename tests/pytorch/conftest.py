"""The vision example, trained once; and small modules in files of their own. ``make test-torch`` runs this folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy import check, data, optimize, settings
from shipworthy.backends import torch as backend
from shipworthy.data import Dataset
from shipworthy.optimize.plan import Candidate
from shipworthy.protocols import Pass
from shipworthy.records import Made, Model, Target, Variant

EXAMPLE = Path(__file__).parents[2] / "examples" / "vision"


@dataclass(frozen=True)
class Vision:
    """The example in a folder of its own, trained, and what intake made of it."""

    folder: Path
    model: Model
    recipe: backend.Recipe
    tuning: backend.Tuning
    calibration: Dataset
    evaluation: Dataset
    accuracy: float
    made: dict[str, Made]

    def make(self, *chain: Pass) -> Variant:
        """What the passes make of it, one after the other; what was made before is not made again."""
        shop = optimize.Workshop(self.model, Target(), self.calibration, self._remember)
        made = shop.make(Candidate(chain[-1].name, chain), optimize.original(self.model))
        assert made.variant is not None, f"{made.reason}\n{made.log}"
        return made.variant

    def _remember(self, key: dict[str, Any], build: Callable[[], Made]) -> Made:
        name = str(key)
        if name not in self.made:
            self.made[name] = build()
        return self.made[name]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of the example after train.py, and what that said."""
    folder = tmp_path_factory.mktemp("example") / "vision"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.npz", "*.safetensors", ".shipworthy", "__pycache__"))
    said = subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return folder, said


@pytest.fixture(scope="session")
def vision(trained, tmp_path_factory):
    folder, said = trained
    wanted = settings.read(folder)
    recipe = backend.recipe(wanted)
    models = tmp_path_factory.mktemp("models")
    model = check.take_in(folder / "model.safetensors", "vision", models, trust=True, recipe=recipe)
    evaluation = data.read(folder / "evaluation.npz", model.signature, {}, "y")
    calibration = data.read(folder / "calibration.npz", model.signature, {})
    tuning = backend.tuning(wanted, model)
    return Vision(folder, model, recipe, tuning, calibration, evaluation, float(said.split("; ")[1].split(" %")[0]), {})


@pytest.fixture
def project(tmp_path):
    """Write a module's code and its weights, and rows for it; gives the path of the weights and the recipe."""

    def make(code, rows=None, weights=True, **names):
        import torch  # noqa: PLC0415

        header = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"
        file = tmp_path / f"code{len(list(tmp_path.iterdir()))}.py"
        file.write_text(header + code, encoding="utf-8")
        np.savez(tmp_path / "rows.npz", **(rows or {"x": np.ones((4, 3), np.float32)}))
        path = tmp_path / "m.safetensors"
        if weights:
            from safetensors.torch import save_file  # noqa: PLC0415

            from shipworthy.backends.fine_tune import function  # noqa: PLC0415

            torch.manual_seed(0)
            save_file(function(f"{file}:make")().state_dict(), path)
        return path, backend.Recipe(f"{file}:make", tmp_path / "rows.npz", names)

    return make
