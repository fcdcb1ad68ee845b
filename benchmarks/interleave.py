"""How far from the truth is a measured ratio, by how it is taken?

The same model is measured against itself, so the true ratio of latencies is 1. From half-time on, neighbours burn every
core. Three ways: three fresh processes of each, repeats in turn (what ``measure`` does); one process of each, in turn;
one process of each, all repeats of A and then all of B. The same number of repeats in each way. Printed: the median
distance from 1 over the rounds, the worst, and how often the 95 % interval held the truth.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from shipworthy import records
from shipworthy.measure import rows
from shipworthy.measure.bench import Bench
from shipworthy.measure.statistics import figure

ROUNDS = 12
REPEATS = 6
SECONDS = 0.1
WAYS = {"3 processes, in turn": (3, True), "1 process, in turn": (1, True), "1 process, one after the other": (1, False)}


def model(path: Path) -> None:
    """A dense layer of 512 by 512: about the latency of the digits model."""
    weights = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["X", "W"], ["Y"])
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 512]) for name in "XY"]
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [numpy_helper.from_array(weights, "W")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


def burn() -> None:
    """A neighbour."""
    while True:
        pass


def round_of(folder: Path, processes: int, *, in_turn: bool) -> list[list[float]]:
    """The ratios of one round, by process."""
    neighbours: list[multiprocessing.Process] = []
    ratios = []
    done = 0
    for _ in range(processes):
        each = REPEATS // processes
        pairs = [(0, 1) if i % 2 == 0 else (1, 0) for i in range(each)]
        plan = [which for pair in pairs for which in pair] if in_turn else [0] * each + [1] * each
        taken: list[list[float]] = [[], []]
        with Bench("A") as a, Bench("B") as b:
            for bench in (a, b):
                target = records.dump(records.Target())
                bench.ask("load", model=str(folder / "m.onnx"), target=target, rows=str(folder / "rows.npz"), batch_rows=8)
            for which in plan:
                if done == REPEATS:
                    neighbours = [multiprocessing.Process(target=burn, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
                    for neighbour in neighbours:
                        neighbour.start()
                taken[which].append((a, b)[which].ask("latency", seconds=SECONDS)["p50_ms"])
                done += 1
        ratios.append([theirs / ours for ours, theirs in zip(*taken, strict=True)])
    for neighbour in neighbours:
        neighbour.kill()
        neighbour.join()
    return ratios


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model(folder / "m.onnx")
        rows.write(folder / "rows.npz", {"X": np.ones((64, 512), np.float32)})
        made: dict[str, list[records.Figure]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, (processes, in_turn) in WAYS.items():
                made[way].append(figure("latency_ratio", "x", round_of(folder, processes, in_turn=in_turn), way))
    print(f"a model against itself, {ROUNDS} rounds of {REPEATS} repeats, neighbours from half-time on; the true ratio is 1")
    for way, figures in made.items():
        off = [100 * abs(one.median - 1) for one in figures]
        held = sum(one.low <= 1 <= one.high for one in figures)
        print(
            f"{way:<32} off by {statistics.median(off):4.1f} % (worst {max(off):4.1f} %), interval held 1 in {held} of {ROUNDS}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
