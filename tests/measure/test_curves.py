"""Latency by the rows of a call and by threads: of two variants in turn, within a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from shipworthy import machine, optimize
from shipworthy.measure import bench as bench_module
from shipworthy.measure import curves
from shipworthy.measure.probe import Probe
from shipworthy.records import Target


@pytest.fixture
def pair(digits):
    original = optimize.run(digits.model, Target(), passes=()).variants[0]
    return (original, replace(original, name="again"))


def left(model):
    return {path.name for path in Path(model.path).parent.iterdir() if len(path.stem) != 64}


def test_every_batch_and_every_number_of_threads(digits, pair, monkeypatch):
    asked, threads = [], []
    ask = bench_module.Bench.ask

    def remember(self, do, **arguments):
        asked.append((self._name, do, arguments.get("rows")))
        if do == "load":
            threads.append(arguments["target"]["threads"])
        return ask(self, do, **arguments)

    monkeypatch.setattr(bench_module.Bench, "ask", remember)
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text, record.done, record.total))

    monkeypatch.setattr(curves, "REPEAT_SECONDS", 0.005)
    found = curves.run(digits.model, pair, Target(threads=7), digits.evaluation, Ear())
    all_threads = sorted({1, machine.describe().cores})
    assert [(one.variant, one.variant_name) for one in found] == [(one.digest, one.name) for one in pair]
    for one in found:
        assert [(point.threads, point.rows) for point in one.points] == [(t, b) for t in all_threads for b in curves.BATCHES]
        for point in one.points:
            assert point.latency.low <= point.latency.median <= point.latency.high
            assert point.latency.samples == curves.REPEATS
            assert f"calls of {point.rows} rows with {point.threads} threads" in point.latency.how
    assert threads == [t for t in all_threads for _ in pair]
    batches = [(name, rows) for name, do, rows in asked if do == "batches"]
    assert [rows for _, rows in batches] == [rows for _ in all_threads for rows in curves.BATCHES for _ in range(6)]
    assert batches[:6] == [("original", 1), ("again", 1), ("again", 1), ("original", 1), ("original", 1), ("again", 1)], (
        "in turn"
    )
    assert heard[0] == ("measure", "batches of 1 with 1 thread", 0, 7)
    assert len(heard) == 7 * len(all_threads)
    assert left(digits.model) == set()


def test_a_batch_has_as_many_rows_as_it_says():
    """Where there are fewer, they come again."""
    seen = []

    class Runner:
        def run(self, inputs):
            seen.append(inputs["x"].tolist())

    probe = Probe()
    probe._runner, probe._inputs, probe._rows = Runner(), {"x": np.arange(3)}, [{"x": np.array([n])} for n in range(3)]
    answer = probe.batches(rows=7, seconds=0.0)
    assert seen == [[0, 1, 2, 0, 1, 2, 0]] * 4, "once to warm up, then at least three times"
    assert answer["calls"] == 3
    assert 0 < answer["p50_ms"] <= answer["p99_ms"]


def test_a_device_that_is_no_cpu_has_the_threads_of_the_target(digits, pair, monkeypatch):
    seen = []
    monkeypatch.setattr(curves, "_take", lambda _variants, target, *_: seen.append(target.threads))
    curves.run(digits.model, pair, Target(device="cuda", threads=3))
    assert seen == [3]


def test_the_largest_batches_are_left_out_when_time_is_up(digits, pair, monkeypatch):
    monkeypatch.setattr(curves, "BUDGET_SECONDS", -1.0)
    assert [one.points for one in curves.run(digits.model, pair, Target())] == [(), ()]
