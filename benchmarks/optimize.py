"""What does optimizing a ResNet-50 for this CPU gain, beside what one would do by hand?

The architecture of ResNet-50 with random weights (what is fast does not depend on the weights; how right it is does, and is not
asked here). Ours: every variant that the search makes. By hand: onnxruntime's ``quantize_static`` as it comes, and NNCF with
OpenVINO as it comes (``make .peers/nncf/.made``; left out where it is not installed). All are measured in one run, in fresh
processes that take turns, one thread a call.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from serving import models, servers

from serve import machine
from shipworthy import check, measure, optimize, records, targets
from shipworthy import machine as this_machine
from shipworthy.data import Dataset
from shipworthy.files import file_digest, size_mb
from shipworthy.protocols import Array
from shipworthy.records import Evidence, Figure, Model, Target, Variant
from shipworthy.settings import MeasureSettings

NNCF = servers.PEERS / "nncf" / "bin" / "python"
BY_HAND = """
import sys
import numpy as np
rows = np.load(sys.argv[3])["image"]
{how}
"""
ORT = """
from onnxruntime import quantization
class Reader(quantization.CalibrationDataReader):
    def __init__(self):
        self.rows = iter(rows)
    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {"image": row[None]}
quantization.quantize_static(sys.argv[1], sys.argv[2], Reader())
"""
WITH_NNCF = """
import nncf, onnx
onnx.save(nncf.quantize(onnx.load(sys.argv[1]), nncf.Dataset([{"image": row[None]} for row in rows])), sys.argv[2])
"""
COLUMNS = ("size_mb", "memory_mb", "p50_ms", "p99_ms", "throughput_rps")


def main() -> int:
    """Make, measure, print."""
    options = read_options()
    options.models.mkdir(parents=True, exist_ok=True)
    path = models.resnet50(options.models).path
    rows = np.random.default_rng(2).standard_normal((options.rows, 3, 224, 224)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = check.take_in(path, "resnet50", folder / "models")
        target = targets.fit(Target(), this_machine.describe())
        calibration = Dataset("random", "", {"image": rows})
        passes = ("graph", "int8_static", "openvino", "int8_dynamic", "fp16")
        made = optimize.run(model, target, calibration, passes, Teller())
        for skip in made.skips:
            print(f"{skip.name} is not made: {skip.reason}", file=sys.stderr)
        variants = [*made.variants, *by_hand(model, rows, folder)]
        settings = MeasureSettings(
            processes=options.processes, repeats=3, repeat_seconds=options.seconds, batch_rows=options.batch
        )
        found = measure.run(model, variants, target, settings, None, "", Teller())
    print(report(found.evidence, as_json=options.json))
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="calibration images (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes of each variant (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one repeat (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images of a call when images/s is taken (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where the model is kept")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser.parse_args()


class Teller:
    """Says on standard error what is done."""

    def emit(self, record: records.Record) -> None:
        """One line."""
        if isinstance(record, records.Progress):
            print(f"{record.stage}: {record.text}", file=sys.stderr)


def by_hand(model: Model, rows: Array, folder: Path) -> list[Variant]:
    """What the libraries give as they come: each made in a process of its own."""
    np.savez(folder / "rows.npz", image=rows)
    ways = [("by hand: quantize_static", Path(sys.executable), ORT, "onnxruntime")]
    if NNCF.exists():
        ways.append(("by hand: NNCF, OpenVINO", NNCF, WITH_NNCF, "openvino"))
    found = []
    for name, python, how, runtime in ways:
        print(f"{name}", file=sys.stderr)
        result = folder / f"{runtime}.onnx"
        command = [str(python), "-c", BY_HAND.replace("{how}", how), model.path, str(result), str(folder / "rows.npz")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(
            Variant(
                name=name,
                path=str(result),
                digest=file_digest(result),
                parent=model.digest,
                chain=(),
                devices=("cpu",),
                size_mb=size_mb(result),
                runtime=runtime,
                precision="float32",
            )
        )
    return found


def report(evidence: tuple[Evidence, ...], *, as_json: bool) -> str:
    """Everything, as Markdown or as JSON; ratios are to the original in the same repeats."""
    if as_json:
        return json.dumps({"machine": machine(), "evidence": [records.dump(one) for one in evidence]})
    first = evidence[0]
    said = [", ".join(f"{key} {value}" for key, value in machine().items()), ""]
    head = ("variant", "runtime", "size MB", "of it %", "memory MB", "of it %", "P50 ms", "P99 ms", "images/s", "times as fast")
    said.append(f"| {' | '.join([*head, 'images/s, times'])} |")
    said.append("|---|---|" + "---:|" * 9)
    for one in evidence:
        size, memory, p50, p99, rate = (median(one, name) for name in COLUMNS)
        ratio = one.figure("latency_ratio") or Figure(name="", unit="", median=1, low=1, high=1, samples=1, how="")
        cells = [one.variant_name, one.target.runtime + (" bf16" if one.target.precision == "bfloat16" else "")]
        cells += [f"{size:.1f}", f"{100 * size / median(first, 'size_mb'):.0f}"]
        cells += [f"{memory:.0f}", f"{100 * memory / median(first, 'memory_mb'):.0f}"]
        cells += [f"{p50:.1f}", f"{p99:.1f}", f"{rate:.1f}"]
        cells += [f"{1 / ratio.median:.2f} ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"]
        cells += [f"{rate / median(first, 'throughput_rps'):.2f}"]
        said.append(f"| {' | '.join(cells)} |")
    return "\n".join(said)


def median(evidence: Evidence, name: str) -> float:
    """Of a figure; 0 where it was not taken."""
    figure = evidence.figure(name)
    return figure.median if figure else 0.0


if __name__ == "__main__":
    sys.exit(main())
