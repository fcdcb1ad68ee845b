"""gRPC's rules: what each request gets."""

from __future__ import annotations

import gzip
import logging
import time
import tracemalloc

import pytest

from shipworthy.serve.calls import Status
from shipworthy.serve.http2 import wire

HEADERS, DATA, RST = wire.HEADERS, wire.DATA, wire.RST_STREAM


def test_a_unary_call_is_answered_in_one_write(peer, tools):
    before = peer.transport.writes
    frames = peer.send(peer.call(1))
    assert [frame[:3] for frame in frames] == [(HEADERS, 4, 1), (DATA, 0, 1), (HEADERS, 5, 1)]
    assert peer.answer(frames) == (
        tools.grpc(b"hello"),
        {":status": "200", "content-type": "application/grpc", "grpc-status": "0"},
    )
    assert peer.transport.writes == before + 1


def test_calls_of_one_turn_leave_in_one_write(peer):
    before = peer.transport.writes
    peer.send(*(peer.call(n, "/t/Held") for n in (1, 3, 5)))
    assert peer.transport.writes == before
    peer.run(lambda: [call.finish(b"x") for call, _ in peer.services.held])
    assert peer.transport.writes == before + 1
    assert len(peer.take()) == 9


@pytest.mark.parametrize(
    ("more", "body", "status", "said"),
    [
        ({"path": "/t/None"}, None, Status.UNIMPLEMENTED, "/t/None"),
        ({"path": "/t/Refuse"}, b"x", Status.NOT_FOUND, "no such model: 100 %25; do next: look%0Aaround"),
        ({"path": "/t/Break"}, b"x", Status.INTERNAL, "its log says why"),
        ({"grpc_timeout": "1x"}, b"x", Status.INVALID_ARGUMENT, "grpc-timeout"),
        ({"grpc_timeout": "123456789m"}, b"x", Status.INVALID_ARGUMENT, "grpc-timeout"),
        ({"grpc_encoding": "snappy"}, b"x", Status.UNIMPLEMENTED, "'snappy'"),
        ({"content_type": "application/grpc+proto; a=b"}, b"x", Status.OK, ""),
        ({"te": ""}, b"x", Status.OK, ""),
        ({"grpc_timeout": "5S"}, b"x", Status.OK, ""),
    ],
)
def test_status(peer, tools, caplog, more, body, status, said):
    caplog.set_level(logging.CRITICAL)
    frames = peer.send(peer.begin(1, **more), tools.data(1, tools.grpc(body or b"")))
    _, fields = peer.answer(frames)
    assert fields["grpc-status"] == str(int(status))
    assert said in fields.get("grpc-message", "")
    assert "secret" not in str(fields)
    assert peer.answer(peer.send(peer.call(3)), 3)[0] == tools.grpc(b"hello"), "the connection lives on"


@pytest.mark.parametrize(
    ("path", "payload", "status"),
    [
        ("/t/Echo", b"", Status.UNIMPLEMENTED),
        ("/t/Echo", b"\0\0\0\0\1a" * 2, Status.UNIMPLEMENTED),
        ("/t/Echo", b"\0\0\0\0\1a\0", Status.UNIMPLEMENTED),
        ("/t/Echo", b"\0\0\0\0", Status.INTERNAL),
        ("/t/Echo", b"\0\0\0\0\2a", Status.INTERNAL),
        ("/t/Chat", b"\0\0\0\0\2a", Status.INTERNAL),
        ("/t/Echo", b"\2\0\0\0\1a", Status.INTERNAL),
        ("/t/Echo", b"\1\0\0\0\1a", Status.INTERNAL),
        ("/t/Echo", b"\0\0\0\0\0", Status.OK),
        ("/t/Chat", b"", Status.OK),
        ("/t/Chat", b"\0\0\0\0\0", Status.OK),
        ("/t/Echo", b"\0\1\0\0\0", Status.RESOURCE_EXHAUSTED),
    ],
)
@pytest.mark.parametrize("size", [16384, 1])
def test_messages_in_any_split(new_peer, tools, path, payload, status, size):
    peer = new_peer(message_bytes=1000)
    frames = peer.send(peer.begin(1, path), tools.data(1, payload, size=size))
    assert peer.answer(frames)[1]["grpc-status"] == str(int(status))
    assert not peer.protocol._streams.open


