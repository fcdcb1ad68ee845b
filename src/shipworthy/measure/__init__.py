"""measure: what each variant costs and how often it is right, on this machine, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from shipworthy import records
from shipworthy.data import Dataset, made_up
from shipworthy.files import draft_folder, machine_errors
from shipworthy.measure import accuracy, machine, rows
from shipworthy.measure.bench import Bench, spread
from shipworthy.measure.gate import choose, gates, judge, verdict
from shipworthy.measure.statistics import exact, figure, share
from shipworthy.protocols import Array, Quiet, Sink
from shipworthy.records import Evidence, Figure, Measured, Model, Progress, Target, Variant
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
    """The evidence of every variant, each in a fresh process, repeats taken in turn (A B C, B C A, …).

    Args:
        model: whose signature all variants have.
        variants: the original first: the others are compared with it.
        target: threads of a call.
        settings: repeats, their length, rows of a batch.
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
    with machine_errors(models), draft_folder(models) as folder, ExitStack() as stack:
        rows.write(folder / "timed.npz", data.take(0, TIMED_ROWS))
        rows.write(folder / "all.npz", data.inputs)
        benches = {v.name: stack.enter_context(Bench(v.name)) for v in variants}
        once = {v.name: _load(benches[v.name], v, folder, target, settings) for v in variants}
        timed = _time(benches, settings, sink)
        for name, bench in benches.items():
            once[name] |= bench.ask("memory")
        outputs = {v.digest: _predict(benches[v.name], folder, v.name) for v in variants}
    hits = {}
    if data.labels is not None:
        hits = {digest: accuracy.hits(answers, data.labels, output) for digest, answers in outputs.items()}
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
                *_cost(v, once[v.name]),
                *_speed(timed, v.name, original.name, settings),
                *(_right(hits[v.digest], hits[original.digest], data.rows, output) if hits else ()),
            ),
        )
        for v in variants
    ]
    return Measured(evidence=tuple(evidence))


def _load(bench: Bench, variant: Variant, folder: Path, target: Target, settings: MeasureSettings) -> dict[str, float]:
    return bench.ask(
        "load",
        model=variant.path,
        target=records.dump(target),
        rows=str(folder / "timed.npz"),
        batch_rows=settings.batch_rows,
    )


def _cost(variant: Variant, once: Mapping[str, float]) -> list[Figure]:
    before = f"largest resident memory of a fresh process that holds only this; {once['before_mb']:.1f} MB before it was loaded"
    return [
        exact("size_mb", "MB", variant.size_mb, "bytes of the file"),
        exact("memory_mb", "MB", once["memory_mb"], before),
        exact("load_ms", "ms", once["load_ms"], "from file to session, once"),
    ]


def _time(benches: dict[str, Bench], settings: MeasureSettings, sink: Sink) -> dict[str, list[dict[str, float]]]:
    """One dict of figures a repeat, for every variant."""
    timed: dict[str, list[dict[str, float]]] = {name: [] for name in benches}
    total = settings.repeats * len(benches)
    for repeat in range(settings.repeats):
        for place, name in enumerate(spread(benches, repeat)):
            text = f"{name}, repeat {repeat + 1} of {settings.repeats}"
            sink.emit(Progress(stage="measure", text=text, done=repeat * len(benches) + place, total=total))
            answer = benches[name].ask("latency", seconds=settings.repeat_seconds)
            timed[name].append(answer | benches[name].ask("throughput", seconds=settings.repeat_seconds))
    return timed


def _speed(
    timed: Mapping[str, Sequence[Mapping[str, float]]], name: str, original: str, settings: MeasureSettings
) -> list[Figure]:
    calls = int(sum(one["calls"] for one in timed[name]))
    one_row = f"{calls} calls of one row over {settings.repeats} repeats taken in turn with the others"
    batched = f"batches of {settings.batch_rows} rows, one after the other, {settings.repeat_seconds:g} s a repeat"
    ratios = [ours["p50_ms"] / theirs["p50_ms"] for ours, theirs in zip(timed[name], timed[original], strict=True)]
    return [
        figure("p50_ms", "ms", [one["p50_ms"] for one in timed[name]], f"median of {one_row}"),
        figure("p99_ms", "ms", [one["p99_ms"] for one in timed[name]], f"99th percentile of {one_row}"),
        figure("throughput_rps", "rows/s", [one["throughput_rps"] for one in timed[name]], batched),
        figure("latency_ratio", "x", ratios, "median latency over the original's in the same repeat"),
    ]


def _right(hits: int, hits_original: int, count: int, output: str) -> list[Figure]:
    counted = f"{hits} of {count} evaluation rows right by output '{output}'"
    figures = [share("accuracy_percent", hits, count, counted)]
    if hits_original:
        kept = 100 * hits / hits_original
        figures.append(exact("accuracy_kept_percent", "%", kept, f"{hits} rows right, {hits_original} by the original"))
    return figures


def _predict(bench: Bench, folder: Path, name: str) -> dict[str, Array]:
    result = folder / f"outputs-{name}.npz"
    bench.ask("predict", data=str(folder / "all.npz"), result=str(result))
    return rows.read(result)


__all__ = ["accuracy", "choose", "exact", "gates", "judge", "machine", "run", "share", "verdict"]
