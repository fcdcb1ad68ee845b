"""What NVIDIA's driver tells of GPUs and of a process on one, with a driver that only pretends."""

from __future__ import annotations

import ctypes
import sys

import pynvml
import pytest

from shipworthy.backends import nvml
from shipworthy.backends.nvml import Gpu

from .nvml_fake import SECOND, Cuda, Driver, not_supported

ONE = Gpu("GPU-1", 0.37, 2 << 30, 80 << 30, 71.5, 700.0, 34)


def test_each_gpu_tells_what_it_can_in_our_units(nvidia: Driver) -> None:
    assert nvml.read_all() == (ONE, Gpu("GPU-2", None, 2 << 30, 80 << 30, None, None, 34))
    nvml.read_all()
    assert nvidia.inits == 1


@pytest.mark.parametrize("error", [not_supported(), OSError("gone")], ids=["the driver's", "another"])
def test_gpus_that_are_lost_are_not_shown_and_come_back(
    nvidia: Driver, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia.broken = error
    assert nvml.read_all() == ()
    assert "the GPUs cannot be read" in caplog.text
    nvidia.broken = None
    assert len(nvml.read_all()) == 2


def test_without_the_package_or_a_driver_there_are_none_and_nobody_looks_again(
    nvidia: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # so an import of it fails
    assert nvml.read_all() == ()
    nvml._driver.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", nvidia)

    def init() -> None:
        nvidia.inits += 1
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    nvidia.nvmlInit = init
    assert nvml.read_all() == nvml.read_all() == ()
    assert nvidia.inits == 1


def test_a_process_is_measured_on_the_gpu_that_cuda_shows_first(nvidia: Driver) -> None:
    meter = nvml.meter()
    assert meter is not None
    assert (meter.handle, meter.memory_used_bytes, meter.utilization) == (1, 2 << 30, 0.37)
    nvidia.processes = {17: 5 << 20, 18: None}
    assert meter.memory_taken(17, None) == (5 << 20, True)
    for untold in (18, 19):
        assert meter.memory_taken(untold, 1 << 30) == (1 << 30, False), "what the GPU's has grown by"
        assert meter.memory_taken(untold, 3 << 30) == (0, False)
        assert meter.memory_taken(untold, None) is None


def test_a_part_of_a_gpu_tells_its_memory_and_not_how_busy_it_is(nvidia: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Cuda(SECOND))
    meter = nvml.meter()
    assert meter is not None
    assert (meter.handle, meter.memory_used_bytes, meter.utilization) == (2, 2 << 30, None)


def test_a_driver_that_does_not_list_processes(nvidia: Driver) -> None:
    def running(_: int) -> None:
        raise not_supported()

    nvidia.nvmlDeviceGetComputeRunningProcesses = running
    assert nvml.meter().memory_taken(1, 2 << 30) == (0, False)


@pytest.mark.parametrize("without", ["CUDA", "a GPU", "NVML", "this GPU"])
def test_without_a_gpu_nothing_is_measured(nvidia: Driver, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    def unknown(_: str) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    if without == "CUDA":
        monkeypatch.setattr(ctypes, "CDLL", fail)
    if without == "a GPU":
        monkeypatch.setattr(ctypes, "CDLL", lambda _: Cuda(code=100))
    if without == "NVML":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    if without == "this GPU":
        nvidia.nvmlDeviceGetHandleByUUID = unknown
    assert nvml.meter() is None
