"""What does a request cost here, and at the servers that one could take instead?

Every server gets the same bytes of a model and the same rows, on this machine, one server at a time, in turns: each turn
starts it, times its first right answer, checks its answers against onnxruntime's, loads it over each wire, and ends it.
The figures are medians over the turns. ``make bench-tools`` installs the clients, ``make peers`` the other servers;
docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from serving import load, models, musts, processes, servers, table, truth
from serving.models import Model
from serving.servers import OURS, Server
from serving.small import small
from serving.table import BARE, Window
from serving.wires import KIND, Asker, encode

QUICK = "mosec,fastapi"
BINARY_ONLY = {"binary"}
ANY = {"JSON", "binary", "gRPC"}


@dataclass(frozen=True)
class Case:
    """A load: the model, how many connections, over which kinds of wire; ``longer`` times the usual window.

    ``idle``: afterwards, too, what connections cost that ask once and then nothing more.
    """

    title: str
    model: str
    connections: int
    kinds: set[str]
    longer: float = 1.0
    requests: int = truth.REQUESTS
    idle: bool = False


CASES = {
    "light": Case("Light: digits, one row a request, 32 connections", "light", 32, ANY),
    "long": Case("Light, long numbers: digits with pixels of any value, 32 connections", "long", 32, {"JSON"}),
    "small": Case("Small: a network for digits of 155 kB, one row a request, 32 connections", "small", 32, ANY),
    "few": Case("Few connections: digits, one row a request, 8 connections", "light", 8, BINARY_ONLY, idle=True),
    "int8": Case("Light, quantized: digits in INT8, one row a request, 32 connections", "int8", 32, ANY),
    "heavy": Case("Heavy: ResNet-50, one image a request, 8 connections", "heavy", 8, {"JSON", "binary"}, 2.0, 8),
}


def main() -> int:
    """Measure and print."""
    options = read_options()
    if absent := load.missing():
        print(f"the clients are missing: {', '.join(absent)}; install them with: make bench-tools", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives us
    processes.adopt_orphans()
    known = made(options.models, options.cases)
    if options.floor:
        print(floor(known, options.seconds))
        return 0
    ours, *others = servers.SERVERS
    every = [dataclasses.replace(ours, light={"WORKERS": str(options.workers)}), *others]
    chosen = [s for s in every if s.name == OURS or options.peers == "all" or s.name in options.peers.split(",")]
    absent = sorted({server.name for server in chosen if not server.installed()})
    if absent:
        print(f"not installed, so not measured (make peers): {', '.join(absent)}", file=sys.stderr)
    windows = list(measure([s for s in chosen if s.installed()], known, options))
    print(report(windows, as_json=options.json))
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="light,few,heavy", help=f"of {', '.join(CASES)} (default: %(default)s)")
    parser.add_argument("--peers", default=QUICK, help="names, or all (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes of ours where models are light (0: as it chooses)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of every server (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="of a window; a heavy one lasts twice as long")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where the models are kept")
    parser.add_argument("--floor", action="store_true", help="only a bare onnxruntime loop in this process")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    options = parser.parse_args()
    options.cases = options.cases.split(",")
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are 1 or more")
    return options


def made(folder: Path, cases: list[str]) -> dict[str, Model]:
    """The models that the cases need, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = {CASES[case].model for case in cases}
    known = models.digits(folder) if needed & {"light", "long", "int8"} else {}
    if "small" in needed:
        known["small"] = small(folder)
    if "heavy" in needed:
        known["heavy"] = models.resnet50(folder)
    return known


def measure(chosen: list[Server], known: dict[str, Model], options: argparse.Namespace) -> Iterator[Window]:
    """All windows, turn by turn; a server that fails is named on stderr and left out from then on."""
    failed: set[tuple[str, int]] = set()
    with tempfile.TemporaryDirectory() as name:
        for turn in range(options.rounds):
            for key in options.cases:
                case = CASES[key]
                if key == "heavy":
                    yield bare(known["heavy"], options.seconds * case.longer)
                for i, server in enumerate(chosen):
                    wires = [wire for wire in server.paths if KIND[wire] in case.kinds]
                    if not wires or (key == "heavy" and server.heavy is None) or (key, i) in failed:
                        continue
                    print(f"turn {turn + 1} of {options.rounds}, {key}: {server.name} {', '.join(wires)}", file=sys.stderr)
                    try:
                        yield from one_turn(server, wires, key, known[case.model], options.seconds, Path(name))
                    except (OSError, RuntimeError, ValueError, KeyError) as error:
                        failed.add((key, i))
                        print(f"{server.name} {', '.join(wires)} is left out: {error}", file=sys.stderr)


