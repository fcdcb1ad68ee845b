"""Which runtime runs a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from shipworthy.backends import runners
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.backends.openvino import OpenVinoRunner
from shipworthy.errors import Refused
from shipworthy.records import RUNTIMES, Device, Runtime, Target


@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", OnnxRuntimeRunner), ("openvino", OpenVinoRunner)])
def test_the_target_says_which(digits, runtime, kind):
    runner = runners.load(Path(digits.model.path), Target(runtime=runtime))
    assert type(runner) is kind
    assert runner.signature == digits.model.signature


def test_tensorrt_is_a_provider_of_onnxruntime(digits):
    with pytest.raises(Refused, match="cannot use TensorrtExecutionProvider"):
        runners.load(Path(digits.model.path), Target(device="cuda", runtime="tensorrt"))


def test_every_runtime_has_its_devices():
    assert set(RUNTIMES) == set(get_args(Runtime))
    assert {device for devices in RUNTIMES.values() for device in devices} == set(get_args(Device))


@pytest.mark.parametrize(("runtime", "device"), [("tensorrt", "cpu"), ("openvino", "cuda")])
def test_a_runtime_that_is_not_for_the_device_is_refused(digits, runtime, device):
    with pytest.raises(Refused, match=f"runtime {runtime} does not run on device {device}") as caught:
        runners.load(Path(digits.model.path), Target(name="edge", device=device, runtime=runtime))
    assert "edge" in caught.value.next


def test_openvino_is_imported_only_where_it_runs(digits):
    program = (
        "import sys; from pathlib import Path; from shipworthy.backends.runners import load; "
        "from shipworthy.records import Target; load(Path(sys.argv[1]), Target()); sys.exit('openvino' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, digits.model.path], check=True, timeout=60)
