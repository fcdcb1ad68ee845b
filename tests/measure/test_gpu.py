"""Figures of a GPU, from a driver that only pretends: none of this has run on a GPU yet."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from shipworthy import measure, optimize, records
from shipworthy.backends import runners
from shipworthy.measure import probe as probe_module
from shipworthy.measure import rows, timing
from shipworthy.measure.probe import Probe
from shipworthy.records import Target
from shipworthy.settings import MeasureSettings

CUDA = Target(name="gpu", device="cuda")
QUICK = MeasureSettings(processes=2, repeats=2, repeat_seconds=0.01, batch_rows=4)
TAKES = 300 << 20


@pytest.fixture
def here(nvidia, monkeypatch):
    """Probes in this process, on the CPU, while the driver pretends that a model that is loaded takes memory of the GPU."""

    class Here:
        def __init__(self, _name):
            self._probe = Probe()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, do, **arguments):
            return getattr(self._probe, do)(**arguments)

    def load(path: Path, target: Target):
        assert target.device == "cuda"
        nvidia.used += TAKES
        return runners.load(path, Target())

    monkeypatch.setattr(probe_module, "load", load)
    monkeypatch.setattr(probe_module.nvml, "PERIOD_SECONDS", 0.02)
    monkeypatch.setattr(timing, "Bench", Here)
    return nvidia


@pytest.fixture
def pair(digits):
    (original,) = optimize.run(digits.model, Target(), passes=()).variants
    return [original, replace(original, name="again")]


def taken_of(digits, pair):
    return measure.run(digits.model, pair, CUDA, QUICK, digits.evaluation).evidence


def test_memory_is_what_the_driver_tells_of_the_process(here, digits, pair):
    here.processes = {os.getpid(): 412 << 20, os.getpid() + 1: 7 << 20}
    for one in taken_of(digits, pair):
        memory = one.figure("gpu_memory_mb")
        assert (memory.median, memory.unit, memory.samples) == ((412 << 20) / 1e6, "MB", 2)
        assert "tells of the process" in memory.how


def test_where_it_tells_of_no_process_memory_is_what_the_gpu_has_grown_by(here, digits, pair):
    """Each variant's own growth: the other one's model is loaded by then."""
    for one in taken_of(digits, pair):
        memory = one.figure("gpu_memory_mb")
        assert memory.median == TAKES / 1e6
        assert "has grown by" in memory.how


def test_how_busy_it_was_is_asked_after_each_repeat_of_batches(here, digits, pair):
    busy = taken_of(digits, pair)[1].figure("gpu_utilisation_percent")
    assert (busy.median, busy.unit, busy.samples) == (pytest.approx(37), "%", 4)
    assert "batches of 4 rows" in busy.how


def test_what_the_driver_tells_speaks_of_the_repeat_alone(here, digits, monkeypatch, tmp_path):
    """It tells of up to a second before: so long the calls go on."""
    monkeypatch.setattr(probe_module.nvml, "PERIOD_SECONDS", 0.3)
    rows.write(tmp_path / "rows.npz", {"X": digits.train.inputs["X"][:8]})
    probe = Probe()
    probe.load(digits.model.path, records.dump(CUDA), str(tmp_path / "rows.npz"), 4)
    start = time.monotonic()
    assert probe.throughput(0.001)["gpu_utilisation_percent"] == pytest.approx(37)
    assert time.monotonic() - start >= 0.3


def test_a_gpu_that_tells_nothing_has_no_figures(here, digits, pair, monkeypatch):
    monkeypatch.setattr(probe_module.nvml, "meter", lambda: None)
    first, second = taken_of(digits, pair)
    assert all(one.figure(name) is None for one in (first, second) for name in ("gpu_memory_mb", "gpu_utilisation_percent"))
    assert first.figure("throughput_rps").median > 0


def test_on_a_cpu_no_gpu_is_asked(nvidia, digits, tmp_path):
    rows.write(tmp_path / "rows.npz", {"X": np.ones((4, 64), np.float32)})
    probe = Probe()
    answer = probe.load(digits.model.path, records.dump(Target()), str(tmp_path / "rows.npz"), 4)
    assert set(answer) == {"load_ms", "before_mb"}
    assert set(probe.throughput(0.001)) == {"throughput_rps"}
    assert nvidia.inits == 0


def test_the_table_has_them(here, digits, pair):
    from shipworthy.measure.report.rows import rows as table  # noqa: PLC0415
    from shipworthy.records import Measured, Report, Shipment  # noqa: PLC0415

    report = Report(model=digits.model.digest, laws=(), findings=())
    shipment = Shipment(name="digits", model=digits.model, report=report, measured=Measured(evidence=taken_of(digits, pair)))
    made = table(shipment)
    heads = [column.header for column in made.columns]
    assert heads[2:4] == ["GPU memory MB", "GPU %"]
    assert made.rows[0].cells[2:4] == ("315", "37.00")
