"""How a model is served, from what a run of it costs. Pure, but for ``tune``, which takes the figures at load."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shipworthy.data import made_up
from shipworthy.errors import ShipworthyError
from shipworthy.protocols import Runner
from shipworthy.serve.batcher import Plan

# A run shorter than this is made in the loop: handing it to a thread and back costs as much.
INLINE_MS = 0.5
# A model whose run is longer is served by one process with a thread a core: one copy of the weights, one queue.
LIGHT_MS = 2.0
# The longest that a batch may keep others waiting, where batches are made larger than one request.
BATCH_MS = 5.0
MOST_ROWS = 64
# Batches pay from here: rows a second in a batch over rows a second alone.
GAIN = 1.1

TUNE_SECONDS = 0.3
TUNE_CALLS = 30
TUNE_ROWS = 8


@dataclass(frozen=True)
class Cost:
    """What a run costs: ms of one row alone, and rows a second in batches."""

    row_ms: float
    batched_rps: float

    @property
    def light(self) -> bool:
        """Whether a process a core serves it best."""
        return self.row_ms <= LIGHT_MS


def plan(cost: Cost | None, cores: int, *, alone: bool) -> Plan:
    """The plan of a model.

    Args:
        cost: what a run costs; ``None``: not known, so a run may be long.
        cores: cores of this machine.
        alone: whether this process serves alone: then a long run gets a thread a core, else one.
    """
    threads = cores if alone else 1
    if cost is None:
        return Plan(threads=threads)
    gains = cost.batched_rps * cost.row_ms / 1000 >= GAIN
    rows = max(1, min(MOST_ROWS, int(cost.batched_rps * BATCH_MS / 1000))) if gains else 1
    return Plan(max_rows=rows, threads=0 if cost.row_ms <= INLINE_MS else threads)


def tune(runner: Runner) -> Cost | None:
    """Measure a run of one row and of a small batch, in well under a second unless one run takes longer.

    ``None`` when made-up rows do not suit the model.
    """
    try:
        row_ms = _median_ms(runner, 1)
        batch_ms = _median_ms(runner, TUNE_ROWS)
    except ShipworthyError:
        return None
    return Cost(row_ms, 1000 * TUNE_ROWS / batch_ms)


def _median_ms(runner: Runner, rows: int) -> float:
    inputs = made_up(runner.signature, rows).inputs
    took: list[float] = []
    end = time.perf_counter() + TUNE_SECONDS
    while len(took) < TUNE_CALLS and (time.perf_counter() < end or not took):
        start = time.perf_counter()
        runner.run(inputs)
        took.append(1000 * (time.perf_counter() - start))
    return sorted(took)[len(took) // 2]
