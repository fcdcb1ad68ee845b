"""What becomes of a server that is asked for up to five times what it can answer?

Each server gets the same model of about 20 ms a run. What is sustainable is measured first: the most that one of the servers
answers to a few callers, each of whom waits for their answer. Then callers come at random times, from a quarter to five
times as often, whether or not those before them were answered. A latency counts from the moment a request was due. Goodput
is what is answered within ``--limit-ms``; P99 is of what was not refused, those included who hung up after ``--patience``
seconds without an answer. Every load is a fresh start of the server. ``make peers`` installs the others.

The callers have the last core for themselves and the server the others: what it costs to send five times as much is not taken
from the server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from serving import curves, processes, servers, truth
from serving.convolutions import twenty_ms
from serving.models import ROOT, Model
from serving.servers import OURS, Running, Server
from serving.wires import Asker, Message, encode

from serve import machine
from shipworthy.files import write_bytes

LOADS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
PICTURE = ROOT / "docs" / "pictures" / "overload.svg"
OPEN_LOOP = ROOT / "benchmarks" / "serving" / "open_loop.py"
WIRES = {OURS: "v2binary", "mosec": "raw", "fastapi": "raw"}
CALLERS = 4
CLOSED_SECONDS = 4.0
WARM_SECONDS = 1.0
OK, UNAVAILABLE = 200, 503
# What the client may be late with a request before its figures mean nothing.
LAG_MS = 100.0


@dataclass(frozen=True)
class Seen:
    """One server at one load (over what it can sustain): requests a second, P99 in ms, shares in percent."""

    server: str
    load: float
    offered_rps: float
    goodput_rps: float
    p99_ms: float
    refused_percent: float
    refusal_p99_ms: float
    unanswered_percent: float
    lag_ms: float
    foreign_cores: float


def main() -> int:
    """Measure, print, and draw."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives us
    processes.adopt_orphans()
    options.models.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)  # the servers begin with what we have
    options.callers = cores[-1:]
    model = twenty_ms(options.models)
    chosen = [
        server
        for server in servers.SERVERS
        if server.name in options.servers.split(",") and WIRES.get(server.name) in server.paths and server.installed()
    ]
    if absent := sorted(set(options.servers.split(",")) - {server.name for server in chosen}):
        print(f"not installed (make peers), or not known, so not measured: {', '.join(absent)}", file=sys.stderr)
    if not chosen:
        return 2
    with tempfile.TemporaryDirectory() as folder:
        sustainable = max(closed_loop(server, model, options.callers, Path(folder)) for server in chosen)
        found = {server.name: at_all_loads(server, model, sustainable, options, Path(folder)) for server in chosen}
    print(report(found, options))
    if options.picture:
        shown = {
            name: [curves.Point(one.load, one.goodput_rps / sustainable, one.p99_ms) for one in seen]
            for name, seen in found.items()
        }
        note = f"offered load over what is sustainable; dashed: {options.limit_ms:g} ms, the limit; {machine()['when'][:10]}"
        write_bytes(PICTURE, curves.draw(shown, options.limit_ms, note).encode())
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(WIRES), help="names (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=7.0, help="of each load, the first one not counted")
    parser.add_argument("--limit-ms", type=float, default=1000.0, help="an answer that comes later is no good one")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds after which a caller hangs up")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where the model is kept")
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/overload.svg")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser.parse_args()


def at_all_loads(server: Server, model: Model, sustainable: float, options: argparse.Namespace, folder: Path) -> list[Seen]:
    """What was seen of a server at each load, over what can be sustained."""
    wire = WIRES[server.name]
    message = encode(wire, server.paths[wire], model.names, model.rows[0])
    seen = []
    for load in LOADS:
        with servers.running(server, model, heavy=True, folder=folder) as running:
            seen.append(at_load(server.name, message, running, (load, sustainable), options, folder))
        print(f"{server.name} at {load:g}: {seen[-1]}", file=sys.stderr)
    return seen


def closed_loop(server: Server, model: Model, callers: Collection[int], folder: Path) -> float:
    """Answers a second of a server to a few callers, each of whom waits for theirs; they must be right."""
    with servers.running(server, model, heavy=True, folder=folder) as running, pinned(callers):
        answered = few_callers(server, model, running, CLOSED_SECONDS)
    print(f"{server.name}: {answered:.0f} requests/s", file=sys.stderr)
    return answered


