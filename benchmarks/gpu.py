"""What does FP16 gain on a GPU, by onnxruntime's CUDA provider and by PyTorch, on the same footing?

ResNet-50 (random weights) with 1 to 256 images a call, and the network of examples/vision. onnxruntime's FP16 is made by our
own pass, so the precision is in the graph; PyTorch's is ``half()``, with channels innermost, too. Every way to run a model is
a process of its own, all take turns, and each is compared with the FP32 of its own runtime in the same round; TF32, which
PyTorch's users often have without knowing, stands beside it. On a GPU the table goes to docs/gpu.md.

Without a GPU it ends with code 77 and says what is missing; ``--device cpu`` goes the same way on the CPU, for a try.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np
from on_gpu import networks, page
from on_gpu.page import Line
from on_gpu.worker import WAYS, Way
from on_gpu.worker import main as work

from shipworthy import machine
from shipworthy.measure.statistics import figure

NO_GPU = 77
PATIENCE_SECONDS = 300.0
BATCHES = "1,8,32,64,128,256"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"


def main() -> int:
    """Measure, print, write."""
    options = read_options()
    if lacking := missing(options.device):
        print(f"nothing is measured: {lacking}\n  do next:  docs/gpu.md says what a machine needs", file=sys.stderr)
        return NO_GPU
    lines, about = list[Line](), dict[str, str]()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            network = networks.made(name, Path(folder) / name)
            for batch in options.batches:
                found, told = compared(network, batch, options)
                lines += found
                about |= told
    here = machine.describe()
    about = (
        {"CPU": here.cpu, **about}
        if options.device == "cuda"
        else {"A DRY RUN ON THE CPU, no figures of a GPU;": here.cpu, **about}
    )
    content = page.section(lines, about, datetime.now(UTC).date().isoformat())
    print(content)
    if options.device == "cuda":
        options.page.write_text(page.filled(options.page.read_text(encoding="utf-8"), content), encoding="utf-8")
        print(f"written to {options.page}", file=sys.stderr)
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(one) for one in text.split(",")]  # noqa: E731
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a try, that is written nowhere")
    parser.add_argument("--batches", type=numbers, default=BATCHES, help="images of a call (default: %(default)s)")
    parser.add_argument("--models", type=lambda text: text.split(","), default="resnet50,vision", help="(default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="fresh processes of each way (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that the table goes to (default: docs/gpu.md)")
    return parser.parse_args()


def missing(device: str) -> str:
    """Why it cannot run here; empty when it can."""
    absent = [name for name in ("torch", "onnxruntime", "safetensors", "onnxscript") if importlib.util.find_spec(name) is None]
    if absent:
        return f"no module '{absent[0]}'"
    if device == "cpu":
        return ""
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no NVIDIA GPU"
    offered = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in offered:
        return f"onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}: onnxruntime-gpu has to be in its place"
    return ""


class Worker:
    """The parent's side of one process; a context manager, gone afterwards."""

    def __init__(self, way: Way, network: networks.Network, batch: int, device: str) -> None:
        self._arguments = (way, network, batch, device)

    def __enter__(self) -> Self:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=work, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.first = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def turn(self, seconds: float) -> dict[str, Any]:
        """The median of some seconds."""
        self._pipe.send(seconds)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        pipe: Connection = self._pipe
        try:
            answer: dict[str, Any] = pipe.recv() if pipe.poll(PATIENCE_SECONDS) else {"error": "no answer in five minutes"}
        except EOFError:
            answer = {"error": "its process died"}
        return answer


def compared(network: networks.Network, batch: int, options: argparse.Namespace) -> tuple[list[Line], dict[str, str]]:
    """All ways with one batch, and what the runtimes tell of themselves."""
    taken: dict[Way, list[list[float]]] = {way: [] for way in WAYS}
    firsts: dict[Way, dict[str, Any]] = {}
    errors: dict[Way, str] = {}
    for process in range(options.processes):
        with ExitStack() as stack:
            workers: dict[Way, Worker] = {}
            for way in WAYS:
                print(f"{network.name}, {batch} a call: {way.name}, process {process + 1}", file=sys.stderr)
                worker = stack.enter_context(Worker(way, network, batch, options.device))
                firsts[way] = worker.first
                if "error" in worker.first:
                    errors[way] = worker.first["error"]
                else:
                    workers[way] = worker
                    taken[way].append([])
            for turn in range(options.rounds):
                names = list(workers)
                shift = turn % max(1, len(names))
                for way in names[shift:] + names[:shift]:
                    answer = workers[way].turn(options.seconds)
                    if "error" in answer:
                        errors[way] = answer["error"]
                        workers.pop(way)
                    else:
                        taken[way][-1].append(answer["ms"])
    about = {key: value for first in firsts.values() for key, value in first.get("about", {}).items()}
    return [line(network.name, batch, way, taken, firsts, errors) for way in WAYS], about


def line(
    model: str,
    batch: int,
    way: Way,
    taken: dict[Way, list[list[float]]],
    firsts: dict[Way, dict[str, Any]],
    errors: dict[Way, str],
) -> Line:
    """The figures of one way, or why there are none."""
    if way in errors:
        return Line(model, batch, way.name, error=errors[way])
    own = next(one for one in WAYS if one.runtime == way.runtime)
    ratio = None
    if own not in errors:
        pairs = zip(taken[own], taken[way], strict=True)
        ratios = [[before / ours for before, ours in zip(*pair, strict=True)] for pair in pairs]
        ratio = figure("ratio", "x", ratios, "in the same rounds")
    return Line(
        model,
        batch,
        way.name,
        latency=figure("latency", "ms", taken[way], "medians of turns"),
        ratio=ratio,
        memory_mb=firsts[way]["memory_mb"],
        off=off(firsts.get(WAYS[0], {}).get("answers"), firsts[way]["answers"]),
    )


def off(reference: Any, answers: Any) -> float | None:
    """The largest difference, as a share of the largest answer; ``None`` where there is nothing to compare with."""
    if reference is None:
        return None
    return float(np.abs(answers - reference).max() / np.abs(reference).max())


if __name__ == "__main__":
    sys.exit(main())
