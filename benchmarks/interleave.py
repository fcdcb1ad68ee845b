"""Does taking variants in turn cancel a noisy neighbour, and how far do figures taken one after the other go wrong?

The same model is measured against itself, so the true ratio of latencies is 1. For half of the time another process burns
every core. "In turn" is what ``measure`` does (A B, B A, …); "one after the other" takes all repeats of A, then all of B.
Prints the median ratio and the worst of the rounds for both.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from shipworthy import records
from shipworthy.measure.bench import Bench

ROUNDS = 5
REPEATS = 6
SECONDS = 0.15


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


def ratio(benches: list[Bench], *, in_turn: bool) -> float:
    """B over A while a neighbour comes in at half-time."""
    order = [(0, 1) if i % 2 == 0 else (1, 0) for i in range(REPEATS)]
    plan = [b for pair in order for b in pair] if in_turn else [0] * REPEATS + [1] * REPEATS
    taken: list[list[float]] = [[], []]
    neighbours: list[multiprocessing.Process] = []
    for place, which in enumerate(plan):
        if place == len(plan) // 2:
            neighbours = [multiprocessing.Process(target=burn, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
            for neighbour in neighbours:
                neighbour.start()
            time.sleep(0.3)
        taken[which].append(benches[which].ask("latency", seconds=SECONDS)["p50_ms"])
    for neighbour in neighbours:
        neighbour.kill()
        neighbour.join()
    if in_turn:
        return statistics.median(b / a for a, b in zip(*taken, strict=True))
    return statistics.median(taken[1]) / statistics.median(taken[0])


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, Bench("A") as a, Bench("B") as b:
        path = Path(folder) / "model.onnx"
        model(path)
        np.savez(Path(folder) / "rows.npz", X=np.ones((64, 512), np.float32))
        for bench in (a, b):
            target = records.dump(records.Target())
            bench.ask("load", model=str(path), target=target, rows=str(Path(folder) / "rows.npz"), batch_rows=8)
        print(f"the same model against itself, {ROUNDS} rounds, a neighbour from half-time on; the true ratio is 1")
        for name, in_turn in (("in turn", True), ("one after the other", False)):
            ratios = [ratio([a, b], in_turn=in_turn) for _ in range(ROUNDS)]
            worst = max(ratios, key=lambda one: abs(one - 1))
            print(f"{name:<20} median {statistics.median(ratios):.3f}   worst {worst:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
