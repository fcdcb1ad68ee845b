"""Time, memory and answers of the variants, from fresh processes that take turns.

A process has luck of its own (where its memory lies costs or saves some percent for as long as it lives), so every
variant gets several, one after the other; and a machine has neighbours, so the variants' repeats are taken in turn.
``docs/decisions/0005-fresh-processes-in-turn.md`` has the figures behind both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from shipworthy import records
from shipworthy.measure import rows
from shipworthy.measure.bench import Bench, spread
from shipworthy.protocols import Array, Sink
from shipworthy.records import Progress, Target, Variant
from shipworthy.settings import MeasureSettings


@dataclass
class Taken:
    """What was taken of one variant: one entry a process in each list; ``repeats`` has one list of figures a process.

    ``gpu_memory_mb`` is empty where no GPU was measured; ``gpu_by_pid`` says of each whether it is the process's own.
    """

    load_ms: list[float] = field(default_factory=list)
    before_mb: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    gpu_memory_mb: list[float] = field(default_factory=list)
    gpu_by_pid: list[float] = field(default_factory=list)
    repeats: list[list[dict[str, float]]] = field(default_factory=list)
    outputs: dict[str, Array] = field(default_factory=dict)

    def groups(self, figure: str) -> list[list[float]]:
        """One figure of every repeat, by process; none of a figure that some repeats have not."""
        if any(figure not in one for process in self.repeats for one in process):
            return []
        return [[one[figure] for one in process] for process in self.repeats]


def take(variants: Sequence[Variant], folder: Path, target: Target, settings: MeasureSettings, sink: Sink) -> dict[str, Taken]:
    """Everything that processes tell, by variant's name.

    Args:
        variants: what to load.
        folder: holds ``timed.npz`` and ``all.npz`` (``rows.write``): the rows for timing, and those to answer.
        target: threads of a call.
        settings: processes, repeats and their length.
        sink: told which repeat is running.

    Raises:
        Failed: a probe died.
    """
    taken = {v.name: Taken() for v in variants}
    for process in range(settings.processes):
        with ExitStack() as stack:
            benches = {v.name: stack.enter_context(Bench(v.name)) for v in variants}
            for v in variants:
                loaded = benches[v.name].ask(
                    "load",
                    model=v.path,
                    target=records.dump(v.on(target)),
                    rows=str(folder / "timed.npz"),
                    batch_rows=settings.batch_rows,
                )
                for figure, value in loaded.items():
                    getattr(taken[v.name], figure).append(value)
            _take_turns(benches, taken, process, settings, sink)
            for name, bench in benches.items():
                taken[name].memory_mb.append(bench.ask("memory")["memory_mb"])
                if process == 0:
                    taken[name].outputs = _answers(bench, folder, name)
    return taken


def _take_turns(
    benches: dict[str, Bench], taken: dict[str, Taken], process: int, settings: MeasureSettings, sink: Sink
) -> None:
    """All repeats of one set of processes."""
    for one in taken.values():
        one.repeats.append([])
    whole = settings.processes * settings.repeats * len(benches)
    for repeat in range(settings.repeats):
        turn = process * settings.repeats + repeat
        for place, name in enumerate(spread(benches, turn)):
            text = f"{name}, repeat {turn + 1} of {settings.processes * settings.repeats}"
            sink.emit(Progress(stage="measure", text=text, done=turn * len(benches) + place, total=whole))
            answer = benches[name].ask("latency", seconds=settings.repeat_seconds)
            answer |= benches[name].ask("throughput", seconds=settings.repeat_seconds)
            taken[name].repeats[-1].append(answer)


def _answers(bench: Bench, folder: Path, name: str) -> dict[str, Array]:
    result = folder / f"outputs-{name}.npz"
    bench.ask("predict", data=str(folder / "all.npz"), result=str(result))
    return rows.read(result)
