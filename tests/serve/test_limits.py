"""Slow, many and long-winded callers: each is bounded, and the others are answered."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from shipworthy.serve.bounds import HEAD_SECONDS, MOST_HEAD_BYTES, STALL_SECONDS
from shipworthy.serve.fast import FastProtocol
from shipworthy.serve.lane import FastLane

Start = Callable[..., AbstractContextManager[str]]
BODY = json.dumps({"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab"]})


class Transport:
    """Keeps what is written; ``unsent`` is what its peer has not read."""

    def __init__(self) -> None:
        self.said = b""
        self.closed = self.aborted = self.paused = False
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, _name: str) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers when the body is whole; at /held, never; at /unread it does not even read."""
    if scope["path"] == "/unread":
        await asyncio.Event().wait()
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/held":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def held(test: Callable[[FastProtocol, Transport], Awaitable[None]]) -> None:
    """Run a test with one connection."""

    async def run() -> None:
        config = uvicorn.Config(app, interface="asgi3", http="httptools", ws="none", lifespan="off", log_config=None)
        config.load()
        state, transport = ServerState(), Transport()
        protocol = FastProtocol(FastLane(1_000_000), config, state, asyncio.get_running_loop())
        protocol.connection_made(transport)  # type: ignore[arg-type]
        await test(protocol, transport)
        for task in state.tasks:
            task.cancel()
        if protocol.timeout_keep_alive_task:
            protocol.timeout_keep_alive_task.cancel()

    asyncio.run(run())


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def look(protocol: FastProtocol, seconds: int) -> None:
    for _ in range(seconds):
        protocol.look()


# ---------------------------------------------------------------- time


def test_a_head_must_end_in_time_however_often_a_byte_comes() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(HEAD_SECONDS):
            protocol.data_received(b"a")
            protocol.look()
        assert not transport.closed
        protocol.look()
        assert transport.closed
        assert transport.said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in transport.said
        assert b'{"error":' in transport.said

    held(test)


@pytest.mark.parametrize(
    "framing", [b"content-length: 100\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n64\r\n"], ids=["length", "chunked"]
)
def test_a_body_must_go_on(framing: bytes) -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(b"POST / HTTP/1.1\r\n" + framing)
        for _ in range(3):
            look(protocol, STALL_SECONDS)
            protocol.data_received(b"a")
        await turns()
        look(protocol, STALL_SECONDS)
        assert not transport.closed
        protocol.look()
        assert transport.closed
        assert transport.said.startswith(b"HTTP/1.1 408 ")

    held(test)