def test_headers_that_end_the_stream_are_no_message(peer):
    assert peer.answer(peer.send(peer.begin(1, flags=wire.END_STREAM)))[1]["grpc-status"] == "12"
    assert peer.answer(peer.send(peer.begin(3, "/t/Chat", flags=wire.END_STREAM)), 3)[1]["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (gzip.compress(b"hello", mtime=0), Status.OK),
        (gzip.compress(bytes(1000), mtime=0), Status.OK),
        (gzip.compress(bytes(1001), mtime=0), Status.RESOURCE_EXHAUSTED),
        (gzip.compress(bytes(10_000_000), mtime=0)[:900], Status.RESOURCE_EXHAUSTED),
        (gzip.compress(b"hello", mtime=0)[:-1], Status.INTERNAL),
        (gzip.compress(b"hello", mtime=0) + b"x", Status.INTERNAL),
        (b"hello", Status.INTERNAL),
        (b"", Status.INTERNAL),
    ],
)
def test_gzip(new_peer, tools, packed, status):
    peer = new_peer(message_bytes=1000)
    frames = peer.send(peer.begin(1, grpc_encoding="gzip"), tools.data(1, tools.grpc(packed, 1)))
    body, fields = peer.answer(frames)
    assert fields["grpc-status"] == str(int(status))
    assert body == (tools.grpc(gzip.decompress(packed)) if status == Status.OK else b"")


def test_gzip_that_was_not_announced(peer, tools):
    frames = peer.send(peer.begin(1), tools.data(1, tools.grpc(gzip.compress(b"hello"), 1)))
    assert peer.answer(frames)[1]["grpc-status"] == str(int(Status.INTERNAL))


def test_a_gzip_bomb_is_not_unpacked(new_peer, tools):
    peer = new_peer(message_bytes=100_000)
    bomb = gzip.compress(bytes(90_000_000))
    call = peer.begin(1, grpc_encoding="gzip") + tools.data(1, tools.grpc(bomb, 1))
    tracemalloc.start()
    frames = peer.send(call)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peer.answer(frames)[1]["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))
    assert peak < 2_000_000


def test_with_gzip_agreed_a_plain_message_is_taken_too(peer, tools):
    assert peer.answer(peer.send(peer.call(1, grpc_encoding="gzip")))[0] == tools.grpc(b"hello")


@pytest.mark.parametrize(
    ("more", "status"),
    [({"content_type": "text/html"}, "415"), ({"content_type": ""}, "415"), ({"content_type": "application/grpc-web"}, "415")],
)
def test_what_is_not_grpc_gets_plain_http(peer, tools, more, status):
    frames = peer.send(peer.begin(1, **more), tools.data(1, b"x" * 100))
    body, fields = peer.answer(frames)
    assert (fields[":status"], fields["content-type"]) == (status, "text/plain")
    assert b"gRPC" in body
    assert [frame[:3] for frame in frames][-2:] == [(DATA, 1, 1), (RST, 0, 1)]
    assert "grpc-status" not in fields


def test_a_get_of_a_browser(peer):
    block = peer.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "here")])
    frames = peer.send(wire.frame(HEADERS, 5, 1, block))
    assert peer.answer(frames)[1][":status"] == "415"
    assert frames[-1][:3] == (DATA, 1, 1)
    block = peer.encoder.encode(
        [(":method", "PUT"), (":scheme", "http"), (":path", "/t/Echo"), ("content-type", "application/grpc")]
    )
    assert peer.answer(peer.send(wire.frame(HEADERS, 5, 3, block)), 3)[1][":status"] == "405"


def test_an_http_1_client_is_told_and_let_go(new_peer):
    peer = new_peer(greeted=False)
    peer.run(lambda: peer.protocol.data_received(b"GET / HTTP/1.1\r\n\r\n"))
    head, _, body = bytes(peer.transport.out).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    assert peer.transport.closed


def test_an_early_answer_stops_the_upload(peer, tools):
    frames = peer.send(peer.begin(1, "/t/None"))
    assert [frame[:3] for frame in frames] == [(HEADERS, 5, 1), (RST, 0, 1)]
    assert frames[1][3] == bytes(4)
    assert tools.only(peer.send(tools.data(1, b"x" * 40000)), RST, wire.GOAWAY) == [], "what was on its way is nobody's fault"


