"""The real client of gRPC against the lane on a real socket."""

from __future__ import annotations

import asyncio
import gzip
import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import grpc
import pytest
import uvloop

from shipworthy.serve.calls import Status
from shipworthy.serve.http2 import Limits, lane, protocol, wire

HOST = "127.0.0.1"


class Chat:
    def __init__(self, call):
        self.call = call

    def message(self, message):
        self.call.send(message)

    def half_closed(self):
        self.call.finish(b"bye")


class Server:
    """A server with its own loop in a thread."""

    def __init__(self, port: int = 0) -> None:
        self.held: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.cancelled: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.inputs: list[bytes] = []
        self.metadata: list[dict[str, str]] = []
        self.lane = lane(
            SimpleNamespace(
                unary={"/t/Echo": self.echo, "/t/Held": self.hold, "/t/Size": self.size},
                streaming={"/t/Chat": Chat, "/t/Count": self.count},
            ),
            Limits(message_bytes=8_000_000),
        )
        self.port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        self._ready.wait(10)

    async def _serve(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self.loop.create_server(self.lane, HOST, self.port, reuse_address=True)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self.lane.shutdown()
        for _ in range(500):
            if not self.lane.connections:
                break
            await asyncio.sleep(0.01)

    def stop(self):
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert not self.lane.connections

    def echo(self, call, message):
        self.metadata.append(dict(call.metadata))
        asyncio.get_running_loop().call_soon(call.finish, message)

    def hold(self, call, message):
        call.on_cancel = lambda: self.cancelled.put(time.monotonic())
        self.held.put(message)

    def size(self, call, message):
        self.inputs.append(message)
        call.finish(b"%d" % len(message))

    def count(self, call):
        for n in range(1000):
            call.send(b"%d" % n)
        call.finish(None, Status.NOT_FOUND, "no more: 100 %, ä")
        return Chat(call)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=OPTIONS) as made:
        yield made


def test_unary(server, channel):
    call = channel.unary_unary("/t/Echo")
    for n in range(100):
        assert call(b"%d" % n, timeout=10, metadata=(("user", "me"), ("key-bin", b"\0\1"))) == b"%d" % n
    assert server.metadata[-1]["user"] == "me"
    assert server.metadata[-1]["key-bin"] == "AAE"
    assert call(b"") == b""


def test_large_messages_both_ways(channel):
    message = bytes(range(256)) * 16_000
    assert channel.unary_unary("/t/Echo")(message, timeout=60) == message
    futures = [channel.unary_unary("/t/Echo").future(message, timeout=60) for _ in range(8)]
    assert all(one.result() == message for one in futures)


def test_too_large_a_message(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Echo")(bytes(9_000_000), timeout=60)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary("/t/Echo")(b"x", timeout=10) == b"x"


def test_a_thousand_calls_at_once(channel):
    call = channel.unary_unary("/t/Echo")
    futures = [call.future(b"%d" % n, timeout=60) for n in range(1000)]
    assert [one.result() for one in futures] == [b"%d" % n for n in range(1000)]


def test_streaming(channel):
    got = channel.stream_stream("/t/Chat")(iter([b"a", b"", b"c" * 100_000]), timeout=30)
    assert list(got) == [b"a", b"", b"c" * 100_000, b"bye"]
    answers = channel.stream_stream("/t/Chat")(iter([]), timeout=10)
    assert list(answers) == [b"bye"]


def test_streaming_by_turns(channel):
    words: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = channel.stream_stream("/t/Chat")(iter(words.get, None), timeout=30)
    for word in (b"one", b"two", b"three"):
        words.put(word)
        assert next(answers) == word
    words.put(None)
    assert list(answers) == [b"bye"]


def test_many_answers_and_a_status(channel):
    answers = channel.unary_stream("/t/Count")(b"", timeout=30)
    assert [next(answers) for _ in range(1000)] == [b"%d" % n for n in range(1000)]
    with pytest.raises(grpc.RpcError) as error:
        next(answers)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "no more: 100 %, ä"


def test_cancellation(server, channel):
    future = channel.unary_unary("/t/Held").future(b"x")
    server.held.get(timeout=10)
    future.cancel()
    server.cancelled.get(timeout=10)


def test_deadline(server, channel):
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Held")(b"x", timeout=0.3)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.25 < server.cancelled.get(timeout=10) - start < 5


def test_a_client_that_hangs_up(server):
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=OPTIONS) as channel:
        future = channel.unary_unary("/t/Held").future(b"x")
        server.held.get(timeout=10)
    server.cancelled.get(timeout=10)
    assert future.done()


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Nothing")(bytes(300_000), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "/t/Nothing" in error.value.details()


def test_gzip(server, channel):
    message = b"abc" * 10_000
    answer = channel.unary_unary("/t/Size")(message, timeout=10, compression=grpc.Compression.Gzip)
    assert (answer, server.inputs) == (b"30000", [message])
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Size")(bytes(8_000_001), timeout=10, compression=grpc.Compression.Gzip)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(gzip.compress(bytes(8_000_001))) < 10_000
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Size")(message, timeout=10, compression=grpc.Compression.Deflate)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_keepalive_pings(server, monkeypatch):
    pings = []
    answer = protocol._ON[wire.PING]
    monkeypatch.setitem(protocol._ON, wire.PING, lambda *arguments: (pings.append(arguments), answer(*arguments)))
    options = [
        *OPTIONS,
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 20),  # the client makes a second of it
        ("grpc.keepalive_timeout_ms", 400),
        ("grpc.http2.ping_timeout_ms", 400),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=options) as channel:
        states = []
        channel.subscribe(states.append)
        future = channel.unary_unary("/t/Held").future(b"x")
        time.sleep(1.8)
        assert not future.done()
        assert channel.unary_unary("/t/Echo")(b"x", timeout=10) == b"x"
        assert states[-1] == grpc.ChannelConnectivity.READY
        assert pings


def test_clients_move_on_after_goaway(server, channel):
    """A server that leaves finishes its calls; the client waits for the next one and loses nothing."""
    call = channel.unary_unary("/t/Echo")
    assert call(b"x", timeout=10) == b"x"
    server.stop()
    future = call.future(b"y", timeout=30, wait_for_ready=True)
    following = Server(server.port)
    try:
        assert future.result() == b"y"
        assert following.metadata
    finally:
        channel.close()
        following.stop()
        server.stop = lambda: None


def test_shutdown_under_load_loses_no_call(server, channel):
    call = channel.unary_unary("/t/Echo")
    assert call(b"x", timeout=10) == b"x"
    futures = [call.future(b"%d" % n, timeout=30, wait_for_ready=True) for n in range(300)]
    server.loop.call_soon_threadsafe(server.lane.shutdown)
    futures += [call.future(b"%d" % n, timeout=30, wait_for_ready=True) for n in range(300, 600)]
    assert [one.result() for one in futures] == [b"%d" % n for n in range(600)]
