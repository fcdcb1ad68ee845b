"""The known attacks on HTTP/2 servers: each is seen, and ends with its connection, not with the server."""

from __future__ import annotations

import time

import pytest

from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.limits import Patience
from shipworthy.serve.http2.wire import Code, frame


def ended(peer, frames):
    """Whether the connection was ended with ENHANCE_YOUR_CALM."""
    last = [payload for kind, _, _, payload in frames if kind == wire.GOAWAY]
    return bool(last) and last[0][4:8] == bytes((0, 0, 0, Code.ENHANCE_YOUR_CALM)) and peer.transport.closed


def rapid_reset(peer):
    return lambda n: peer.call(2 * n + 1, "/t/Held") + wire.reset(2 * n + 1, Code.CANCEL)


def made_you_reset(peer):
    """We, not the client, reset: for a window opened by nothing."""
    return lambda n: peer.call(2 * n + 1, "/t/Held") + wire.window_update(2 * n + 1, 0)


FLOODS = {
    "rapid reset": rapid_reset,
    "made you reset": made_you_reset,
    "ping": lambda _peer: lambda _n: frame(wire.PING, 0, 0, bytes(8)),
    "settings": lambda _peer: lambda _n: wire.settings({}),
    "priority": lambda _peer: lambda n: frame(wire.PRIORITY, 0, 2 * n + 1, bytes(5)),
    "unknown frames": lambda _peer: lambda _n: frame(99, 0, 0),
    "empty data": lambda peer: lambda n: (peer.begin(1, "/t/Chat") if n == 0 else b"") + frame(wire.DATA, 0, 1),
    "single bytes": lambda peer: (
        lambda n: (peer.begin(1, "/t/Chat") if n == 0 else b"") + frame(wire.DATA, 0, 1, b"\0\0\0\xff\xff"[n : n + 1] or b"x")
    ),
    "data after the answer": lambda peer: lambda n: (peer.call(1) if n == 0 else b"") + frame(wire.DATA, 0, 1, b"x" * 200),
    "continuation": lambda _peer: lambda n: frame(wire.CONTINUATION if n else wire.HEADERS, 0, 1, b""),
    "malformed": lambda _peer: lambda n: frame(wire.HEADERS, 5, 2 * n + 1, b"\x83"),
    "refused": lambda peer: lambda n: peer.call(2 * n + 1, "/t/Held"),
    "windows that let nothing through": lambda peer: (
        lambda n: peer.call(1, "/t/Big", b"5000") if n == 0 else wire.window_update(0, 1)
    ),
    "windows of one byte": lambda peer: lambda n: peer.call(1, "/t/Big", b"5000") if n == 0 else wire.window_update(1, 1),
}


@pytest.mark.parametrize("attack", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends(new_peer, attack):
    peer = new_peer(settings={wire.INITIAL_WINDOW_SIZE: 0})
    make = attack(peer)
    start = time.monotonic()
    for n in range(3000):
        frames = peer.send(make(n))
        if ended(peer, frames):
            break
    else:
        raise AssertionError("it went on and on")
    assert 700 < n < 1600 + 100 * (time.monotonic() - start)
    assert not peer.protocol._streams.open


def test_a_busy_client_is_no_attacker(peer):
    for n in range(3000):
        assert len(peer.send(frame(wire.PING, 0, 0, bytes(8)), peer.call(2 * n + 1))) == 4


def test_patience_comes_back_with_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    patience = Patience()
    assert all(patience.spend() for _ in range(1000))
    assert not patience.spend()
    patience = Patience()
    assert all(patience.spend() for _ in range(1000))
    now[0] += 1
    assert all(patience.spend() for _ in range(100))
    assert not patience.spend()
    patience = Patience()
    patience.earn()
    assert patience.left == 1000
    patience.spend()
    patience.earn()
    assert patience.left == 1000


def test_more_streams_than_allowed_are_refused(new_peer, tools):
    peer = new_peer(streams=3)
    frames = peer.send(*(peer.call(n, "/t/Held") for n in (1, 3, 5, 7)))
    assert tools.only(frames, wire.RST_STREAM) == [(wire.RST_STREAM, 0, 7, b"\0\0\0\7")]
    assert len(peer.services.held) == 3
    peer.run(lambda: peer.services.held[0][0].finish(b""))
    peer.send(peer.call(9, "/t/Held"))
    assert len(peer.services.held) == 4


def test_header_bomb(peer):
    """A long value, put into the table once, then pointed to by one byte each."""
    value = b"v" * 3000
    block = peer.block() + b"\x40\x01a" + b"\x7f\xb9\x16" + value + b"\xbe" * 10_000
    start = time.monotonic()
    assert ended(peer, peer.send(frame(wire.HEADERS, wire.END_HEADERS, 1, block)))
    assert time.monotonic() - start < 1


def test_many_headers(peer):
    block = peer.block() + b"\x00\x01a\x00" * 600
    assert ended(peer, peer.send(frame(wire.HEADERS, wire.END_HEADERS, 1, block)))


def test_continuation_flood_with_content(peer):
    parts = [frame(wire.HEADERS, 0, 1, peer.block())] + [frame(wire.CONTINUATION, 0, 1, bytes(16000))] * 2
    assert ended(peer, peer.send(*parts))


def test_what_is_remembered_is_bounded(peer):
    heads = peer.protocol._heads
    for n in range(300):
        heads.read(b"\x83\x86\x84" + b"\x00\x03%03d\x00" % n)
    assert 0 < len(heads.remembered) <= 64
    heads.remembered.clear()
    heads.read(b"\x83\x86\x84" + b"\x00\x01a\x7f\x81\x01" + b"v" * 256)
    assert heads.remembered == {}


def test_single_bytes_do_not_fill_the_memory(peer, tools):
    """A message that comes byte by byte is held in about its size."""
    peer.send(peer.begin(1))
    inbox_of = lambda: peer.protocol._streams.open[1].inbox  # noqa: E731
    peer.send(tools.data(1, tools.grpc(bytes(5000))[:800], 0, size=1))
    assert inbox_of().held == 795
    assert len(inbox_of()._parts) == 1


def test_a_smaller_limit_of_headers(new_peer):
    peer = new_peer(header_bytes=400)
    assert peer.answer(peer.send(peer.call(1)))[1]["grpc-status"] == "0"
    assert ended(peer, peer.send(frame(wire.HEADERS, wire.END_HEADERS, 3, bytes(401))))


def test_who_breaks_rules_and_does_not_read_is_cut_off(peer):
    peer.run(peer.protocol.pause_writing)
    peer.send(frame(wire.PING, 0, 0, b""))
    assert peer.transport.aborted