def test_streaming_answers_as_messages_come(peer, tools):
    peer.send(peer.begin(1, "/t/Chat"))
    assert peer.answer(peer.send(tools.data(1, tools.grpc(b"a") + tools.grpc(b"b")[:3], 0)))[0] == tools.grpc(b"a")
    assert peer.answer(peer.send(tools.data(1, tools.grpc(b"b")[3:], 0)))[0] == tools.grpc(b"b")
    body, fields = peer.answer(peer.send(tools.data(1, b"")))
    assert (body, fields) == (tools.grpc(b"bye"), {"grpc-status": "0"})


def test_trailers_end_the_clients_half(peer, tools):
    frames = peer.send(
        peer.begin(1), tools.data(1, tools.grpc(b"x"), 0), wire.frame(HEADERS, 5, 1, peer.encoder.encode([("a", "b")]))
    )
    assert peer.answer(frames)[0] == tools.grpc(b"x")


def test_metadata_reaches_the_service(peer):
    peer.send(peer.call(1, "/t/Held", user="me", key_bin="AAE=", grpc_timeout="1H"))
    call, message = peer.services.held[0]
    assert (dict(call.metadata), message) == ({"user": "me", "key-bin": "AAE="}, b"hello")
    with pytest.raises(TypeError):
        call.metadata["user"] = "you"


def test_cancellation_reaches_the_service_once(peer):
    peer.send(peer.call(1, "/t/Held"), peer.call(3, "/t/Held"), peer.begin(5, "/t/Listen"))
    peer.send(wire.reset(1, wire.Code.CANCEL))
    assert peer.services.cancelled == 1
    peer.send(wire.reset(1, wire.Code.CANCEL), wire.reset(5, wire.Code.CANCEL))
    assert peer.services.cancelled == 2
    peer.run(lambda: peer.services.held[0][0].finish(b"late"))
    assert peer.take() == []
    peer.run(lambda: peer.protocol.connection_lost(None))
    assert peer.services.cancelled == 3


def test_a_service_may_end_one_call_because_of_another(peer):
    peer.send(peer.call(1, "/t/Held"), peer.call(3, "/t/Held"))
    (first, _), (second, _) = peer.services.held
    first.on_cancel = second.finish
    peer.run(lambda: peer.protocol.connection_lost(None))
    assert second.over


def test_a_deadline_ends_the_call(peer):
    before = time.monotonic_ns()
    peer.send(peer.call(1, "/t/Held", grpc_timeout="10S"), peer.call(3, "/t/Held", grpc_timeout="20m"))
    later, sooner = (call.deadline_ns - before for call, _ in peer.services.held)
    assert 10e9 <= later < 11e9
    assert 20e6 <= sooner < 1e9
    peer.run(lambda: time.sleep(0.03))
    frames = peer.take()
    assert {frame[2] for frame in frames} == {3}
    assert peer.answer(frames, 3)[1]["grpc-status"] == str(int(Status.DEADLINE_EXCEEDED))
    assert peer.services.cancelled == 1
    assert peer.protocol._alarm.when() - peer.loop.time() > 9


def test_a_call_that_is_over_drops_further_words(peer):
    peer.send(peer.call(1, "/t/Held"))
    call = peer.services.held[0][0]
    peer.run(lambda: (call.finish(b"a"), call.finish(b"b"), call.send(b"c")))
    assert len(peer.take()) == 3


def test_content_length_must_be_true(peer, tools):
    assert peer.answer(peer.send(peer.call(1, content_length="10")))[0] == tools.grpc(b"hello")
    for number, length in ((3, "11"), (5, "9")):
        frames = peer.send(peer.call(number, content_length=length))
        assert frames == [(RST, 0, number, b"\0\0\0\1")]


def test_an_error_with_a_long_text_fits_a_frame(peer):
    peer.send(peer.call(1, "/t/Held"))
    peer.run(lambda: peer.services.held[0][0].finish(None, Status.INTERNAL, "é" * 100_000))
    frames = peer.take()
    assert len(frames[0][3]) <= 16384
    assert peer.answer(frames)[1]["grpc-message"].startswith("%C3%A9")
