"""How latency grows with the rows of a call, and falls with its threads: of the original and the variant that ships."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from shipworthy import machine, records
from shipworthy.data import Dataset, made_up
from shipworthy.files import draft_folder, machine_errors
from shipworthy.measure import rows, statistics
from shipworthy.measure.bench import Bench, spread
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import Curve, Model, Point, Progress, Target, Variant

BATCHES = (1, 2, 4, 8, 16, 32, 64)
REPEATS = 3
REPEAT_SECONDS = 0.05
# For each number of threads; larger batches are left out then.
BUDGET_SECONDS = 30.0


def run(
    model: Model, variants: Sequence[Variant], target: Target, data: Dataset | None = None, sink: Sink | None = None
) -> tuple[Curve, ...]:
    """The curve of each variant, from one fresh process for each number of threads, repeats taken in turn.

    Args:
        model: whose signature all variants have.
        variants: the original, and another that it is compared with.
        target: on a CPU its threads are left aside: one and all cores are measured.
        data: rows; without them rows are made up.
        sink: told what is being measured.

    Raises:
        Failed: a probe died.
        StorageFailed: the disk is full.
    """
    sink = sink or Quiet()
    data = data or made_up(model.signature, BATCHES[-1])
    models = Path(model.path).parent
    points: dict[str, list[Point]] = {v.name: [] for v in variants}
    with machine_errors(models), draft_folder(models) as folder:
        file = folder / "timed.npz"
        rows.write(file, data.take(0, BATCHES[-1]))
        for threads in sorted({1, machine.describe().cores}) if target.device == "cpu" else (target.threads,):
            _take(variants, replace(target, threads=threads), file, points, sink)
    return tuple(Curve(variant=v.digest, variant_name=v.name, points=tuple(points[v.name])) for v in variants)


def _take(variants: Sequence[Variant], target: Target, file: Path, points: dict[str, list[Point]], sink: Sink) -> None:
    """The points of every variant with the target's threads."""
    with ExitStack() as stack:
        benches = {v.name: stack.enter_context(Bench(v.name)) for v in variants}
        for v in variants:
            benches[v.name].ask("load", model=v.path, target=records.dump(v.on(target)), rows=str(file), batch_rows=1)
        end = time.monotonic() + BUDGET_SECONDS
        for place, batch in enumerate(BATCHES):
            if time.monotonic() > end:
                return
            text = f"batches of {batch} with {target.threads} thread{'s' if target.threads > 1 else ''}"
            sink.emit(Progress(stage="measure", text=text, done=place, total=len(BATCHES)))
            took: dict[str, list[float]] = {name: [] for name in benches}
            calls = dict.fromkeys(benches, 0)
            for repeat in range(REPEATS):
                for name in spread(benches, repeat):
                    answer = benches[name].ask("batches", rows=batch, seconds=REPEAT_SECONDS)
                    took[name].append(answer["p50_ms"])
                    calls[name] += answer["calls"]
            for name, times in took.items():
                how = f"median of {calls[name]} calls of {batch} rows with {target.threads} threads, in turn with the other"
                latency = statistics.figure("p50_ms", "ms", [times], how)
                points[name].append(Point(rows=batch, threads=target.threads, latency=latency))
