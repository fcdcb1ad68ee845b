"""Which laws of the protocols that they speak do the servers keep?

Starts our server, and every peer that ``make peers`` has installed and that speaks the Open Inference Protocol, each with
the digits model, examines it as ``shipworthy conformance`` does, and prints docs/conformance.md (``--write`` writes it).
A server that a request takes down is started again, and examined without that law.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from serving import models, processes
from serving.servers import PEERS, SCRIPTS

from shipworthy.testing.conformance import Examination, Result, Server, examine, markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "conformance.md"
OURS = "shipworthy"
# Each peer and the package that has its version.
OTHERS = {"kserve": "kserve", "mlserver": "mlserver", "pytriton": "nvidia-pytriton"}
START_SECONDS = 60.0


def main() -> int:
    """Examine, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--models", type=Path, default=PEERS / "models", help="where the models are, or are made")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives us
    processes.adopt_orphans()
    options.models.mkdir(parents=True, exist_ok=True)
    path = models.digits(options.models)["light"].path
    names = [OURS, *(name for name in OTHERS if (PEERS / name / ".made").exists())]
    found = {_title(name): whole(name, path) for name in names}
    text = page(found)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


def whole(name: str, model: Path) -> Examination:
    """The examination of a server, started anew as often as a request takes it down."""
    broken: dict[str, Result] = {}
    while True:
        with running(name, model) as (url, grpc):
            found = examine(Server(url, grpc), model=model.stem, skip=list(broken))
        results = tuple(broken.get(one.id, one) for one in found.results)
        if not found.taken_down_by:
            return replace(found, results=results)
        broken |= {one.id: one for one in results if one.id == found.taken_down_by}


@contextmanager
def running(name: str, model: Path) -> Iterator[tuple[str, str]]:
    """The server with the model, at a URL and at an address for gRPC; afterwards nothing of it is left.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc_port = one.getsockname()[1], other.getsockname()[1]
    environment = os.environ | {"MODEL": str(model.absolute()), "NAME": model.stem, "OMP_NUM_THREADS": "1"}
    environment |= {"PORT": str(port), "GRPC_PORT": str(grpc_port)}
    command = [str(PEERS / name / "bin" / "python"), str(SCRIPTS / name / "conform.py")]
    if name == OURS:
        command = [sys.executable, "-m", "shipworthy", "serve", str(model), "--port", str(port), "--grpc-port", str(grpc_port)]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        home = Path(folder) / "home"
        home.mkdir()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=home)
        try:
            _await(process, f"http://127.0.0.1:{port}/v2/models/{model.stem}/ready", Path(log.name))
            yield f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
        finally:
            processes.stop(process.pid)


def page(found: dict[str, Examination]) -> str:
    """docs/conformance.md."""
    cpus = os.cpu_count()
    head = f"""# Conformance

Written by `python benchmarks/conformance.py --write` on {dt.datetime.now(dt.UTC).date()}, Python {platform.python_version()},
{platform.system()} {platform.machine()}, {cpus} CPUs; do not edit.

The Open Inference Protocol has no conformance suite. `shipworthy conformance http://HOST:PORT --grpc HOST:PORT` is one: it
asks any server what clients ask, and judges the answers by laws. It shares no code with our server: requests are written,
and answers read, by JSON key and by protobuf field number. Each law says where it stands:

| level | the law is |
|---|---|
| specification | required by the text of the Open Inference Protocol, or of HTTP, JSON or gRPC below it |
| client | not required there; but a client relies on it, or the reference server (Triton) does it and clients count on that |
| extension | of an extension that a server may leave out: Triton's, or the protocol of TensorFlow Serving |

*held*; **broken**; — not offered (the server does not have that part, or keeps it from strangers); · not tried (the model
has nothing to try it on). *Refused* means an error status, 400 to 599, or a gRPC status other than OK.

The model is the digits example: one input FP32 [-1, 64], outputs INT64 [-1] and FP32 [-1, 10]. The peers run it with
onnxruntime behind a model of a few lines each (`benchmarks/peers/*/conform.py`), which declares its metadata, gives the
outputs asked for, and refuses what onnxruntime does not take as the caller's fault; whatever else they do is the server's
own doing. Other versions may do better. A server that went down while it was asked something was started again: that law
is broken, the others were asked without it.

Where the specification contradicts itself, the law takes the reading that most clients can live with: readiness is said
as `ready` (the text of the specification has `live`, KServe's client reads `ready`), and the version in a URL may be left
out.

"""
    return head + markdown(found)


def _title(name: str) -> str:
    if name == OURS:
        return f"{OURS} {importlib.metadata.version(OURS)}"
    code = f"import importlib.metadata; print(importlib.metadata.version({OTHERS[name]!r}))"
    version = subprocess.run([PEERS / name / "bin" / "python", "-c", code], check=True, capture_output=True, text=True)
    return f"{name} {version.stdout.strip()}"


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - a URL of ours
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"did not start (exit code {process.poll()}): {log.read_bytes()[-2000:].decode(errors='replace')}")


if __name__ == "__main__":
    sys.exit(main())
