"""What do callers of one model feel while another is loaded beside it?

A server with two models: digits, asked at random times so many times a second whoever was answered (an open loop in a process
of its own; a latency counts from the moment a request was due), and a ResNet-50 of 100 MB, loaded and unloaded over the
repository's API. First nothing is loaded, then the large model again and again; in turns, so that a noisy neighbour is
in both. P99 is taken over the requests that were due while a load was under way.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import models, servers
from serving.models import Model
from serving.wires import Message, encode

from serve import machine

OPEN_LOOP = models.ROOT / "benchmarks" / "serving" / "open_loop.py"
WARM_SECONDS = 1.0
PAUSE_SECONDS = 0.3
OK = 200

Seen = list[tuple[float, float, int]]
"""Requests: when each was due (``time.monotonic``), ms until its answer, status."""


def main() -> int:
    """Measure and print."""
    options = read_options()
    options.models.mkdir(parents=True, exist_ok=True)
    light, large = models.digits(options.models)["light"], models.resnet50(options.models)
    message = encode("v2binary", "", light.names, light.rows[0])
    quiet: Seen = []
    loading: Seen = []
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(message.body)
        for one in (light, large):
            where = folder / "models" / one.names.model / "1"
            where.mkdir(parents=True)
            shutil.copyfile(one.path, where / "model.onnx")
        with serving(folder / "models") as url:
            post(url, large, "unload")
            for _ in range(options.rounds):
                quiet += asked(url, message, options, folder)
                with asking(url, message, options, folder) as answers:
                    loads = list(loaded_again_and_again(url, large, options.seconds))
                took += [end - begin for begin, end in loads]
                loading += [one for one in answers if any(begin <= one[0] <= end for begin, end in loads)]
    print(report(quiet, loading, took, options))
    return 0 if all(status == OK for _, _, status in quiet + loading) else 1


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns without and with loads (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where the models are kept")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser.parse_args()


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """Our server over the repository: its URL."""
    command = [sys.executable, "-m", "shipworthy", "serve", str(repository), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(next(iter(process.stdout or ())))["url"]
        finally:
            process.terminate()


def asked(url: str, message: Message, options: argparse.Namespace, folder: Path) -> Seen:
    """Ask, and nothing else happens."""
    with asking(url, message, options, folder) as answers:
        pass
    return answers


@contextmanager
def asking(url: str, message: Message, options: argparse.Namespace, folder: Path) -> Iterator[Seen]:
    """Ask while the context lasts, which is to be over before the asking is; what was seen is there after it."""
    order = {"port": int(url.rpartition(":")[2]), "path": message.path, "body": str(folder / "body")}
    order |= {"headers": message.headers, "rate": options.rate, "seconds": WARM_SECONDS + options.seconds, "connections": 32}
    seen: Seen = []
    with subprocess.Popen([sys.executable, str(OPEN_LOOP), json.dumps(order)], stdout=subprocess.PIPE, text=True) as process:
        yield seen
        said = json.loads(process.communicate()[0])
    start = said["start"]
    seen += [(start + due, took, status) for due, took, status, _ in said["requests"] if due >= WARM_SECONDS]


def loaded_again_and_again(url: str, model: Model, seconds: float) -> Iterator[tuple[float, float]]:
    """Load and unload a model; from when to when each load took."""
    end = time.monotonic() + WARM_SECONDS + seconds - PAUSE_SECONDS
    time.sleep(2 * WARM_SECONDS)
    while time.monotonic() < end:
        begin = time.monotonic()
        post(url, model, "load")
        yield begin, time.monotonic()
        post(url, model, "unload")
        time.sleep(PAUSE_SECONDS)


def post(url: str, model: Model, what: str) -> None:
    """Load or unload a model."""
    ask = urllib.request.Request(f"{url}/v2/repository/models/{model.names.model}/{what}", method="POST", data=b"")  # noqa: S310
    urllib.request.urlopen(ask, timeout=60).close()  # noqa: S310


def report(quiet: Seen, loading: Seen, took: list[float], options: argparse.Namespace) -> str:
    """Everything, as Markdown or as JSON."""
    figures = {
        "requests_a_second": options.rate,
        "loads": len(took),
        "load_seconds": round(sorted(took)[len(took) // 2], 3),
        "failed": sum(status != OK for _, _, status in quiet + loading),
        "requests": [len(quiet), len(loading)],
        "p50_ms": [round(quantile(seen, 0.5), 2) for seen in (quiet, loading)],
        "p99_ms": [round(quantile(seen, 0.99), 2) for seen in (quiet, loading)],
        "p99_ratio": round(quantile(loading, 0.99) / quantile(quiet, 0.99), 2),
    }
    if options.json:
        return json.dumps({"machine": machine()} | figures)
    said = [", ".join(f"{key} {value}" for key, value in machine().items()), ""]
    said += [f"- {key.replace('_', ' ')}: {value}" for key, value in figures.items()]
    return "\n".join(said)


def quantile(seen: Seen, share: float) -> float:
    """Of the latencies, in ms."""
    times = sorted(took for _, took, _ in seen)
    return times[int(share * (len(times) - 1))]


if __name__ == "__main__":
    sys.exit(main())