def test_a_connection_on_which_nothing_is_asked_is_closed() -> None:
    async def idle(protocol: FastProtocol, transport: Transport) -> None:
        protocol.close_if_idle(protocol.idle_since)
        assert not transport.closed
        protocol.close_if_idle(protocol.idle_since + 0.1)
        assert transport.closed

    async def asks(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(b"GET /held HTTP/1.1\r\n\r\n")
        await turns()
        protocol.close_if_idle(protocol.idle_since + 1000)
        assert not transport.closed

    held(idle)
    held(asks)


def test_who_waits_for_us_is_not_hung_up_on() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        look(protocol, 1000)  # idle: that has a limit of its own
        protocol.data_received(b"GET /held HTTP/1.1\r\n\r\n")
        await turns()
        look(protocol, 1000)
        protocol.data_received(b"GET / HT")  # read, but its turn has not come
        look(protocol, 1000)
        assert not transport.closed
        protocol.data_received(b"TP/1.1\r\n\r\n")
        protocol.data_received(b"GET / HTTP/1.1\r\n")
        assert transport.paused
        look(protocol, 1000)
        assert not transport.closed
        assert not transport.said

    held(test)


def test_a_body_that_we_do_not_read_is_not_late() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(b"POST /unread HTTP/1.1\r\ncontent-length: 200000\r\n\r\n")
        protocol.data_received(b"a" * 100_000)
        assert transport.paused
        look(protocol, 1000)
        assert not transport.closed

    held(test)


def test_requests_that_end_start_the_clock_anew() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        for _ in range(5):
            protocol.data_received(b"GET / HTTP/1.1\r\n")
            look(protocol, HEAD_SECONDS)
            protocol.data_received(b"\r\n")
            await turns()
        assert transport.said.count(b"HTTP/1.1 200") == 5
        assert not transport.closed

    held(test)


def test_who_does_not_read_is_cut_off_and_who_reads_slowly_is_not() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        for unsent in range(200, 0, -1):
            transport.unsent = unsent
            protocol.look()
        assert not transport.aborted
        look(protocol, STALL_SECONDS)
        assert not transport.aborted
        look(protocol, 1)
        assert transport.aborted

    held(test)


def test_nothing_is_read_from_who_does_not_read() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        class Done:
            keep_alive = True

        protocol.pause_writing()
        protocol.answered(b"x", Done())  # type: ignore[arg-type]
        assert transport.paused
        protocol.resume_writing()
        assert not transport.paused
        protocol.answered(b"x", Done())  # type: ignore[arg-type]
        assert not transport.paused

    held(test)


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("piece", [1_000, 1 << 20], ids=["in pieces", "at once"])
@pytest.mark.parametrize("place", ["url", "value", "many"])
def test_a_head_may_be_so_long_and_no_longer(place: str, piece: int) -> None:
    def head(size: int) -> bytes:
        if place == "url":
            return b"GET /" + b"a" * size + b" HTTP/1.1\r\n\r\n"
        if place == "value":
            return b"GET / HTTP/1.1\r\nx: " + b"a" * size + b"\r\n\r\n"
        return b"GET / HTTP/1.1\r\n" + b"x: abc\r\n" * (size // 8) + b"\r\n"

    for size, status in ((MOST_HEAD_BYTES - 100, b"200"), (MOST_HEAD_BYTES + 1_100, b"431")):

        async def test(protocol: FastProtocol, transport: Transport, size: int = size, status: bytes = status) -> None:
            data = head(size)
            for at in range(0, len(data), piece):
                if not transport.closed:
                    protocol.data_received(data[at : at + piece])
            await turns()
            assert transport.said.startswith(b"HTTP/1.1 " + status)
            assert transport.closed == (status == b"431")

        held(test)


def test_many_requests_in_one_read_are_not_one_long_head() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(
            b"GET / HTTP/1.1\r\nx: " + b"a" * 60_000 + b"\r\n\r\n" + b"GET / HTTP/1.1\r\nx: aaaa\r\n\r\n" * 1000
        )
        await turns()
        assert transport.said.startswith(b"HTTP/1.1 200")
        assert not transport.closed

    held(test)


def test_what_follows_a_body_is_bounded_and_does_not_become_headers() -> None:
    async def test(protocol: FastProtocol, transport: Transport) -> None:
        protocol.data_received(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        protocol.data_received(b"%x\r\n" % 200_000 + b"a" * 200_000 + b"\r\n0\r\n")
        assert not transport.closed
        sent = protocol.cycle.scope["headers"]
        for number in range(200):
            if not transport.closed:
                protocol.data_received(b"trailer-%d: " % number + b"a" * 1_000 + b"\r\n")
        assert transport.said.startswith(b"HTTP/1.1 431")
        assert [name for name, _ in sent] == [b"transfer-encoding"]

    held(test)


# ---------------------------------------------------------------- a server


def ask(url: str) -> float:
    """Seconds that a prediction takes on a connection of its own."""
    began = time.monotonic()
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request("POST", "/v2/models/m/infer", BODY)
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read()
    connection.close()
    return time.monotonic() - began


@contextmanager
def sockets(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    made = [socket.create_connection(address, 30) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


@pytest.mark.slow
def test_two_hundred_slow_callers_are_hung_up_on_and_the_others_answered(models: dict[str, Path], start: Start) -> None:
    with start(("m", 1, models["two"])) as url:
        parts = urllib.parse.urlsplit(url)
        with sockets((parts.hostname, parts.port), 200) as slow:
            began = time.monotonic()
            for one in slow:
                one.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\n")
            took = []
            while time.monotonic() - began < HEAD_SECONDS - 2:
                for one in slow:
                    one.sendall(b"x: y\r\n")
                took += [ask(url) for _ in range(20)]
                time.sleep(0.5)
            assert max(took) < 1
            assert all(one.recv(4096).startswith(b"HTTP/1.1 408 ") for one in slow)
            assert time.monotonic() - began < HEAD_SECONDS + 5
        assert ask(url) < 1


def test_there_are_so_many_connections_and_one_more_is_closed_at_once(models: dict[str, Path], start: Start) -> None:
    def ready(one: socket.socket) -> bytes:
        try:
            one.sendall(b"GET /v2/health/ready HTTP/1.1\r\n\r\n")
            said = b""
            while b"}" not in said:
                piece = one.recv(4096)
                if not piece:
                    break
                said += piece
            return said[:12]
        except ConnectionError:
            return b""

    with start(("m", 1, models["two"]), workers=2, max_connections=5) as url:
        parts = urllib.parse.urlsplit(url)
        address = (parts.hostname, parts.port)
        with sockets(address, 5) as most:
            assert [ready(one) for one in most] == [b"HTTP/1.1 200"] * 5
            for _ in range(3):
                with sockets(address, 1) as (more,):
                    assert ready(more) == b""
            assert [ready(one) for one in most] == [b"HTTP/1.1 200"] * 5
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with sockets(address, 1) as (more,):
                if ready(more) == b"HTTP/1.1 200":
                    break
            time.sleep(0.05)
        else:
            pytest.fail("those that were closed are counted still")


def test_a_process_may_have_as_many_files_open_as_there_may_be_connections() -> None:
    code = (
        "import resource, sys; from shipworthy.serve import server\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[2])))\n"
        "print(server._connections(int(sys.argv[1])), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= 2000
    for wanted, most, said, warned in [(500, 2000, "500 756", False), (5000, 2000, "1744 2000", True)]:
        command = [sys.executable, "-c", code, str(wanted), str(most)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout.strip() == said
        assert ("max_connections is 5000" in done.stderr) == warned