def one_turn(server: Server, wires: list[str], key: str, model: Model, seconds: int, folder: Path) -> Iterator[Window]:
    """Start a server, check it, load it over each wire, end it."""
    case = CASES[key]
    length = max(1, round(seconds * case.longer))
    with servers.running(server, model, heavy=key == "heavy", folder=folder) as running:
        for wire in wires:
            port = running.port_of(wire)
            with ExitStack() as stack:
                askers = [
                    stack.enter_context(closing(Asker(wire, server.paths[wire], model.names, port)))
                    for _ in range(truth.THREADS)
                ]
                truth.check(model, askers, case.requests)
            message = encode(wire, server.paths[wire], model.names, model.rows[0])
            load.send(message, port, case.connections, max(1, length // 2), folder)
            start = processes.now()
            seen = load.send(message, port, case.connections, length, folder)
            spent = processes.between(start, processes.now())
            yield Window(
                key,
                server.name,
                wire,
                seen.requests,
                seen.requests / seen.seconds,
                seen.p50_ms,
                seen.p99_ms,
                spent.cpu_seconds / seen.requests * 1e6,
                spent.shares,
                seen.errors,
                spent.foreign_cores,
                processes.pss_mb(),
                running.start_seconds,
                load.idle_mb(message, port) if case.idle else None,
            )


def bare(model: Model, seconds: float) -> Window:
    """The heavy model in a loop of our own, a thread a core."""
    start = processes.now()
    floor = truth.floor(model, os.cpu_count() or 1, 1, seconds)
    foreign = processes.between(start, processes.now()).foreign_cores
    figures = (floor.rows, floor.rows_a_second, floor.p50_ms, floor.p99_ms, floor.cpu_us)
    return Window("heavy", BARE, "", *figures, [], 0, foreign, 0.0, 0.0)


def floor(known: dict[str, Model], seconds: int) -> str:
    """The table of bare onnxruntime."""
    said = ["| model | threads | batch | rows/s | CPU µs a row | foreign cores |", "|---|---:|---:|---:|---:|---:|"]
    for name, model in known.items():
        for threads in (1, os.cpu_count() or 1):
            for batch in (1, 8, 32):
                start = processes.now()
                one = truth.floor(model, threads, batch, seconds)
                foreign = processes.between(start, processes.now()).foreign_cores
                said.append(f"| {name} | {threads} | {batch} | {one.rows_a_second:,.1f} | {one.cpu_us:,.1f} | {foreign:.2f} |")
    return "\n".join(said)


def machine() -> dict[str, str]:
    """Where this ran, and with what."""
    text = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in ("shipworthy", "onnxruntime")}
    return {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": f"{len(names)} x {names[0] if names else platform.machine()}",
        "python": f"{platform.python_version()} ({Path(sys.executable).resolve()})",  # builds differ by 7 % of our CPU
        "part in C": "compiled" if find_spec("shipworthy.serve._numbers") else "not compiled",  # 3 µs of JSON
    } | versions


def report(windows: list[Window], *, as_json: bool) -> str:
    """All cases, as Markdown or as JSON."""
    if as_json:
        return json.dumps({"machine": machine(), "windows": [dataclasses.asdict(window) for window in windows]})
    said = [", ".join(f"{key} {value}" for key, value in machine().items())]
    by_case = table.lines(windows)
    for key, case in CASES.items():
        if found := [line for line in by_case if line.case == key]:
            said += ["", table.show(case.title, found)]
    if reached := musts.show(by_case):
        said += ["", reached]
    return "\n".join(said)


if __name__ == "__main__":
    sys.exit(main())
