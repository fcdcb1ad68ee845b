"""Onnxruntime without a server: the answers that are right, and the floor below which no server can go."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from serving.models import Model
    from serving.wires import Asker, Row

THREADS = 8
REQUESTS = 128


@dataclass(frozen=True)
class Floor:
    """Rows a second, and CPU in µs a row, of ``threads`` that run batches back to back."""

    threads: int
    batch_rows: int
    rows: int
    rows_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def answers(model: Model) -> list[Row]:
    """What onnxruntime says to each row alone, flat."""
    return _answers(
        model.path, model.names.input, model.names.output, tuple(row.tobytes() for row in model.rows), model.rows[0].shape
    )


@functools.cache
def _answers(path: Path, name: str, output: str, rows: tuple[bytes, ...], shape: tuple[int, ...]) -> list[Row]:
    session = _session(path, threads=1)
    return [session.run([output], {name: np.frombuffer(row, np.float32).reshape(shape)})[0].ravel() for row in rows]


def check(model: Model, askers: list[Asker], requests: int) -> float:
    """Ask for different rows over all ``askers`` at once; the largest distance from onnxruntime's answer.

    Raises:
        RuntimeError: an answer is farther away than the model's tolerance, or of another shape.
    """
    right = answers(model)

    def work(asker: Asker, mine: range) -> float:
        worst = 0.0
        for i in mine:
            answer = asker(model.rows[i % len(right)])
            expected = right[i % len(right)]
            if answer.shape != expected.shape:
                raise RuntimeError(f"a wrong answer: shape {answer.shape}, not {expected.shape}")
            worst = float(np.maximum(worst, np.abs(answer - expected).max()))  # NaN is the worst, and stays
        return worst

    with ThreadPoolExecutor(len(askers)) as pool:
        worst = float(np.max(list(pool.map(work, askers, [range(i, requests, len(askers)) for i in range(len(askers))]))))
    if not worst <= model.tolerance:
        raise RuntimeError(f"wrong answers: {worst:g} from onnxruntime's, {model.tolerance:g} allowed")
    return worst


def floor(model: Model, threads: int, batch_rows: int, seconds: float) -> Floor:
    """Run the model in this process, in ``threads`` of Python that share one session with one thread a call."""
    session = _session(model.path, threads=1)
    feed = {model.names.input: np.concatenate([model.rows[i % len(model.rows)] for i in range(batch_rows)])}
    session.run([model.names.output], feed)
    took: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()

    def work() -> None:
        while (start := time.perf_counter()) < began + seconds:
            session.run([model.names.output], feed)
            took.append(time.perf_counter() - start)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    rows = len(took) * batch_rows
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    return Floor(threads, batch_rows, rows, rows / elapsed, float(p50), float(p99), cpu / rows * 1e6)


def _session(path: Path, threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
