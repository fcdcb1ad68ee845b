"""NNCF for real: ``make test-openvino`` installs it. The pass, and its result on OpenVINO and onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from shipworthy import measure, optimize
from shipworthy.backends.runners import load
from shipworthy.optimize.int8_nncf import Int8Nncf
from shipworthy.optimize.plan import Candidate
from shipworthy.records import Target
from shipworthy.settings import MeasureSettings
from shipworthy.testing import laws

CPU = Target(precisions=("float32", "bfloat16", "int8"))
pytestmark = pytest.mark.filterwarnings("ignore")  # NNCF's own, and of what it imports


@pytest.fixture
def made(digits, monkeypatch):
    chain = (Candidate("nncf", (Int8Nncf(),), "openvino", "float32"),)
    monkeypatch.setattr(optimize, "candidates", lambda *_: chain)
    optimized = optimize.run(digits.model, CPU, digits.train)
    assert optimized.skips == ()
    return optimized.variants


def test_the_result_is_smaller_and_as_right_as_the_original(digits, made):
    original, quantized = made
    assert quantized.size_mb < 0.6 * original.size_mb
    settings = MeasureSettings(processes=1, repeats=1, repeat_seconds=0.05)
    first, second = measure.run(digits.model, made, CPU, settings, digits.evaluation).evidence
    assert (first.target.runtime, second.target.runtime) == ("onnxruntime", "openvino")
    assert second.figure("accuracy_percent").median >= first.figure("accuracy_percent").median - 1.5


def test_both_runtimes_give_the_same(digits, made):
    rows = digits.evaluation.take(0, 50)
    path = Path(made[1].path)
    one, other = (load(path, replace(CPU, runtime=name)).run(rows) for name in ("onnxruntime", "openvino"))
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=0.1)
    assert (one["label"] == other["label"]).mean() > 0.95


@pytest.mark.parametrize("law", laws.PASS, ids=lambda law: law.__name__)
def test_it_keeps_the_laws_of_passes(law, digits, tmp_path):
    law(Int8Nncf(), laws.Bench(Path(digits.model.path), tmp_path, digits.train.inputs, CPU))


def test_nothing_is_reported_to_anybody(digits, tmp_path):
    """A connection would be an error: the process may open none."""
    script = """
import socket, sys
from pathlib import Path
import numpy as np
def never(*_):
    raise SystemExit("it connects")
socket.socket.connect = never
socket.getaddrinfo = never
from shipworthy.backends import nncf
nncf.quantize(Path(sys.argv[1]), Path(sys.argv[2]), {"X": np.zeros((4, 64), np.float32)})
print(sys.modules["openvino_telemetry"])
"""
    command = [sys.executable, "-c", script, digits.model.path, str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "None"


def test_the_search_tries_it_on_openvino(digits):
    optimized = optimize.run(digits.model, CPU, digits.train, ("int8_static", "openvino"))
    found = {one.name: one for one in optimized.variants}
    assert found["openvino_int8_nncf"].chain[-1].name == "int8_nncf"
    assert found["openvino_int8_nncf"].runtime == "openvino"
