"""Is the memory that ``check`` predicts the memory that a process takes?

Beside each other: what ``check`` says a process grows by for calls of 1, 8 and 32 rows, and what a fresh process has grown by,
measured as ``measure`` does (the probe: its largest resident memory, less that before the model was loaded). Made models, one
of each kind; ResNet-50, also in FP16 and INT8; the examples, where ``--examples`` names their models as .onnx.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from made import kinds
from serving import models, servers

from serve import machine
from shipworthy import check, optimize, records, targets
from shipworthy import machine as this_machine
from shipworthy.check import memory
from shipworthy.check.areas import opened
from shipworthy.check.shapes import filled, size_up
from shipworthy.data import Dataset, made_up
from shipworthy.measure.bench import Bench
from shipworthy.measure.rows import write
from shipworthy.records import Model, Target

ROWS = (1, 8, 32)
WITHIN = 0.25


@dataclass(frozen=True)
class Line:
    """One model at so many rows: MB predicted, MB measured (the median of the processes, their least and most)."""

    name: str
    rows: int
    before: float
    weights: float
    activations: float
    predicted: float
    measured: float
    least: float
    most: float

    @property
    def off(self) -> float:
        """How far the prediction lies from the measurement, as a share of it."""
        return self.predicted / self.measured - 1


def main() -> int:
    """Predict, measure, print; 1 when a prediction is off by more than a quarter."""
    options = read_options()
    options.models.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        for title, path in files(options, Path(name)):
            model = check.take_in(path, "measured", Path(name) / "taken")
            lines += [line(title, model, rows, options.processes, Path(name)) for rows in ROWS]
            print(report(lines[-len(ROWS) :]), file=sys.stderr)
    if options.json:
        print(json.dumps({"machine": machine(), "lines": [asdict(one) for one in lines]}))
    else:
        print("\n".join([", ".join(f"{key} {value}" for key, value in machine().items()), "", HEAD, report(lines)]))
    return int(any(abs(one.off) > WITHIN for one in lines))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="of the made models, those whose name holds this")
    parser.add_argument("--examples", type=Path, nargs="*", default=[], help=".onnx files beside the made ones")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes of each (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where ResNet-50 is kept")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser.parse_args()


def files(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """The models, made as they are asked for."""
    for name, make in kinds.MAKERS.items():
        if options.only in name:
            onnx.save(make(), path := folder / f"{name.replace(', ', '-').replace(' ', '-')}.onnx")
            yield name, path
    if options.only in "resnet50":
        path = models.resnet50(options.models).path
        yield "ResNet-50", path
        model = check.take_in(path, "resnet50", folder / "resnet50")
        target = targets.fit(Target(), this_machine.describe())
        made = optimize.run(model, target, made_up(model.signature, 8), ("fp16", "int8_static"), Quiet())
        yield from ((f"ResNet-50 {one.name}", Path(one.path)) for one in made.variants if one.chain)
    yield from ((path.stem, path) for path in options.examples)


class Quiet:
    """Says nothing."""

    def emit(self, record: records.Record) -> None:
        """Nothing."""


def line(name: str, model: Model, rows: int, processes: int, folder: Path) -> Line:
    """Predict, then measure in fresh processes."""
    with opened(model, None, None, Target()) as subject:
        point = memory.foresee(subject, size_up(subject.proto, model.signature, None)).point(rows)
    given = made_up(filled(model.signature, None)[0], 4)
    taken = [measured(model, given, rows, folder) for _ in range(processes)]
    grown = [after - before for before, after in taken]
    return Line(
        name=name,
        rows=rows,
        before=statistics.median(before for before, _ in taken),
        weights=point.weights_mb,
        activations=point.activations_mb,
        predicted=point.total_mb,
        measured=statistics.median(grown),
        least=min(grown),
        most=max(grown),
    )


def measured(model: Model, given: Dataset, rows: int, folder: Path) -> tuple[float, float]:
    """Resident memory of a fresh process before it loads the model, and the most that it had after calls of so many rows."""
    write(folder / "rows.npz", given.inputs)
    with Bench(model.name) as bench:
        target = records.dump(Target())
        loaded = bench.ask("load", model=model.path, target=target, rows=str(folder / "rows.npz"), batch_rows=rows)
        bench.ask("throughput", seconds=0.0)
        return loaded["before_mb"], bench.ask("memory")["memory_mb"]


HEAD = "| model | rows | weights MB | activations MB | predicted MB | measured MB | least to most | off |\n|---|" + "---:|" * 7


def report(lines: list[Line]) -> str:
    """A line of a table in Markdown for each."""
    return "\n".join(
        f"| {one.name} | {one.rows} | {one.weights:.1f} | {one.activations:.1f} | {one.predicted:.1f} | {one.measured:.1f} "
        f"| {one.least:.1f} to {one.most:.1f} | {100 * one.off:+.0f} % |"
        for one in lines
    )


if __name__ == "__main__":
    sys.exit(main())
