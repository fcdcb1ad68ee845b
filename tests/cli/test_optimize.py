"""The verb ``optimize``: its times, and what it writes for a target that is elsewhere."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from shipworthy.cli.optimize import command, seconds


@pytest.mark.parametrize(("said", "means"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("0.5m", 30)])
def test_times(said, means):
    assert seconds(None, None, said) == means
    assert seconds(None, None, None) is None


@pytest.mark.parametrize("said", ["", "0", "0m", "-1", "10 m", "ten", "1d", "1e3", "nan"])
def test_what_is_no_time(said):
    done = CliRunner().invoke(command, ["m.onnx", "--budget", said])
    assert done.exit_code == 2
    assert "is no time; write 90s, 10m or 1h" in done.output


def test_for_tensorrt_elsewhere_each_variant_has_its_plan(onnx_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = {"w": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)}
    proto = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="m"), helper.make_node("Relu", ["h"], ["y"], name="r")],
        [("x", "float32", [None, 8])],
        [("y", "float32", [None, 8])],
        weights,
    )
    onnx.save(proto, "small.onnx")
    np.savez("rows.npz", x=np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32))
    settings = ["--set", "data.calibration=rows.npz", "--set", "optimize.passes=['graph', 'int8_static', 'fp16']"]
    done = CliRunner().invoke(command, ["small.onnx", "--target", "tensorrt-11", "--output", "out", *settings])
    assert done.exit_code == 1, done.output
    assert "is not this machine" in done.output
    plans = {path.name: json.loads(path.read_bytes())["plan"] for path in (tmp_path / "out").glob("*.plan.json")}
    held = {name.removeprefix("small-").removesuffix(".plan.json"): plan["precision"] for name, plan in plans.items()}
    assert held["original"] == "float32"
    assert held["fp16"] == "float16"
    assert held["int8_static"] == held["int8_static_fp16"] == "int8"
    assert all((tmp_path / "out" / f"small-{name}.onnx").is_file() for name in held)
