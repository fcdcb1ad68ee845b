"""measure: what each variant costs and how often it is right, on this machine, side by side."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from msgspec.structs import replace

from shipworthy import machine
from shipworthy.backends.nvml import PERIOD_SECONDS
from shipworthy.backends.weights import sparsity_percent
from shipworthy.data import Dataset, made_up
from shipworthy.errors import Refused
from shipworthy.files import draft_folder, machine_errors
from shipworthy.measure import accuracy, curves, metrics, own, quality, rows, timing
from shipworthy.measure.gate import choose, gates, is_close, judge, of_answers, verdict
from shipworthy.measure.own import named
from shipworthy.measure.statistics import exact, figure, share
from shipworthy.measure.timing import Taken
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import Evidence, Figure, Measured, Metric, Model, Target, Variant
from shipworthy.settings import MeasureSettings

TIMED_ROWS = 256
# The rows lie in the memory of the process that is measured: not so many that they are what is measured.
TIMED_BYTES = 16_000_000


def run(
    model: Model,
    variants: Sequence[Variant],
    target: Target,
    settings: MeasureSettings,
    data: Dataset | None = None,
    prediction: str = "",
    sink: Sink | None = None,
    metric: Metric | None = None,
) -> Measured:
    """The evidence of every variant: several fresh processes of each, their repeats taken in turn (A B C, B C A, …).

    Args:
        model: whose signature all variants have.
        variants: the original first: the others are compared with it.
        target: threads of a call.
        settings: processes, repeats, their length, rows of a batch.
        data: evaluation rows; without them rows are made up and only the agreement is taken of the answers.
        prediction: the output compared with the labels; empty: found by shape and dtype.
        sink: told which repeat is running.
        metric: from ``named``; ``None``: the accuracy.

    Raises:
        Failed: a probe died, or the answers of a variant are no numbers.
        StorageFailed: the disk is full.
        Refused: labels that no output can be compared with, or a metric of the user's that failed.
    """
    sink, metric = sink or Quiet(), metric or Metric()
    data = data or made_up(model.signature, TIMED_ROWS)
    output = _output(model, metric, data, prediction)
    models = Path(model.path).parent
    with machine_errors(models), draft_folder(models) as folder:
        rows.write(folder / "timed.npz", data.take(0, _timed(data)))
        rows.write(folder / "all.npz", data.inputs)
        taken = timing.take(variants, folder, target, settings, sink)
        answers = {name: one.outputs for name, one in taken.items()}
        judged = quality.figures(metric, answers, data, output, folder)
    here, when = machine.describe(), datetime.now(UTC).isoformat(timespec="seconds")
    original = variants[0]
    evidence = [
        Evidence(
            variant=v.digest,
            variant_name=v.name,
            target=v.on(target),
            machine=here,
            data=data.digest,
            measured_at=when,
            figures=(
                *_cost(v, taken[v.name]),
                *_speed(taken[v.name], taken[original.name], settings),
                *_gpu(taken[v.name], settings),
                *judged[v.name],
            ),
            metric=replace(metric, name=own.short(metric.name)),
        )
        for v in variants
    ]
    return Measured(evidence=tuple(evidence))


def elsewhere(target: Target, reason: str) -> str:
    """What is said of a target that is not this machine: no figure stands in for those that only it can give."""
    return (
        f"target '{target.name}' is not this machine: {reason}; its latency, throughput, memory and answers are missing, "
        "and none are made up: run the same command there"
    )


def _timed(data: Dataset) -> int:
    """How many rows are timed."""
    row = sum(array.nbytes for array in data.inputs.values()) / data.rows
    return max(1, min(TIMED_ROWS, int(TIMED_BYTES / max(row, 1))))


def _output(model: Model, metric: Metric, data: Dataset, prediction: str) -> str:
    """The output that is compared; where nothing is compared with labels any will do."""
    if data.labels is not None:
        metrics.fit(metric, data.labels)
        return metrics.output(metric, model.signature, prediction).name
    try:
        return metrics.output(metric, model.signature, prediction).name
    except Refused:
        return model.signature.outputs[0].name


@lru_cache(maxsize=256)
def _compressed_mb(path: str, digest: str) -> float:  # noqa: ARG001  the digest: a file that changed is compressed again
    packed, whole = zlib.compressobj(6, wbits=31), 0
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            whole += len(packed.compress(part))
    return (whole + len(packed.flush())) / 1e6


def _cost(variant: Variant, taken: Taken) -> list[Figure]:
    least = min(taken.before_mb)
    memory = f"largest resident memory of a fresh process that holds only this; {least:.1f} MB before it was loaded"
    figures = [
        exact("size_mb", "MB", variant.size_mb, "bytes of the file"),
        exact("compressed_mb", "MB", _compressed_mb(variant.path, variant.digest), "bytes of the file after gzip -6"),
        figure("memory_mb", "MB", [[one] for one in taken.memory_mb], memory),
        figure("load_ms", "ms", [[one] for one in taken.load_ms], "from file to session, once a process"),
    ]
    if any("prune" in step.name for step in variant.chain):
        zeros = sparsity_percent(Path(variant.path))
        figures.append(exact("sparsity_percent", "%", zeros, "zeros among all numbers in the file's weights and constants"))
    return figures


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


def _gpu(taken: Taken, settings: MeasureSettings) -> list[Figure]:
    """What the driver of the GPU tells; nothing where there is none, or none of all processes."""
    figures = []
    if len(taken.gpu_memory_mb) == settings.processes:
        own = (
            "memory that the GPU's driver tells of the process"
            if all(taken.gpu_by_pid)
            else "what the GPU's memory has grown by"
        )
        how = f"{own}, once it was loaded and warmed up, its context and the runtime's libraries in it"
        figures.append(figure("gpu_memory_mb", "MB", [[one] for one in taken.gpu_memory_mb], how))
    if busy := taken.groups("gpu_utilisation_percent"):
        how = (
            f"share of the last {PERIOD_SECONDS:g} s or less of each repeat in which the GPU computed, by its driver; "
            f"batches of {settings.batch_rows} rows, one after the other"
        )
        figures.append(figure("gpu_utilisation_percent", "%", busy, how))
    return figures


__all__ = [
    "accuracy",
    "choose",
    "curves",
    "elsewhere",
    "exact",
    "gates",
    "is_close",
    "judge",
    "named",
    "of_answers",
    "run",
    "share",
    "verdict",
]
