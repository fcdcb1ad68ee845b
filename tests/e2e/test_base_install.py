"""The base install is light, and serves a model."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "tensorflow", "mlflow", "mlflow-skinny", "scipy", "scikit-learn", "matplotlib", "pandas", "skl2onnx", "sympy"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment after ``pip install .``; the folder of its programs."""
    folder = tmp_path_factory.mktemp("base") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", str(ROOT)], check=True, capture_output=True)
    return folder / "bin"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Y = 2 X, over rows of three numbers."""
    node = onnx.helper.make_node("Mul", ["X", "two"], ["Y"])
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 3]) for name in "XY"]
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [two])
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def url(base: Path, model: Path) -> Iterator[str]:
    command = [base / "shipworthy", "serve", model.name, "--port", "0", "--json"]
    server = subprocess.Popen(command, cwd=model.parent, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]})
    assert server.stdout is not None
    yield json.loads(server.stdout.readline())["url"]
    server.terminate()
    server.communicate(timeout=30)
    assert server.returncode == 0


def test_nothing_heavy_is_installed(base: Path) -> None:
    done = subprocess.run([base / "python", "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    installed = {one["name"].lower() for one in json.loads(done.stdout)}
    assert "onnxruntime" in installed
    assert not installed & HEAVY


def test_a_bare_model_is_served_under_its_stem(url: str) -> None:
    body = {"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3.5]}]}
    with urllib.request.urlopen(f"{url}/v2/models/model/infer", json.dumps(body).encode(), timeout=30) as answer:
        assert json.load(answer)["outputs"][0]["data"] == [2, 4, 7]


@pytest.mark.parametrize("verb", ["check", "measure", "release", "ship"])
def test_the_way_of_an_onnx_model_needs_no_extra(base: Path, model: Path, verb: str) -> None:
    quick = ["--set", "measure.processes=1", "--set", "measure.repeat_seconds=0.01", "--set", "optimize.passes=['graph']"]
    done = subprocess.run(
        [base / "shipworthy", verb, model.name, *quick], cwd=model.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_named(base: Path, tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(pickle.dumps({}))
    command = [base / "shipworthy", "check", "model.joblib", "--trust"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'shipworthy[sklearn]'" in done.stderr
