"""Workers and whole servers that are replaced under constant load: no request fails; and what a signal does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

INFER = "/v2/models/two/infer"
BODY = json.dumps({"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab"]})


class Server:
    """A server as a child, and those that take over from it."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        said = self.said()
        self.pid, self.parts = said["pid"], urllib.parse.urlsplit(said["url"])

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.put(line)

    def said(self) -> Any:
        """The next line that a server has said: it answers now."""
        return json.loads(self.lines.get(timeout=20))

    def workers(self) -> list[int]:
        return [int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.parts.hostname, self.parts.port, timeout=20)

    def get(self, path: str) -> tuple[int, Any]:
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        assert self.process.wait(40) == 0, self.process.stderr.read()
        self.process.stderr.close()


@pytest.fixture
def serve(models: dict[str, Path], command: Callable[..., list[str]]) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def begin(**settings: object) -> Server:
        running.append(Server(command(("two", 1, models["two"]), **settings)))
        return running[-1]

    yield begin
    for one in running:
        one.close()


@contextlib.contextmanager
def load(server: Server, *, fresh: int = 2, kept: int = 4) -> Iterator[Counter[str]]:
    """Constant load over new connections and kept ones; counts answers by status, and what else happened."""
    seen: Counter[str] = Counter()
    stop = threading.Event()

    def ask(*, keep: bool) -> None:
        connection = server.connection()
        while not stop.is_set():
            try:
                connection.request("POST", INFER, BODY)
                answer = connection.getresponse()
                right = json.loads(answer.read())["outputs"][0]["data"] == [2, 4, 6]
                seen[str(answer.status) if right else "wrong"] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1
                connection.close()
            if not keep:
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask, kwargs={"keep": number >= fresh}) for number in range(fresh + kept)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def until(is_so: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait; how long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_workers_are_replaced_and_no_request_fails(serve: Callable[..., Server], workers: int) -> None:
    server = serve(workers=workers)
    until(lambda: len(server.workers()) == workers)
    with load(server) as seen:
        for _ in range(20):
            time.sleep(0.05)
            before = server.workers()
            os.kill(before[0], signal.SIGTERM)
            until(lambda before=before: before[0] not in server.workers() and len(server.workers()) == workers)
    assert set(seen) == {"200"}, seen
    assert seen["200"] > 1000


@pytest.mark.slow
def test_the_server_is_restarted_five_times_on_its_port_and_no_request_fails(serve: Callable[..., Server]) -> None:
    server = serve(workers=2)
    with load(server) as seen:
        for _ in range(5):
            time.sleep(0.2)
            old = server.pid
            os.kill(old, signal.SIGUSR2)
            said = server.said()
            assert said["pid"] != old
            assert said["url"] == server.parts.geturl()
            server.pid = said["pid"]
            until(lambda old=old: _has_ended(old))
        os.kill(server.pid, 0)
    assert set(seen) == {"200"}, seen
    os.kill(server.pid, signal.SIGTERM)
    until(lambda: _has_ended(server.pid), 15.0)


def _has_ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_a_new_server_that_cannot_start_leaves_the_old_one(
    serve: Callable[..., Server], models: dict[str, Path], tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    path = Path(shutil.copy(models["two"], tmp_path / "two.onnx"))
    server = Server(command(("two", 1, path)))
    path.write_bytes(b"no model")
    os.kill(server.pid, signal.SIGUSR2)
    assert server.process.stderr is not None
    assert any("this one serves on" in line for line in iter(server.process.stderr.readline, ""))
    assert server.get("/v2/health/ready") == (200, {"ready": True})
    shutil.copy(models["linear"], path)
    os.kill(server.pid, signal.SIGHUP)  # and the models can be looked at again
    until(lambda: [one["name"] for one in server.get("/v2/models/two")[1]["inputs"]] == ["x"])
    path.write_bytes(b"no model")
    os.kill(server.pid, signal.SIGHUP)
    assert any("was not changed" in line for line in iter(server.process.stderr.readline, ""))
    assert server.get("/v2/models/two")[0] == 200
    server.close()


def test_a_server_that_is_to_end_says_so_and_serves_until_the_delay_is_over(serve: Callable[..., Server]) -> None:
    server = serve(workers=2, drain_delay_seconds=1.5)
    kept = server.connection()
    kept.request("GET", "/v2/health/ready")
    assert kept.getresponse().read() == b'{"ready":true}'
    with load(server) as seen:
        server.process.terminate()
        began = time.monotonic()
        until(lambda: server.get("/v2/health/ready") == (503, {"ready": False}))
        assert server.get("/v2/health/live") == (200, {"live": True})
        assert server.get("/v2/models/two/ready") == (503, {"name": "two", "ready": False})
        kept.request("POST", INFER, BODY)
        assert kept.getresponse().status == 200
        time.sleep(1.0 - (time.monotonic() - began))
        assert set(seen) == {"200"}
        assert seen["200"] > 100
    kept.close()
    assert server.process.wait(10) == 0
    assert time.monotonic() - began >= 1.5
    with pytest.raises(ConnectionRefusedError):
        server.get("/v2/health/live")


def test_what_was_asked_before_the_end_is_answered_and_says_that_it_was_the_last(serve: Callable[..., Server]) -> None:
    server = serve(workers=1)
    head = f"POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()
    asks = [socket.create_connection((server.parts.hostname, server.parts.port)) for _ in range(3)]
    for ask, sent in zip(asks, (head + BODY[:50].encode(), head, head[:30]), strict=True):
        ask.sendall(sent)
    idle = server.connection()
    idle.request("GET", "/v2")
    idle.getresponse().read()
    time.sleep(0.2)
    server.process.terminate()
    time.sleep(0.3)
    for ask, rest in zip(asks, (BODY[50:].encode(), BODY.encode(), head[30:] + BODY.encode()), strict=True):
        with ask, ask.makefile("rb") as answer:
            ask.sendall(rest)
            text = answer.read()  # to the end of the connection
            assert text.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in text.lower()
            assert text.endswith(b"}")
    idle.request("GET", "/v2")
    answer = idle.getresponse()
    assert (answer.status, answer.getheader("connection")) == (200, "close")
    idle.close()
    began = time.monotonic()
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 1.0, "nobody is left to wait for"


def test_the_end_of_standard_input_and_one_signal_are_not_told_twice(serve: Callable[..., Server]) -> None:
    server = serve(workers=1)
    head = f"POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()
    with socket.create_connection((server.parts.hostname, server.parts.port)) as ask, ask.makefile("rb") as answer:
        ask.sendall(head)
        time.sleep(0.2)
        assert server.process.stdin is not None
        server.process.stdin.close()
        time.sleep(0.3)
        server.process.terminate()
        time.sleep(0.3)
        ask.sendall(BODY.encode())
        assert answer.read().startswith(b"HTTP/1.1 200")
    assert server.process.wait(10) == 0


def test_told_twice_it_ends_at_once(serve: Callable[..., Server]) -> None:
    server = serve(workers=2, drain_delay_seconds=60)
    server.process.terminate()
    until(lambda: server.get("/v2/health/ready")[0] == 503)
    with socket.create_connection((server.parts.hostname, server.parts.port)) as unfinished:
        unfinished.sendall(b"POST ")
        began = time.monotonic()
        server.process.terminate()
        time.sleep(0.5)
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 2.0


def test_a_busy_worker_that_is_killed_loses_what_it_had_and_is_back_within_a_second(serve: Callable[..., Server]) -> None:
    server = serve(workers=2)
    until(lambda: len(server.workers()) == 2)
    time.sleep(0.5)
    with load(server, fresh=0, kept=6) as seen:
        time.sleep(0.3)
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        took = until(lambda: len(server.workers()) == 2 and before[0] not in server.workers())
        time.sleep(0.7)
    assert took < 1.0
    errors = sum(count for kind, count in seen.items() if kind != "200")
    assert errors <= 6, seen
    assert set(seen) <= {"200", "RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"}
