"""Who takes part, how each is started, and with which settings it did best (docs/benchmarks.md says how they were found)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serving import processes, truth
from serving.models import ROOT, Model
from serving.wires import Asker, Row

OURS = "shipworthy"
PEERS = ROOT / ".peers"
SCRIPTS = ROOT / "benchmarks" / "peers"
START_SECONDS = 60.0
POLL_SECONDS = 0.01
TAIL_BYTES = 3000


@dataclass(frozen=True)
class Server:
    """One way to run a server.

    ``paths`` has the path of each wire it speaks in this run (Open Inference Protocol: the wire says it). ``light`` and
    ``heavy`` are its settings, environment variables of its script; without settings it sits that kind out.
    """

    name: str
    paths: dict[str, str]
    light: dict[str, str] = field(default_factory=dict)
    heavy: dict[str, str] | None = None
    command: tuple[str, ...] = ("server.py",)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(sys.executable) if self.name == OURS else PEERS / self.name / "bin" / "python"

    def installed(self) -> bool:
        """Whether ``make peers`` has made its environment."""
        return self.name == OURS or (PEERS / self.name / ".made").exists()


BY_HAND = {"WORKERS": "2"}
MOSEC = {"WORKERS": "2", "BATCH": "16"}
MOSEC_HEAVY = {"WORKERS": "2", "BATCH": "1"}
TRITON = {"v2json": "", "v2binary": "", "grpc": ""}
SERVERS = (
    Server(OURS, TRITON, heavy={}),
    Server("mosec", {"raw": "/inference"}, MOSEC | {"WIRE": "raw"}, MOSEC_HEAVY | {"WIRE": "raw"}),
    Server("mosec", {"json": "/inference"}, MOSEC | {"WIRE": "json"}, MOSEC_HEAVY | {"WIRE": "json"}),
    Server("fastapi", {"json": "/json", "raw": "/raw"}, BY_HAND, BY_HAND),
    Server("kserve", {"v2json": "", "v2binary": ""}, {"WORKERS": "2"}, {"WORKERS": "2"}),
    Server("kserve", {"grpc": ""}, {"WORKERS": "1"}),
    Server("pytriton", TRITON, {"WORKERS": "1", "BATCH": "32"}, {"WORKERS": "2", "BATCH": "1"}),
    Server("torchserve", {"raw": "/predictions/model"}, {"WORKERS": "1", "BATCH": "32"}, {"WORKERS": "2", "BATCH": "1"}),
    Server("mlserver", {"v2json": "", "grpc": ""}, {"PARALLEL": "0", "BATCH": "32"}, {"PARALLEL": "2", "BATCH": "1"}),
    Server("litserve", {"json": "/predict"}, {"WORKERS": "1"}, {"WORKERS": "2"}),
    Server("bentoml", {"json": "/predict"}, {"WORKERS": "2", "BATCH": "32"}, {"WORKERS": "2", "BATCH": "1"}),
    Server("ray", {"raw": "/"}, {"WORKERS": "1", "BATCH": "32"}),
)


@dataclass(frozen=True)
class Running:
    """A server that answers: the ports, and the seconds from its start to the first right answer."""

    port: int
    grpc_port: int
    start_seconds: float

    def port_of(self, wire: str) -> int:
        """Where a wire is spoken."""
        return self.grpc_port if wire == "grpc" else self.port


@contextmanager
def running(server: Server, model: Model, *, heavy: bool, folder: Path) -> Iterator[Running]:
    """The server with the model, from its first right answer to the end of the context; then nothing of it is left.

    Raises:
        RuntimeError: it ended, answered wrongly, or did not answer in time; with the end of what it wrote.
    """
    port, grpc_port = _free_ports(2)
    settings = (server.heavy or {}) if heavy else server.light
    environment = os.environ | settings
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode: nobody is to compile at the start
    environment |= {"MODEL": str(model.path), "NAME": model.names.model, "OUTPUT": model.names.output}
    environment |= {"SHAPE": ",".join(str(n) for n in model.rows[0].shape), "OMP_NUM_THREADS": "1"}
    environment |= {"PORT": str(port), "GRPC_PORT": str(grpc_port)}
    command = _command(server, model, port, grpc_port, settings.get("WORKERS", "0"))
    with (folder / f"{server.name}.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=_home(server, folder)
        )
        try:
            wire, path = next(iter(server.paths.items()))
            _await(process, Asker(wire, path, model.names, grpc_port if wire == "grpc" else port), model, Path(log.name))
            yield Running(port, grpc_port, time.perf_counter() - began)
        finally:
            processes.stop(process.pid)


def _command(server: Server, model: Model, port: int, grpc_port: int, workers: str) -> list[str]:
    if server.name == OURS:
        ports = ["--port", str(port)] + (["--grpc-port", str(grpc_port)] if "grpc" in server.paths else [])
        return [str(server.python), "-m", "shipworthy", "serve", str(model.path), *ports, "--workers", workers, "--json"]
    if server.name == "bentoml":
        where = ["--working-dir", str(SCRIPTS / "bentoml"), "--host", "127.0.0.1", "--port", str(port)]
        return [str(server.python), "-m", "bentoml", "serve", "server:Service", *where]
    return [str(server.python), str(SCRIPTS / server.name / "server.py")]


def _home(server: Server, folder: Path) -> Path:
    """An empty folder to run in; uvicorn's workers import their script from it."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return SCRIPTS / server.name if server.name == "fastapi" else home


def _await(process: subprocess.Popen[bytes], asker: Asker, model: Model, log: Path) -> None:
    row = model.rows[0]
    right = truth.answers(model)[0]
    until = time.monotonic() + START_SECONDS
    said: Exception | None = None
    while process.poll() is None and time.monotonic() < until:
        try:
            answer: Row = asker(row)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            said = error
            time.sleep(POLL_SECONDS)
            continue
        finally:
            asker.close()
        if answer.shape == right.shape and np.allclose(answer, right, atol=model.tolerance):
            return
        said = RuntimeError(f"a wrong answer: {answer[:10]}, not {right[:10]}")
        time.sleep(POLL_SECONDS)
    tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    raise RuntimeError(f"did not start (exit code {process.poll()}): {said}\n{tail}")


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
