"""Connections without calls are seen off; the clock goes when the test says so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import grpc
import pytest
import uvloop

from shipworthy.serve import worker
from shipworthy.serve.http2 import Limits, lane, wire


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is moved."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.close()


def wait(peer, seconds: float, each=lambda: None) -> list[tuple[int, int, int, bytes]]:
    """Let time pass, a second at a time, with something done in each: the frames that come."""
    frames = []
    for _ in range(round(seconds)):
        peer.loop.now += 1
        peer.run(each)
        frames += peer.take()
    return frames


def goaways(frames) -> list[tuple[int, int]]:
    """The last streams and the codes of those that were sent."""
    return [
        (int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"))
        for kind, *_, payload in frames
        if kind == wire.GOAWAY
    ]


def test_it_is_kept_as_long_as_over_http1_and_longer_than_load_balancers_keep_theirs():
    assert Limits().idle_seconds == worker.KEEP_ALIVE_SECONDS > 60


@pytest.mark.parametrize("calls", [0, 3])
def test_an_idle_connection_is_told_to_go_and_closed(new_peer, calls):
    peer = new_peer()
    wait(peer, 5)
    for number in range(calls):
        assert peer.answer(peer.send(peer.call(2 * number + 1)), 2 * number + 1)[1]["grpc-status"] == "0"
    assert wait(peer, 74) == []
    frames = wait(peer, 16)
    assert goaways(frames) == [(wire.MAX_STREAM, 0), (max(0, 2 * calls - 1), 0)]
    assert peer.transport.closed
    assert not peer.transport.aborted


def test_a_call_begins_the_wait_anew_and_one_that_is_open_keeps_the_connection(new_peer):
    peer = new_peer()
    for number in (1, 3, 5):
        wait(peer, 60)
        assert peer.answer(peer.send(peer.call(number)), number)[1]["grpc-status"] == "0"
    peer.send(peer.call(7, "/t/Held"))
    assert wait(peer, 500) == []
    ((call, _),) = peer.services.held
    peer.run(lambda: call.finish(b"late"))
    assert peer.answer(peer.take(), 7)[1]["grpc-status"] == "0"
    assert wait(peer, 74) == []
    assert goaways(wait(peer, 16)) == [(wire.MAX_STREAM, 0), (7, 0)]


PINGED = wire.frame(wire.PING, 0, 0, bytes(8))
DEEDS = {
    "pings": lambda _: PINGED,
    "settings": lambda _: wire.settings({}),
    "windows": lambda _: wire.window_update(0, 1),
    "a ping that drips": lambda second: PINGED[second % len(PINGED) :][:1],
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_is_no_call_does_not_keep_it(new_peer, deed):
    peer = new_peer()
    seconds = iter(range(200))
    frames = []
    while not peer.transport.closed:
        frames += wait(peer, 1, lambda: peer.protocol.data_received(DEEDS[deed](next(seconds))))
    assert goaways(frames) == [(wire.MAX_STREAM, 0), (0, 0)]
    assert 75 <= next(seconds) <= 92
    assert not peer.transport.aborted


def test_a_call_that_crosses_the_good_bye_is_answered(new_peer):
    peer = new_peer()
    frames = []
    while not frames:
        frames = wait(peer, 1)
    assert goaways(frames) == [(wire.MAX_STREAM, 0)]
    assert not peer.transport.closed
    peer.send(peer.call(1, "/t/Held"))
    assert goaways(wait(peer, 30)) == [(1, 0)]
    assert not peer.transport.closed
    ((call, message),) = peer.services.held
    peer.run(lambda: call.finish(message))
    assert peer.answer(peer.take())[1]["grpc-status"] == "0"
    assert peer.transport.closed


@pytest.mark.parametrize("sent", [0, 1, len(wire.PREFACE) - 1, len(wire.PREFACE), len(wire.PREFACE) + 9])
def test_a_greeting_that_does_not_end_is_cut(new_peer, sent):
    peer = new_peer(greeted=False)
    whole = wire.PREFACE + wire.settings({wire.MAX_FRAME_SIZE: 20_000})
    if sent:
        peer.send(whole[:sent])
    wait(peer, 9)
    assert not peer.transport.closed
    wait(peer, 12)
    assert peer.transport.aborted


def test_grpcs_own_client_comes_back_by_itself():
    made = lane(
        SimpleNamespace(unary={"/t/Echo": lambda call, message: call.finish(message)}, streaming={}),
        Limits(idle_seconds=0.2, head_seconds=0.1),
    )
    begun: Future[tuple[int, Callable[[], object]]] = Future()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(made, "127.0.0.1", 0)
        begun.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(over.set)))
        await over.wait()
        server.close()
        made.shutdown()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    port, end = begun.result(10)
    try:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            echo = channel.unary_unary("/t/Echo")
            for turn in range(3):
                assert echo(b"%d" % turn, timeout=10) == b"%d" % turn
                deadline = time.monotonic() + 10
                while made.connections and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert not made.connections, "it was seen off"
    finally:
        end()
        thread.join(10)
    assert not thread.is_alive()
