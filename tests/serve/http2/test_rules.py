"""HTTP/2's rules: every breach has its error code, ends the stream or the connection, and raises nothing."""

from __future__ import annotations

import struct
import time

import pytest

from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.wire import Code, frame

PADDED, END_HEADERS, END_STREAM = wire.PADDED, wire.END_HEADERS, wire.END_STREAM


def word(number: int) -> bytes:
    return struct.pack(">I", number)


def goaway(frames):
    """The code of the GOAWAY among frames, None when there is none."""
    found = [payload for kind, _, _, payload in frames if kind == wire.GOAWAY]
    return Code(int.from_bytes(found[0][4:8], "big")) if found else None


CONNECTION = {
    "frame too large": (frame(wire.DATA, 0, 1, bytes(16385)), Code.FRAME_SIZE_ERROR),
    "unknown frame too large": (frame(99, 0, 1, bytes(16385))[:20], Code.FRAME_SIZE_ERROR),
    "data of stream 0": (frame(wire.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of an idle stream": (frame(wire.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "data of an even stream": (lambda p: p.call(3) + frame(wire.DATA, 0, 2, b"x"), Code.PROTOCOL_ERROR),
    "data padded by too much": (lambda p: p.begin(1) + frame(wire.DATA, PADDED, 1, b"\3ab"), Code.PROTOCOL_ERROR),
    "data padded by nothing": (lambda p: p.begin(1) + frame(wire.DATA, PADDED, 1), Code.PROTOCOL_ERROR),
    "headers of stream 0": (lambda p: p.begin(0), Code.PROTOCOL_ERROR),
    "headers of an even stream": (lambda p: p.begin(2), Code.PROTOCOL_ERROR),
    "headers of a stream that was skipped": (lambda p: p.call(3) + p.begin(1), Code.PROTOCOL_ERROR),
    "headers of a stream that has ended": (lambda p: p.call(1) + p.begin(1), Code.STREAM_CLOSED),
    "headers padded by too much": (frame(wire.HEADERS, PADDED | 4, 1, b"\2a"), Code.PROTOCOL_ERROR),
    "headers too short for a priority": (frame(wire.HEADERS, 0x24, 1, b"abcd"), Code.FRAME_SIZE_ERROR),
    "headers that point nowhere": (frame(wire.HEADERS, 4, 1, b"\xff\x7f"), Code.COMPRESSION_ERROR),
    "headers cut off": (lambda p: frame(wire.HEADERS, 4, 1, p.block()[:-1]), Code.COMPRESSION_ERROR),
    "table changed three times": (frame(wire.HEADERS, 4, 1, b"\x20\x3f\xe1\x1f\x20\x83"), Code.COMPRESSION_ERROR),
    "table larger than allowed": (frame(wire.HEADERS, 4, 1, b"\x3f\xff\x7f"), Code.COMPRESSION_ERROR),
    "headers, then another frame": (
        frame(wire.HEADERS, 0, 1, b"") + frame(wire.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "headers, then an unknown frame": (frame(wire.HEADERS, 0, 1, b"") + frame(77, 0, 0), Code.PROTOCOL_ERROR),
    "continuation of another": (frame(wire.HEADERS, 0, 1, b"") + frame(9, 4, 3, b""), Code.PROTOCOL_ERROR),
    "continuation of nothing": (lambda p: frame(wire.CONTINUATION, 4, 1, p.block()), Code.PROTOCOL_ERROR),
    "continuation after the end": (lambda p: p.begin(1) + frame(wire.CONTINUATION, 4, 1, b""), Code.PROTOCOL_ERROR),
    "priority of stream 0": (frame(wire.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "priority too short": (frame(wire.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "reset of stream 0": (frame(wire.RST_STREAM, 0, 0, word(8)), Code.PROTOCOL_ERROR),
    "reset of an idle stream": (frame(wire.RST_STREAM, 0, 1, word(8)), Code.PROTOCOL_ERROR),
    "reset too short": (lambda p: p.begin(1) + frame(wire.RST_STREAM, 0, 1, b"abc"), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(wire.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings of five bytes": (frame(wire.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "settings acknowledged with words": (frame(wire.SETTINGS, 1, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "push of 2": (wire.settings({wire.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "window of 2**31": (wire.settings({wire.INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
    "frames of 16383": (wire.settings({wire.MAX_FRAME_SIZE: 16383}), Code.PROTOCOL_ERROR),
    "frames of 2**24": (wire.settings({wire.MAX_FRAME_SIZE: 1 << 24}), Code.PROTOCOL_ERROR),
    "a stream's window pushed over the edge by settings": (
        lambda p: (
            p.call(1, "/t/Held") + wire.window_update(1, 1 << 30) + wire.settings({wire.INITIAL_WINDOW_SIZE: 1 << 30 | 65536})
        ),
        Code.FLOW_CONTROL_ERROR,
    ),
    "push promise": (frame(wire.PUSH_PROMISE, 4, 1, word(2)), Code.PROTOCOL_ERROR),
    "ping of a stream": (frame(wire.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "ping of seven bytes": (frame(wire.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "goaway of a stream": (frame(wire.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "goaway too short": (frame(wire.GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "window update of three bytes": (frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    "window opened by nothing": (wire.window_update(0, 0), Code.PROTOCOL_ERROR),
    "window opened too far": (wire.window_update(0, wire.MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
    "window of an idle stream": (wire.window_update(1, 1), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("make", "code"), CONNECTION.values(), ids=CONNECTION)
def test_a_breach_ends_the_connection(peer, make, code):
    frames = peer.send(make(peer) if callable(make) else make)
    assert goaway(frames) == code
    assert frames[-1][0] == wire.GOAWAY
    assert peer.transport.closed
    assert peer.send(peer.call(101)) == [], "nothing is read any more"


HEADS = {
    "upper case": {"Name": "x"},
    "connection": {"connection": "close"},
    "te": {"te": "gzip"},
    "no path": {":path": None},
    "empty path": {":path": ""},
    "no method": {":method": None},
    "no scheme": {":scheme": None},
    "unknown pseudo": {":what": "x"},
    "status in a request": {":status": "200"},
    "content-length": {"content-length": "-1"},
    "line break": {"a": "b\r\nc"},
    "zero": {"a": "b\0c"},
    "space": {"a": " b"},
    "name with a space": {"a b": "c"},
    "empty name": {"": "c"},
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS)
def test_malformed_headers_end_the_stream(peer, change):
    fields = {":method": "POST", ":scheme": "http", ":path": "/t/Echo", "content-type": "application/grpc"} | change
    # pseudo fields in front, unless their place is what is wrong
    pairs = sorted(((name, text) for name, text in fields.items() if text is not None), key=lambda one: one[0][:1] != ":")
    frames = peer.send(frame(wire.HEADERS, END_HEADERS, 1, peer.encoder.encode(pairs)))
    assert frames == [(wire.RST_STREAM, 0, 1, word(Code.PROTOCOL_ERROR))]
    assert peer.answer(peer.send(peer.call(3)), 3)[1]["grpc-status"] == "0"


@pytest.mark.parametrize(
    "pairs",
    [
        [(":method", "POST"), (":scheme", "http"), ("a", "b"), (":path", "/t/Echo")],
        [(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", "/t/Echo")],
    ],
)
def test_pseudo_fields_come_first_and_once(peer, pairs):
    frames = peer.send(frame(wire.HEADERS, END_HEADERS, 1, peer.encoder.encode(pairs)))
    assert frames == [(wire.RST_STREAM, 0, 1, word(Code.PROTOCOL_ERROR))]


STREAM = {
    "data after the end": (lambda p, d: p.call(1, "/t/Held") + d(1, b"x"), Code.STREAM_CLOSED),
    "data after the answer": (lambda p, d: p.call(1) + d(1, b"x"), Code.STREAM_CLOSED),
    "headers after the end": (lambda p, _d: p.call(1, "/t/Held") + p.begin(1, flags=END_STREAM), Code.STREAM_CLOSED),
    "headers in the middle": (lambda p, _d: p.begin(1) + p.begin(1), Code.PROTOCOL_ERROR),
    "pseudo fields in trailers": (lambda p, _d: p.begin(1) + p.begin(1, flags=END_STREAM), Code.PROTOCOL_ERROR),
    "window opened by nothing": (lambda p, _d: p.begin(1) + wire.window_update(1, 0), Code.PROTOCOL_ERROR),
    "window opened too far": (lambda p, _d: p.begin(1) + wire.window_update(1, wire.MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("make", "code"), STREAM.values(), ids=STREAM)
def test_a_breach_ends_the_stream_only(peer, tools, make, code):
    frames = peer.send(make(peer, tools.data))
    assert tools.only(frames, wire.RST_STREAM, wire.GOAWAY) == [(wire.RST_STREAM, 0, 1, word(code))]
    assert peer.answer(peer.send(peer.call(5)), 5)[1]["grpc-status"] == "0"


@pytest.mark.parametrize(
    "first",
    [frame(wire.PING, 0, 0, bytes(8)), frame(wire.SETTINGS, wire.ACK, 0), frame(99, 0, 0)],
)
def test_settings_come_first(new_peer, first):
    peer = new_peer(greeted=False)
    assert goaway(peer.send(wire.PREFACE, first)) == Code.PROTOCOL_ERROR


def test_the_greeting(new_peer):
    peer = new_peer(greeted=False)
    assert peer.send(wire.PREFACE[:10]) == []
    frames = peer.send(wire.PREFACE[10:], wire.settings({}))
    assert [one[:3] for one in frames] == [(wire.SETTINGS, 0, 0), (wire.WINDOW_UPDATE, 0, 0), (wire.SETTINGS, wire.ACK, 0)]
    assert dict(wire.read_settings(frames[0][3])) == {3: 256, 4: 1 << 18, 6: 16384}
    assert int.from_bytes(frames[1][3], "big") + 65535 == 1 << 24


def test_what_is_allowed_but_rare(peer, tools):
    body = tools.grpc(b"hello")
    block = peer.block()
    frames = peer.send(
        frame(99, 255, 7, b"unknown"),
        frame(wire.PRIORITY, 0, 9, bytes(5)),
        wire.settings({1: 0, 99: 7}),
        frame(wire.HEADERS, PADDED | wire.PRIORITIZED, 1, b"\2" + bytes(5) + block[:3] + b"pp"),
        frame(wire.CONTINUATION, 0, 1, block[3:5]),
        frame(wire.CONTINUATION, END_HEADERS, 1, block[5:]),
        frame(wire.DATA, PADDED, 1, b"\4" + body[:7] + b"pppp"),
        frame(wire.DATA, 0, 1),
        frame(wire.DATA, PADDED | END_STREAM, 1, b"\0" + body[7:]),
        frame(wire.PING, 0, 0, b"12345678"),
        wire.window_update(1, 1),
    )
    assert peer.answer(frames)[0] == body
    assert [one for one in frames if one[0] in (wire.PING, wire.SETTINGS)] == [
        (wire.SETTINGS, wire.ACK, 0, b""),
        (wire.PING, wire.ACK, 0, b"12345678"),
    ]


def test_the_reserved_bit_is_ignored(peer, tools):
    frames = peer.send(peer.begin(1 | 1 << 31), tools.data(1 | 1 << 31, tools.grpc(b"x")))
    assert peer.answer(frames)[0] == tools.grpc(b"x")


def test_a_block_is_remembered_until_the_table_changes(peer):
    """The same bytes mean another thing once the table has moved; a change that keeps its length counts too."""
    peer.send(peer.call(1), peer.call(3))
    heads = peer.protocol._heads
    (known,) = heads.remembered
    assert heads.read(known) is heads.read(known)
    heads.read(peer.block("/t/Held"))
    assert heads.remembered == {}
    assert peer.answer(peer.send(peer.call(5), peer.call(7, "/t/Refuse"), peer.call(9)), 9)[1]["grpc-status"] == "0"


def test_a_table_that_stays_as_long_has_changed_all_the_same(peer):
    """With room for two entries, a third drops the first."""
    heads = peer.protocol._heads
    request = b"\x83\x86\x04\x07/t/Echo\x0f\x10\x10application/grpc"
    heads.read(b"\x3f\x25" + request + b"\x40\x01a\x01v" + b"\x40\x01b\x01v")
    second = request + b"\xbf"
    assert heads.read(second).metadata == {"a": "v"}
    assert second in heads.remembered
    heads.read(request + b"\x40\x01b\x01v")
    assert heads.read(second).metadata == {"b": "v"}
    heads.read(second)
    heads.read(b"\x3f\x26" + request)
    assert heads.remembered == {}, "a new size of the table counts, even where nothing is dropped"


def test_goaway_of_the_client_lets_calls_finish(peer):
    peer.send(peer.call(1, "/t/Held"), wire.goaway(0, Code.NO_ERROR))
    assert not peer.transport.closed
    peer.run(lambda: peer.services.held[0][0].finish(b"x"))
    assert len(peer.take()) == 3
    assert peer.transport.closed


@pytest.mark.parametrize("acknowledged", [True, False])
def test_shutdown_finishes_what_is_open(peer, acknowledged, monkeypatch):
    monkeypatch.setattr("shipworthy.serve.http2.protocol._FAREWELL_SECONDS", 0.01)
    peer.send(peer.call(1, "/t/Held"))
    peer.run(peer.lane.shutdown)
    peer.run(peer.lane.shutdown)
    first = peer.take()
    assert [one[0] for one in first] == [wire.GOAWAY, wire.PING]
    assert first[0][3][:4] == word(wire.MAX_STREAM)
    peer.send(peer.call(3, "/t/Held"))
    assert len(peer.services.held) == 2, "what crossed the first GOAWAY is taken"
    if acknowledged:
        frames = peer.send(frame(wire.PING, wire.ACK, 0, first[1][3]))
    else:
        peer.run(lambda: time.sleep(0.02))
        frames = peer.take()
    assert frames == [(wire.GOAWAY, 0, 0, word(3) + word(0))]
    assert peer.send(peer.call(5, "/t/Held")) == []
    assert len(peer.services.held) == 2
    for call, _ in peer.services.held:
        assert not peer.transport.closed
        peer.run(lambda call=call: call.finish(b"x"))
    assert len(peer.take()) == 6
    assert peer.transport.closed


def test_shutdown_of_an_idle_connection(peer):
    peer.run(peer.lane.shutdown)
    (_, ping) = peer.take()
    peer.send(frame(wire.PING, wire.ACK, 0, ping[3]))
    assert peer.transport.closed


def test_shutdown_before_the_greeting(new_peer):
    peer = new_peer(greeted=False)
    peer.run(peer.lane.shutdown)
    assert peer.transport.closed
