"""measure: what each variant costs and how often it is right, on this machine, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from shipworthy.data import Dataset, made_up
from shipworthy.files import draft_folder, machine_errors
from shipworthy.measure import accuracy, machine, rows, timing
from shipworthy.measure.gate import choose, gates, judge, verdict
from shipworthy.measure.statistics import exact, figure, share
from shipworthy.measure.timing import Taken
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import Evidence, Figure, Measured, Model, Target, Variant
from shipworthy.settings import MeasureSettings

TIMED_ROWS = 256


def run(
    model: Model,
    variants: Sequence[Variant],
    target: Target,
    settings: MeasureSettings,
    data: Dataset | None = None,
    prediction: str = "",
    sink: Sink | None = None,
) -> Measured:
    """The evidence of every variant: several fresh processes of each, their repeats taken in turn (A B C, B C A, …).

    Args:
        model: whose signature all variants have.
        variants: the original first: the others are compared with it.
        target: threads of a call.
        settings: processes, repeats, their length, rows of a batch.
        data: evaluation rows; without them rows are made up and there is no accuracy.
        prediction: the output compared with the labels; empty: found by shape and dtype.
        sink: told which repeat is running.

    Raises:
        Failed: a probe died.
        StorageFailed: the disk is full.
        Refused: labels that no output can be compared with.
    """
    sink = sink or Quiet()
    data = data or made_up(model.signature, TIMED_ROWS)
    output = accuracy.prediction_output(model.signature, prediction).name if data.labels is not None else ""
    models = Path(model.path).parent
    with machine_errors(models), draft_folder(models) as folder:
        rows.write(folder / "timed.npz", data.take(0, TIMED_ROWS))
        rows.write(folder / "all.npz", data.inputs)
        taken = timing.take(variants, folder, target, settings, sink)
    hits = {}
    if data.labels is not None:
        hits = {name: accuracy.hits(one.outputs, data.labels, output) for name, one in taken.items()}
    here, when = machine.describe(), datetime.now(UTC).isoformat(timespec="seconds")
    original = variants[0]
    evidence = [
        Evidence(
            variant=v.digest,
            variant_name=v.name,
            target=target,
            machine=here,
            data=data.digest,
            measured_at=when,
            figures=(
                *_cost(v, taken[v.name]),
                *_speed(taken[v.name], taken[original.name], settings),
                *(_right(hits[v.name], hits[original.name], data.rows, output) if hits else ()),
            ),
        )
        for v in variants
    ]
    return Measured(evidence=tuple(evidence))


def _cost(variant: Variant, taken: Taken) -> list[Figure]:
    least = min(taken.before_mb)
    memory = f"largest resident memory of a fresh process that holds only this; {least:.1f} MB before it was loaded"
    return [
        exact("size_mb", "MB", variant.size_mb, "bytes of the file"),
        figure("memory_mb", "MB", [[one] for one in taken.memory_mb], memory),
        figure("load_ms", "ms", [[one] for one in taken.load_ms], "from file to session, once a process"),
    ]


def _speed(taken: Taken, original: Taken, settings: MeasureSettings) -> list[Figure]:
    calls = int(sum(sum(one) for one in taken.groups("calls")))
    repeats = f"{settings.processes} processes with {settings.repeats} repeats each, in turn with the other variants"
    one_row = f"{calls} calls of one row; {repeats}"
    batched = f"batches of {settings.batch_rows} rows, one after the other, {settings.repeat_seconds:g} s a repeat; {repeats}"
    pairs = zip(taken.groups("p50_ms"), original.groups("p50_ms"), strict=True)
    ratios = [[ours / theirs for ours, theirs in zip(*pair, strict=True)] for pair in pairs]
    return [
        figure("p50_ms", "ms", taken.groups("p50_ms"), f"median of {one_row}"),
        figure("p99_ms", "ms", taken.groups("p99_ms"), f"99th percentile of {one_row}"),
        figure("throughput_rps", "rows/s", taken.groups("throughput_rps"), batched),
        figure("latency_ratio", "x", ratios, "median latency over the original's in the same repeat"),
    ]


def _right(hits: int, hits_original: int, count: int, output: str) -> list[Figure]:
    counted = f"{hits} of {count} evaluation rows right by output '{output}'"
    figures = [share("accuracy_percent", hits, count, counted)]
    if hits_original:
        kept = 100 * hits / hits_original
        figures.append(exact("accuracy_kept_percent", "%", kept, f"{hits} rows right, {hits_original} by the original"))
    return figures


__all__ = ["accuracy", "choose", "exact", "gates", "judge", "machine", "run", "share", "verdict"]
