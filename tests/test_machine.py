"""What machine a figure was taken on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import pytest

from shipworthy import machine


def test_this_machine():
    here = machine.describe()
    assert here == machine.describe()
    assert here.cpu
    assert here.cores == len(os.sched_getaffinity(0))
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert here.memory_mb == pytest.approx(int(total.split()[1]) * 1024 / 1e6, rel=0.01)
    assert here.system == f"Linux {platform.machine()}"
    assert here.python == platform.python_version()
    assert here.packages == {
        name: metadata.version(name) for name in ("onnxruntime", "openvino", "onnx", "numpy", "shipworthy")
    }, "what is installed: not onnxruntime-gpu"


def test_fewer_cores_are_fewer_cores():
    all_cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(all_cores)})
        assert machine.describe().cores == 1
    finally:
        os.sched_setaffinity(0, all_cores)


X86 = "processor\t: 0\nmodel name\t: Chip 9\nflags\t\t: fpu avx512_vnni avx2 amx\n\nprocessor\t: 1\nmodel name\t: Chip 8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.mark.parametrize(
    ("text", "cpu", "isa"),
    [(X86, "Chip 9", ("avx2", "avx512_vnni")), (ARM, None, ("asimd", "asimddp", "i8mm")), ("", None, ()), (None, None, ())],
)
def test_instruction_sets_are_read_from_the_kernel(monkeypatch, text, cpu, isa):
    real = machine.Path.read_text

    def read_text(self, encoding=None, **more):  # of every file: what reads packages' versions uses it, too
        if str(self) != "/proc/cpuinfo":
            return real(self, encoding, **more)
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(machine.Path, "read_text", read_text)
    here = machine.describe()
    assert here.isa == isa
    assert here.cpu == (cpu or platform.processor() or platform.machine())


H100 = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 85\nGPU UUID: \t GPU-1\n"


@pytest.mark.parametrize(
    ("drivers", "board", "gpus"),
    [
        ({}, None, ()),
        (
            {"0000:01:00.0": H100, "0000:02:00.0": H100.replace("H100", "A100")},
            None,
            ("NVIDIA H100 80GB HBM3", "NVIDIA A100 80GB HBM3"),
        ),
        ({"0000:01:00.0": "IRQ: 85\n"}, None, ()),
        ({}, "NVIDIA Jetson AGX Orin Developer Kit\0", ("NVIDIA Jetson AGX Orin Developer Kit",)),
        ({}, "Raspberry Pi 5\0", ()),
    ],
    ids=["none", "two", "no model", "jetson", "another board"],
)
def test_gpus_are_those_that_the_kernel_tells_of(tmp_path, monkeypatch, drivers, board, gpus):
    for name, text in drivers.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "information").write_text(text)
    monkeypatch.setattr(machine, "GPUS", tmp_path)
    monkeypatch.setattr(machine, "BOARD", tmp_path / "model")
    if board:
        (tmp_path / "model").write_text(board)
    assert machine.describe().gpus == gpus