def few_callers(server: Server, model: Model, running: Running, seconds: float) -> float:
    """Answers a second."""
    wire = WIRES[server.name]
    askers = [Asker(wire, server.paths[wire], model.names, running.port_of(wire)) for _ in range(CALLERS)]
    truth.check(model, askers, 8 * CALLERS)
    answered: list[float] = []
    begin = time.perf_counter()

    def ask(asker: Asker) -> None:
        with closing(asker):
            while time.perf_counter() < begin + seconds:
                asker(model.rows[0])
                answered.append(time.perf_counter())

    threads = [threading.Thread(target=ask, args=(asker,)) for asker in askers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answered) / (max(answered) - begin)


def at_load(
    name: str, message: Message, running: Running, load: tuple[float, float], options: argparse.Namespace, folder: Path
) -> Seen:
    """Offer a load, from a process of its own."""
    body = folder / "body"
    body.write_bytes(message.body)
    rate, seconds = load[0] * load[1], options.seconds
    order = {"port": running.port, "path": message.path, "body": str(body), "headers": message.headers}
    order |= {"rate": rate, "seconds": seconds, "patience_seconds": options.patience}
    start = processes.now()
    with pinned(options.callers):
        done = subprocess.run([sys.executable, str(OPEN_LOOP), json.dumps(order)], capture_output=True, check=True)
    foreign = processes.between(start, processes.now()).foreign_cores
    said = json.loads(done.stdout)
    asked = [(took, status) for due, took, status, _ in said["requests"] if due >= WARM_SECONDS]
    accepted = [took for took, status in asked if status not in (UNAVAILABLE, 429)]
    refused = [took for took, status in asked if status in (UNAVAILABLE, 429)]
    good = [
        due
        for due, took, status, _ in said["requests"]
        if status == OK and took <= options.limit_ms and WARM_SECONDS <= due + took / 1000 < seconds
    ]
    return Seen(
        server=name,
        load=load[0],
        offered_rps=rate,
        goodput_rps=len(good) / (seconds - WARM_SECONDS),
        p99_ms=p99(accepted),
        refused_percent=100 * len(refused) / len(asked),
        refusal_p99_ms=p99(refused),
        unanswered_percent=100 * (len(accepted) - sum(status == OK for _, status in asked)) / len(asked),
        lag_ms=said["lag_ms"],
        foreign_cores=foreign,
    )


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """On these cores: this thread, and what it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def p99(times: list[float]) -> float:
    """The 99th percentile; 0 of nothing."""
    return sorted(times)[int(0.99 * (len(times) - 1))] if times else 0.0


def report(found: dict[str, list[Seen]], options: argparse.Namespace) -> str:
    """Everything, as Markdown or as JSON."""
    if options.json:
        seen = {name: [asdict(one) for one in seen] for name, seen in found.items()}
        return json.dumps({"machine": machine(), "limit_ms": options.limit_ms, "servers": seen})
    head = ("server", "load", "offered/s", "goodput/s", "of its peak %", "P99 ms", "refused %", "P99 of refusals ms")
    head += ("unanswered or wrong %", "foreign cores")
    said = [", ".join(f"{key} {value}" for key, value in machine().items()), "", f"| {' | '.join(head)} |"]
    said.append("|---|" + "---:|" * (len(head) - 1))
    for name, seen in found.items():
        peak = max(one.goodput_rps for one in seen)
        for one in seen:
            cells = [
                f"**{name}**" if name == OURS else name,
                f"{one.load:g}",
                f"{one.offered_rps:,.0f}",
                f"{one.goodput_rps:,.0f}",
            ]
            cells += [f"{100 * one.goodput_rps / peak:.0f}" if peak else "", f"{one.p99_ms:,.0f}", f"{one.refused_percent:.0f}"]
            cells += [f"{one.refusal_p99_ms:,.0f}" if one.refused_percent else "", f"{one.unanswered_percent:.0f}"]
            late = " (client late)" if one.lag_ms > LAG_MS else ""
            said.append(f"| {' | '.join([*cells, f'{one.foreign_cores:.2f}{late}'])} |")
    return "\n".join(said)


if __name__ == "__main__":
    sys.exit(main())
