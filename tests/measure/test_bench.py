"""The parent and its probe: whatever happens to the probe is one clear error, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import helper

from shipworthy import records
from shipworthy.errors import Failed
from shipworthy.measure import bench as bench_module
from shipworthy.measure import rows
from shipworthy.measure.bench import Bench, spread
from shipworthy.measure.probe import Probe
from shipworthy.records import Target


@pytest.fixture
def double(taken):
    """Two times x."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return taken(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])])


def load(bench, model, folder, batch_rows=8):
    rows.write(folder / "rows.npz", {"x": np.ones((5, 4), np.float32)})
    return bench.ask(
        "load", model=str(model), target=records.dump(Target()), rows=str(folder / "rows.npz"), batch_rows=batch_rows
    )


def running(pid):
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_of(bench):
    return bench._process.pid


def test_a_probe_loads_times_predicts_and_goes(double, tmp_path):
    with Bench("v") as bench:
        pid = pid_of(bench)
        assert pid != os.getpid()
        loaded = load(bench, double.path, tmp_path)
        assert loaded["load_ms"] > 0
        assert loaded["before_mb"] > 5
        latency = bench.ask("latency", seconds=0.01)
        assert 0 < latency["p50_ms"] <= latency["p99_ms"] < 1000
        assert latency["calls"] >= 10
        assert bench.ask("throughput", seconds=0.01)["throughput_rps"] > 0
        assert bench.ask("memory")["memory_mb"] >= loaded["before_mb"]
        rows.write(tmp_path / "all.npz", {"x": np.arange(76, dtype=np.float32).reshape(19, 4)})
        answer = bench.ask("predict", data=str(tmp_path / "all.npz"), result=str(tmp_path / "out.npz"))
        assert answer == {"rows": 19}
        np.testing.assert_array_equal(rows.read(tmp_path / "out.npz")["y"], 2 * np.arange(76).reshape(19, 4))
    assert not running(pid)


def test_throughput_counts_rows_of_batches(double, tmp_path):
    """A batch of 64 rows of this model costs hardly more than one of 1: far more rows a second."""
    found = {}
    for batch_rows in (1, 64):
        with Bench("v") as bench:
            load(bench, double.path, tmp_path, batch_rows)
            found[batch_rows] = bench.ask("throughput", seconds=0.05)["throughput_rps"]
    assert found[64] > 8 * found[1]


def test_a_model_file_that_vanished(double, tmp_path):
    Path(double.path).unlink()
    with (
        Bench("int8") as bench,
        pytest.raises(Failed, match="variant 'int8' could not be measured: there is no file") as caught,
    ):
        load(bench, double.path, tmp_path)
    assert not running(pid_of(bench))
    assert "Traceback" not in str(caught.value)


def test_a_model_file_that_is_broken(double, tmp_path):
    Path(double.path).write_bytes(b"broken")
    with Bench("int8") as bench, pytest.raises(Failed, match="does not load"):
        load(bench, double.path, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_probe_killed_in_the_middle_names_the_signal(double, tmp_path, number):
    with Bench("int8") as bench:
        load(bench, double.path, tmp_path)
        threading.Timer(0.2, os.kill, (pid_of(bench), number)).start()
        start = time.monotonic()
        with pytest.raises(Failed, match="process that measured variant 'int8' died") as caught:
            bench.ask("latency", seconds=30)
        assert time.monotonic() - start < 10
        assert f"signal {int(number)}" in caught.value.found
        assert caught.value.next
        with pytest.raises(Failed, match="died"):
            bench.ask("memory")
    assert not running(pid_of(bench))


def test_a_probe_that_fails_says_its_last_words(double, tmp_path):
    with Bench("int8") as bench:
        load(bench, double.path, tmp_path)
        with pytest.raises(Failed, match="died") as caught:
            bench.ask("predict", data=str(tmp_path / "none.npz"), result=str(tmp_path / "out.npz"))
    assert "exit code 1" in caught.value.found
    assert "FileNotFoundError" in caught.value.found


@pytest.mark.timeout(30)
def test_a_probe_that_does_not_answer_is_given_up(double, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_module, "PATIENCE_SECONDS", 0.3)
    with Bench("slow") as bench:
        pid = pid_of(bench)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Failed, match="variant 'slow' did not answer in 0 s"):
            bench.ask("memory")
    assert not running(pid), "a stopped probe is ended too"


def test_an_error_in_the_parent_ends_the_probe():
    with pytest.raises(KeyError), Bench("v") as bench:
        raise KeyError
    assert not running(pid_of(bench))


PARENT = """
import sys, time
from shipworthy.measure.bench import Bench
with Bench("v") as bench:
    bench.ask("memory")
    print(bench._process.pid, flush=True)
    time.sleep(60)
"""


def test_a_probe_does_not_outlive_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
    end = time.monotonic() + 5
    while running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not running(pid)


def test_every_variant_is_first_in_turn():
    benches = dict.fromkeys("ABC")
    assert [spread(benches, repeat) for repeat in range(4)] == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]
    assert spread({"only": None}, 5) == ["only"]


def test_rows_keep_any_name_and_kind(tmp_path):
    """``file`` and ``allow_pickle`` are arguments of numpy.savez; an input may be called so."""
    given = {
        "file": np.ones((2, 1), np.float32),
        "allow_pickle": np.array([True]),
        "a/b:0": np.arange(3),
        "text": np.array([["a", "bcd"], ["", "é"]], object),
    }
    rows.write(tmp_path / "r.npz", given)
    found = rows.read(tmp_path / "r.npz")
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_commands_are_answered_line_by_line():
    """The protocol itself: one JSON line in, one out, and the end of input ends the probe."""
    with subprocess.Popen(
        [sys.executable, "-m", "shipworthy.measure.probe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        out, _ = process.communicate(b'{"do":"memory"}\n{"do":"memory"}\n', timeout=20)
    assert [set(msgspec.json.decode(line)) for line in out.splitlines()] == [{"memory_mb"}] * 2
    assert process.returncode == 0


def test_latency_takes_every_row_in_turn():
    probe, seen = Probe(), []
    probe._rows = [{"x": np.array([i])} for i in range(4)]
    probe._runner = type("Runner", (), {"run": lambda _, inputs: seen.append(int(inputs["x"][0]))})()
    answer = probe.latency(0)
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert answer["calls"] == 10
