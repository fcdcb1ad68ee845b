"""The fresh process that one variant is measured in: ``python -m shipworthy.measure.probe``.

Commands come as JSON lines on standard input, one answer line each; when input closes, the process ends. The parent
sleeps while a command runs: it must not take the CPU it measures.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shipworthy import records
from shipworthy.backends import nvml
from shipworthy.backends.runners import load
from shipworthy.errors import ShipworthyError
from shipworthy.measure.rows import read, write
from shipworthy.protocols import Array, Runner

WARM_UP_CALLS = 20
LEAST_CALLS = 10
LEAST_BATCHES = 3


class Probe:
    """One variant, loaded and timed."""

    def __init__(self) -> None:
        self._runner: Runner
        self._inputs: dict[str, Array] = {}
        self._rows: list[dict[str, Array]] = []
        self._batch: dict[str, Array] = {}
        self._meter: nvml.Meter | None = None

    def load(self, model: str, target: dict[str, Any], rows: str, batch_rows: int) -> dict[str, float]:
        """Load the model and the rows that it is timed with, and warm it up; the answer says what that took.

        On a GPU that can be measured, that includes its memory (``gpu_memory_mb``), and whether the driver told it of this
        process (``gpu_by_pid`` 1) or all of the GPU's has grown by it (0).
        """
        self._inputs = inputs = read(Path(rows))
        count = len(next(iter(inputs.values())))
        self._rows = [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(count)]
        self._batch = self._of(batch_rows)
        before = _memory("VmRSS")
        on = records.load(records.Target, target)
        self._meter = nvml.meter() if on.device == "cuda" else None
        used = self._meter.memory_used_bytes if self._meter else None
        start = time.perf_counter()
        self._runner = load(Path(model), on)
        load_ms = 1000 * (time.perf_counter() - start)
        for i in range(WARM_UP_CALLS):
            self._runner.run(self._rows[i % count])
        self._runner.run(self._batch)
        return {"load_ms": load_ms, "before_mb": before, **self._gpu_memory(used)}

    def latency(self, seconds: float) -> dict[str, float]:
        """Calls of one row, one after the other: the median and the 99th percentile, in ms."""
        return self._timed(self._rows, seconds, LEAST_CALLS)

    def batches(self, rows: int, seconds: float) -> dict[str, float]:
        """Calls of a batch of ``rows`` rows: as ``latency``."""
        batch = self._of(rows)
        self._runner.run(batch)
        return self._timed([batch], seconds, LEAST_BATCHES)

    def _of(self, rows: int) -> dict[str, Array]:
        picked = np.arange(rows) % len(self._rows)
        return {name: array[picked] for name, array in self._inputs.items()}

    def _timed(self, calls: list[dict[str, Array]], seconds: float, least: int) -> dict[str, float]:
        run, took, now = self._runner.run, list[int](), 0
        end = time.perf_counter_ns() + int(seconds * 1e9)
        while now < end or len(took) < least:
            inputs = calls[len(took) % len(calls)]
            start = time.perf_counter_ns()
            run(inputs)
            now = time.perf_counter_ns()
            took.append(now - start)
        p50, p99 = np.percentile(np.asarray(took), [50, 99]) / 1e6
        return {"p50_ms": float(p50), "p99_ms": float(p99), "calls": len(took)}

    def throughput(self, seconds: float) -> dict[str, float]:
        """Calls of one batch, one after the other: rows a second.

        A GPU that tells how busy it was speaks of the time just past: there the calls go on for all of that.
        """
        run, batch, calls = self._runner.run, self._batch, 0
        seconds = max(seconds, nvml.PERIOD_SECONDS) if self._meter else seconds
        start = time.perf_counter()
        while (took := time.perf_counter() - start) < seconds or calls < 1:
            run(batch)
            calls += 1
        busy = self._meter.utilization if self._meter else None
        told = {} if busy is None else {"gpu_utilisation_percent": 100 * busy}
        return {"throughput_rps": calls * len(next(iter(batch.values()))) / took, **told}

    def memory(self) -> dict[str, float]:
        """The largest resident memory of this process so far, in MB."""
        return {"memory_mb": _memory("VmHWM")}

    def _gpu_memory(self, before: int | None) -> dict[str, float]:
        taken = self._meter.memory_taken(os.getpid(), before) if self._meter else None
        return {"gpu_memory_mb": taken[0] / 1e6, "gpu_by_pid": taken[1]} if taken else {}

    def predict(self, data: str, result: str) -> dict[str, float]:
        """Answer the rows of ``data``, in batches, and write the outputs to ``result`` (.npz)."""
        inputs = read(Path(data))
        count, step = len(next(iter(inputs.values()))), len(next(iter(self._batch.values())))
        parts = [self._runner.run({name: array[i : i + step] for name, array in inputs.items()}) for i in range(0, count, step)]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        write(Path(result), outputs)
        return {"rows": count}


def main() -> None:
    """Answer commands until input closes."""
    gc.disable()  # a collection in the middle of a call would be counted as the model's
    probe = Probe()
    for line in sys.stdin.buffer:
        command = msgspec.json.decode(line)
        try:
            answer = getattr(probe, command.pop("do"))(**command)
        except ShipworthyError as error:
            answer = error.as_dict()
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


def _memory(what: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    main()
