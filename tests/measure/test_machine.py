"""What machine a figure was taken on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import pytest

from shipworthy.measure import machine


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
    def read_text(self, encoding):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(machine.Path, "read_text", read_text)
    here = machine.describe()
    assert here.isa == isa
    assert here.cpu == (cpu or platform.processor() or platform.machine())
