"""Anything may come in, in any pieces: the answers do not depend on the pieces, and nothing raises."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipworthy.serve.http2 import wire

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

frames = st.builds(
    wire.frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x24, 0x2D, 255]),
    st.sampled_from([0, 1, 2, 3, 5, 7, 2**31, 2**32 - 1]),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"\0\0\0\0\5hello", b"\x83\x86\x84", b"\0\0\0\1", bytes(8), b"\0\4\0\0\0\1", b"\0\4\x7f\xff\xff\xff"]),
    ),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@QUICK
@given(st.lists(st.integers(0, 10_000), max_size=30), st.sampled_from([1, 7, 100, 16384]))
def test_any_split_gives_the_same_answers(new_peer, tools, cuts, size):
    whole, cut = new_peer(greeted=False), new_peer(greeted=False)
    conversation = b"".join(
        [
            wire.PREFACE,
            wire.settings({}),
            whole.call(1, key="one"),
            whole.begin(3, "/t/Chat") + tools.data(3, tools.grpc(b"a") + tools.grpc(b"bc" * 100), size=size),
            wire.frame(wire.PING, 0, 0, b"pingpong"),
            whole.call(5, "/t/None"),
            whole.call(7, "/t/Big", b"20000"),
            whole.call(9, "/t/Refuse"),
            whole.call(11, key="one"),
        ]
    )
    expected = whole.send(conversation)
    got = [one for part in pieces(conversation, cuts) for one in cut.send(part)]
    for number in (1, 3, 5, 7, 9, 11):
        mine = [one for one in got if one[2] == number]
        assert mine == [one for one in expected if one[2] == number]
        assert mine, "there is an answer"
    assert {one[:2] for one in got} == {one[:2] for one in expected}


@QUICK
@given(st.lists(frames, max_size=25), st.lists(st.integers(0, 10_000), max_size=5))
def test_random_frames_raise_nothing(new_peer, sent, cuts):
    peer = new_peer()
    for part in pieces(peer.call(1, "/t/Held") + peer.begin(3, "/t/Listen") + b"".join(sent), cuts):
        peer.send(part)
    for call, _ in peer.services.held:
        peer.run(lambda call=call: (call.send(bytes(100)), call.finish(b"x")))
    peer.take()
    assert peer.protocol._outbox.waiting_bytes >= 0
    if peer.transport.closed:
        assert not peer.protocol._streams.open


@QUICK
@given(st.binary(max_size=2000), st.booleans())
def test_random_bytes_raise_nothing(new_peer, data, greeted):
    peer = new_peer(greeted=greeted)
    peer.run(lambda: [peer.protocol.data_received(part) for part in pieces(data, [100, 7]) if part])
    assert greeted or peer.transport.closed or wire.PREFACE.startswith(data)


@QUICK
@given(st.binary(max_size=300))
def test_random_header_blocks_raise_nothing(new_peer, block):
    peer = new_peer()
    peer.send(wire.frame(wire.HEADERS, 5, 1, block))


@QUICK
@given(st.binary(max_size=300), st.integers(0, 1), st.booleans(), st.sampled_from([1, 5, 16384]))
def test_random_messages_raise_nothing(new_peer, tools, body, flag, packed, size):
    peer = new_peer(message_bytes=200)
    more = {"grpc_encoding": "gzip"} if packed else {}
    got = peer.send(peer.begin(1, **more), tools.data(1, bytes((flag,)) + body, size=size))
    assert "grpc-status" in peer.answer(got)[1]
    assert not peer.protocol._streams.open
