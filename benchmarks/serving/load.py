"""The clients: ``wrk`` for HTTP, ``h2load`` for gRPC; both in C, one thread, a fixed request, a closed loop."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from serving import processes
from serving.wires import Message

SCRIPT = Path(__file__).with_name("post.lua")
GRACE_SECONDS = 30
IDLE_CONNECTIONS = 1000
IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class Load:
    """What the client saw: requests answered in so many seconds, latencies in ms, and everything that was no success."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int


def missing() -> list[str]:
    """Which of the clients are not installed."""
    return [name for name in ("wrk", "h2load") if shutil.which(name) is None]


def send(message: Message, port: int, connections: int, seconds: float, folder: Path) -> Load:
    """Send ``message`` to 127.0.0.1 over kept connections, each with one request in flight.

    Args:
        message: what to send, and where on the server.
        port: the server's.
        connections: how many.
        seconds: how long.
        folder: for the client's files.

    Raises:
        RuntimeError: the client ended with an error.
    """
    body = folder / "body"
    body.write_bytes(message.body)
    url = f"http://127.0.0.1:{port}{message.path}"
    if message.wire == "grpc":
        return _h2load(url, body, connections, seconds)
    headers = [f"{name}: {value}" for name, value in message.headers.items()]
    length = f"{max(1, round(seconds))}s"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{length}", "--timeout", "20s", "--latency", "-s", str(SCRIPT), url, "--"]
    return Load(**json.loads(_run([*command, str(body), *headers], seconds).strip().splitlines()[-1]))


def idle_mb(message: Message, port: int) -> float | None:
    """What 1,000 connections cost the server's tree, in MB, each after one request; ``None`` when it does not keep them."""
    kept = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(IDLE_CONNECTIONS)]
    before = processes.pss_mb()
    try:
        for connection in kept:
            connection.request("POST", message.path, message.body, message.headers)
            connection.getresponse().read()
        time.sleep(IDLE_SECONDS)
        return processes.pss_mb() - before if all(connection.sock for connection in kept) else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        for connection in kept:
            connection.close()


def _h2load(url: str, body: Path, connections: int, seconds: float) -> Load:
    log = body.with_name("h2load.log")
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{connections}", "-m1", f"-D{max(1, round(seconds))}", "-d", str(body)]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
    said = _run([*command, *headers, url], seconds)
    took = re.search(r"finished in ([\d.]+)(ms|s),", said)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    latencies = sorted(int(row[2]) / 1e3 for row in rows if row[1] == "200")
    if not took or not counts or not latencies:
        raise RuntimeError(f"h2load got no answer:\n{said[-2000:]}")
    elapsed = float(took[1]) / (1e3 if took[2] == "ms" else 1)
    p99 = latencies[int(0.99 * (len(latencies) - 1))]
    return Load(int(counts[1]), elapsed, statistics.median(latencies), p99, int(counts[2]) + int(counts[3]))


def _run(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout
