"""A real server to be mistreated, a client that sends any bytes, and how long the mistreatment goes on.

This folder mirrors no part of the code: it attacks the whole server, over its sockets. With ``SOAK_SECONDS=0``, as ``.ci/run``
has it, each fuzzer is short and always the same; else all of them share so many seconds, and each run begins elsewhere;
``SOAK_SEED`` makes it begin where another did.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import pytest
from onnx import helper

SCRIPT = Path(__file__).parents[1] / "serve" / "serve_script.py"
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
# Tests that go on as long as they may, and what all of them do together at least, in so many seconds.
FUZZERS = 6
WHOLE_SECONDS, WHOLE_CASES = 500.0, 10_000
HOST = "127.0.0.1"
PATIENCE_SECONDS = 10.0
GROWTH_MB = 64
CASES: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    if CASES:
        counted = ", ".join(f"{name} {count}" for name, count in CASES.items())
        terminalreporter.write_line(f"fuzz: {sum(CASES.values())} cases ({counted})")


@dataclass(frozen=True)
class Answer:
    """One answer over HTTP/1.1; ``continued``: 100 Continue came before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    continued: bool = False

    @property
    def json(self) -> object:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Wire:
    """A connection that sends any bytes and reads answers; whatever takes longer than its patience is a failure."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, cuts: tuple[int, ...] = (), pause: float = 0.0005) -> None:
        """Send in pieces that arrive one by one; a peer that has closed meanwhile is no failure."""
        edges = [0, *sorted(cuts), len(data)]
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for start, end in itertools.pairwise(edges):
                if start < end:
                    self.socket.sendall(data[start:end])
                    if end < len(data):
                        time.sleep(pause)

    def more(self) -> bool:
        """Read what has come; false at the end."""
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        self._rest += data
        return bool(data)

    def answer(self, *, bodiless: bool = False) -> Answer | None:
        """The next answer; ``None``: the server has closed, after whole answers only."""
        continued = False
        while True:
            head = self._head()
            if head is None:
                return None
            line, *lines = head.decode("latin-1").split("\r\n")
            version, number, _ = line.split(" ", 2)
            assert version == "HTTP/1.1"
            if number != "100":
                break
            continued = True
        headers: dict[str, str] = {}
        for text in lines:
            name, _, value = text.partition(":")
            assert name.lower() not in headers, f"twice: {name}"
            headers[name.lower()] = value.strip()
        assert "transfer-encoding" not in headers
        body = self._take(0 if bodiless else int(headers["content-length"]))
        return Answer(int(number), headers, body, continued)

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        while self.more():
            pass
        data, self._rest = self._rest, b""
        return data

    def silent(self, seconds: float = 0.02) -> bool:
        """Whether nothing more comes and the connection stays open."""
        self.socket.settimeout(seconds)
        try:
            return not self._rest and self.more() and False
        except TimeoutError:
            return not self._rest
        finally:
            self.socket.settimeout(PATIENCE_SECONDS)

    def _head(self) -> bytes | None:
        while b"\r\n\r\n" not in self._rest:
            if not self.more():
                assert not self._rest, f"half an answer: {self._rest[:200]!r}"
                return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            assert self.more(), "half a body"
        body, self._rest = self._rest[:size], self._rest[size:]
        return body


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """A well-formed request with a body."""
    lines = [b"POST %b HTTP/1.1" % path.encode(), b"Host: fuzz", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def pair(value: int) -> bytes:
    """What asks the model ``two`` for the double of a number; the answer carries the number as its id."""
    tensors = [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [value] * 3} for name in "ab"]
    return json.dumps({"id": str(value), "inputs": tensors}).encode()


class Victim:
    """A running server of two workers, what it must be able to do, and what it must not become."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        self.process = process
        self.errors = errors
        self.url = said["url"]
        self.port = int(said["url"].rpartition(":")[2])
        self.grpc = said["grpc"]
        self.grpc_port = int(said["grpc"].rpartition(":")[2])

    def wire(self, port: int = 0) -> Wire:
        return Wire(port or self.port)

    def workers(self) -> list[int]:
        return [int(one) for one in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def descriptors(self) -> list[int]:
        """Open files of each worker, and of the process that accepts."""
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (*self.workers(), self.process.pid)]

    def resident_mb(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def answers(self) -> None:
        """Good requests are served right, whichever worker has the connection."""
        with contextlib.ExitStack() as stack:
            for wire in [stack.enter_context(self.wire()) for _ in range(4)]:
                for number in range(2):
                    wire.send(post("/v2/models/two/infer", pair(number)))
                    answer = wire.answer()
                    assert answer is not None
                    assert answer.status == 200
                    assert answer.json["id"] == str(number)
                    assert answer.json["outputs"][0]["data"] == [2 * number] * 3
                wire.send(post("/v1/models/two:predict", b'{"instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}]}'))
                answer = wire.answer()
                assert answer is not None
                assert answer.json == {"predictions": [[2, 3, 4]]}

    @contextlib.contextmanager
    def unharmed(self, growth_mb: float = GROWTH_MB) -> Iterator[None]:
        """Whatever is done within leaves the server as it was: alive, right, without leaks and without a traceback."""
        self.answers()
        workers, before, resident = self.workers(), self.descriptors(), self.resident_mb()
        read = self.errors.stat().st_size
        yield
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (now := self.descriptors()) > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert now <= before, f"descriptors: {before} before, {now} after"
        assert self.workers() == workers, "a worker died"
        self.answers()
        grown = self.resident_mb() - resident
        assert grown < growth_mb, f"{grown:.0f} MB more than before"
        with self.errors.open("rb") as errors:
            errors.seek(read)
            said = errors.read()
        assert b"Traceback" not in said, said[-4000:].decode(errors="replace")


def save_models(folder: Path, build: Callable[..., onnx.ModelProto]) -> dict[str, Path]:
    """Small models of every kind of tensor that JSON has a trap for."""
    node = helper.make_node
    weights = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "axes": np.array([1])}
    kinds = ("float32", "int64", "str", "float16")
    made = {
        "two": build(
            [node("Add", ["a", "b"], ["y"])],
            [("a", "float32", [None, 3]), ("b", "float32", [None, 3])],
            [("y", "float32", [None, 3])],
        ),
        "linear": build(
            [node("MatMul", ["x", "w"], ["scores"]), node("ReduceSum", ["x", "axes"], ["total"], keepdims=0)],
            [("x", "float32", [None, 4])],
            [("scores", "float32", [None, 3]), ("total", "float32", [None])],
            weights,
        ),
        "many": build(
            [node("Identity", ["in_" + kind], ["out_" + kind]) for kind in kinds],
            [("in_" + kind, kind, [None, 2]) for kind in kinds],
            [("out_" + kind, kind, [None, 2]) for kind in kinds],
        ),
        "text": build([node("Identity", ["t"], ["u"])], [("t", "str", [None, 1])], [("u", "str", [None, 1])]),
        "free": build([node("Neg", ["x"], ["y"])], [("x", "float32", [None, None])], [("y", "float32", [None, None])]),
    }
    made["spare"] = made["two"]
    paths = {name: folder / f"{name}.onnx" for name in made}
    for name, model in made.items():
        paths[name].write_bytes(model.SerializeToString())
    return paths


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory, onnx_model: Callable[..., onnx.ModelProto]) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("fuzz")
    paths = save_models(folder, onnx_model)
    served = [(name, 1, str(path)) for name, path in paths.items()] + [("two", 3, str(paths["two"]))]
    plain = {
        "models": served,
        "settings": {"port": 0, "grpc_port": 0, "workers": 2, "body_limit_mb": 1.0},
    }
    errors = folder / "stderr"
    with (
        errors.open("wb") as said,
        subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(plain)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        try:
            victim = Victim(process, errors)
            deadline = time.monotonic() + 30
            while len(victim.workers()) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(1.0)  # the second worker loads its models; then nothing grows by itself
            yield victim
        finally:
            process.terminate()
            assert process.wait(60) == 0


class Budget:
    """How many cases a fuzzer tries."""

    def __init__(self, name: str) -> None:
        self._name = name

    def count(self, cases: int) -> None:
        """Say how many cases one seed was, where only the fuzzer knows."""
        CASES[self._name] += cases

    def seeds(self, short: int, cases: int = 1) -> Iterator[int]:
        """Numbers to begin with, each good for so many cases: ``short`` of them, or as many as the soak has time for."""
        if not SOAK_SECONDS:
            for seed in range(short):
                yield seed
                CASES[self._name] += cases
            return
        began = time.monotonic()
        seed = int(os.environ.get("SOAK_SEED") or time.time()) << 20
        while time.monotonic() - began < SOAK_SECONDS / FUZZERS:
            yield seed
            seed += 1
            CASES[self._name] += cases
        wanted = WHOLE_CASES / FUZZERS * min(1.0, SOAK_SECONDS / WHOLE_SECONDS)
        assert CASES[self._name] >= wanted, "too slow to find anything"


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    return Budget(request.node.name)


@pytest.fixture
def tools() -> type:
    """The helpers above, for tests in other files."""

    class Tools:
        pass

    Tools.post, Tools.pair = staticmethod(post), staticmethod(pair)
    return Tools
