"""Flow control both ways, and what bounds the memory of a connection."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipworthy.serve.calls import Status
from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.wire import Code

WINDOW = wire.INITIAL_WINDOW_SIZE


def opened(frames, number):
    """By how much windows of a stream (0: the connection) were opened."""
    return sum(int.from_bytes(one[3], "big") for one in frames if one[0] == wire.WINDOW_UPDATE and one[2] == number)


def sizes(frames, number):
    return [len(one[3]) for one in frames if one[0] == wire.DATA and one[2] == number]


def test_a_large_answer_waits_for_both_windows(new_peer, tools):
    peer = new_peer(settings={WINDOW: 20000})
    message = bytes(range(250)) * 1000
    frames = peer.send(peer.begin(1), tools.data(1, tools.grpc(message)))
    assert sizes(frames, 1) == [16384, 3616]
    more = peer.send(wire.window_update(1, 1 << 20))
    assert sum(sizes(more, 1)) == 65535 - 20000, "the connection's window"
    last = peer.send(wire.window_update(0, 1 << 20))
    body, fields = peer.answer(frames + more + last)
    assert body == tools.grpc(message)
    assert fields["grpc-status"] == "0"
    assert max(sizes(frames + more + last, 1)) == 16384
    assert peer.protocol._outbox.waiting_bytes == 0


def test_a_small_answer_waits_for_the_connections_window_too(peer):
    frames = peer.send(peer.call(1, "/t/Big", b"60000"), peer.call(3, "/t/Big", b"6000"))
    peer.send(wire.window_update(1, 1 << 20))
    assert sum(sizes(frames, 1)) + sum(sizes(frames, 3)) == 65535
    assert sum(sizes(peer.send(wire.window_update(0, 1000)), 3)) == 66010 - 65535


def test_larger_frames_where_the_client_takes_them(new_peer, tools):
    peer = new_peer(settings={WINDOW: 1 << 20, wire.MAX_FRAME_SIZE: 50000})
    assert sizes(peer.send(peer.call(1, "/t/Big", b"60000")), 1) == [50000, 10005]


def test_a_new_initial_window_moves_open_streams_also_below_zero(new_peer):
    peer = new_peer(settings={WINDOW: 1000})
    assert sizes(peer.send(peer.call(1, "/t/Big", b"4000")), 1) == [1000]
    assert sizes(peer.send(wire.settings({WINDOW: 500})), 1) == []
    assert sizes(peer.send(wire.window_update(1, 500)), 1) == []
    assert sizes(peer.send(wire.window_update(1, 7)), 1) == [7]
    assert sizes(peer.send(wire.settings({WINDOW: 5000})), 1) == [4005 - 1007]


def test_answers_take_turns(new_peer):
    peer = new_peer(settings={WINDOW: 1 << 20})
    peer.send(peer.call(1, "/t/Big", b"100000"), peer.call(3, "/t/Big", b"100000"))
    frames = peer.send(wire.window_update(0, 1 << 16))
    assert [one[2] for one in frames] == [1, 3, 1, 3]


def test_a_cancelled_answer_gives_its_place_up(new_peer):
    peer = new_peer(settings={WINDOW: 10})
    peer.send(peer.call(1, "/t/Big", b"1000"), peer.call(3, "/t/Big", b"100"))
    assert peer.protocol._outbox.waiting_bytes == 1005 + 105 - 20
    peer.send(wire.reset(1, Code.CANCEL))
    assert peer.protocol._outbox.waiting_bytes == 95
    assert peer.send(wire.window_update(1, 100)) == []
    assert list(peer.protocol._streams.open) == [3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_windows_are_never_overdrawn(new_peer, tools, draw):
    """Whatever the client opens and when, no byte is sent beyond it, and all arrive in the end."""
    initial = draw.draw(st.integers(0, 3000))
    peer = new_peer(settings={WINDOW: initial})
    lengths = draw.draw(st.lists(st.integers(0, 4000), min_size=1, max_size=4))
    windows = {0: 65535}
    frames = []

    def account(got):
        for kind, _, number, payload in got:
            if kind == wire.DATA:
                windows[0] -= len(payload)
                windows[number] -= len(payload)
                assert windows[0] >= 0
                assert windows[number] >= 0 or not payload
        frames.extend(got)

    for at, length in enumerate(lengths):
        windows[2 * at + 1] = initial
        account(peer.send(peer.call(2 * at + 1, "/t/Big", b"%d" % length)))
        for number, increment in draw.draw(st.lists(st.tuples(st.integers(0, at), st.integers(1, 500)), max_size=5)):
            windows[2 * number + 1] += increment
            account(peer.send(wire.window_update(2 * number + 1, increment)))
        if draw.draw(st.booleans()):
            changed = draw.draw(st.integers(0, 3000))
            for number in windows:
                windows[number] += (changed - initial) * (number > 0)
            initial = changed
            account(peer.send(wire.settings({WINDOW: initial})))
    for number in list(windows):
        windows[number] += 1 << 20
        account(peer.send(wire.window_update(number, 1 << 20)))
    for at, length in enumerate(lengths):
        assert sum(sizes(frames, 2 * at + 1)) == length + 5
    assert not peer.protocol._streams.open


def test_our_windows_are_given_back(new_peer, tools):
    peer = new_peer(message_bytes=10_000_000, connection_window=1 << 20)
    message = bytes(5_000_000)
    stream = connection = 0
    left = {0: 1 << 20, 1: 1 << 18}
    payload = tools.grpc(message)
    frames = peer.send(peer.begin(1))
    for at in range(0, len(payload), 16384):
        part = payload[at : at + 16384]
        left = {number: room - len(part) for number, room in left.items()}
        assert min(left.values()) >= 0, "a client that keeps to the windows is never stuck"
        got = peer.send(wire.frame(wire.DATA, at + 16384 >= len(payload), 1, part))
        left[0] += opened(got, 0)
        left[1] += opened(got, 1)
        assert left[0] <= 1 << 20
        assert left[1] <= 1 << 18
        stream, connection = stream + opened(got, 1), connection + opened(got, 0)
        frames += [one for one in got if one[0] != wire.WINDOW_UPDATE]
    assert stream > 4_000_000
    assert connection > 3_500_000
    assert peer.services.taken == 1
    assert peer.protocol._streams._intake._reserved == 0


def test_more_than_a_window_is_an_error(new_peer, tools):
    peer = new_peer(stream_window=65535, connection_window=100_000)
    frames = peer.send(peer.begin(1, "/t/Listen"), *[wire.frame(wire.DATA, 0, 1, bytes(16384))] * 2)
    assert tools.only(frames, wire.RST_STREAM, wire.GOAWAY) == []
    peer = new_peer(stream_window=65535, message_bytes=100_000)
    # Two large messages: the second waits for the first, so its window is not given back.
    start = tools.grpc(bytes(90_000))
    frames = peer.send(peer.begin(1), peer.begin(3), tools.data(1, start[:50_000], 0), tools.data(3, start[:65_535], 0))
    assert opened(frames, 1) > 0
    assert opened(frames, 3) == 0
    frames = peer.send(wire.frame(wire.DATA, 0, 3, b"x"))
    assert frames == [(wire.RST_STREAM, 0, 3, b"\0\0\0\3")]


def test_large_messages_come_one_after_the_other(new_peer, tools):
    peer = new_peer(stream_window=65535, message_bytes=100_000)
    start = tools.grpc(bytes(90_000))
    numbers = (1, 3, 5)
    frames = peer.send(*(peer.begin(n) + tools.data(n, start[:65_535], 0) for n in numbers))
    assert [opened(frames, n) > 0 for n in numbers] == [True, False, False]
    frames = peer.send(tools.data(1, start[65_535:]))
    assert [opened(frames, n) > 0 for n in (3, 5)] == [True, False]
    frames = peer.send(wire.reset(3, Code.CANCEL))
    assert opened(frames, 5) > 0
    peer.send(tools.data(5, start[65_535:]))
    assert peer.services.taken == 2
    assert peer.protocol._streams._intake._reserved == 0


def test_the_connections_window_holds(new_peer, tools):
    peer = new_peer(connection_window=65535)
    peer.protocol._streams._intake._window = 10
    frames = peer.send(peer.begin(1), tools.data(1, bytes(11)))
    assert frames[-1][0] == wire.GOAWAY
    assert frames[-1][3][4:8] == b"\0\0\0\3"


def test_padding_counts(new_peer, tools):
    peer = new_peer(connection_window=1 << 17)
    peer.send(peer.begin(1, "/t/Chat"))
    frames = peer.send(*[wire.frame(wire.DATA, wire.PADDED, 1, b"\xff" + bytes(255))] * 300)
    assert opened(frames, 0) == 65536 + 256


def test_a_client_that_does_not_read_is_not_read(peer):
    peer.run(peer.protocol.pause_writing)
    assert peer.transport.reading_paused
    peer.send(wire.window_update(0, 1 << 20), peer.call(1, "/t/Big", b"60000"))
    assert sizes(peer.take(), 1) == [], "large answers wait here, not in the transport"
    peer.run(peer.protocol.resume_writing)
    assert not peer.transport.reading_paused
    assert sum(sizes(peer.take(), 1)) == 60005


def test_too_many_answers_that_nobody_reads(new_peer):
    peer = new_peer(settings={WINDOW: 0}, send_bytes=10_000)
    frames = peer.send(*(peer.call(n, "/t/Big", b"6000") for n in (1, 3)))
    assert peer.answer(frames, 3)[1]["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))
    assert list(peer.protocol._streams.open) == [1]
    assert peer.answer(peer.send(peer.call(5, "/t/Refuse")), 5)[1]["grpc-status"] == "5"


def test_one_answer_alone_may_be_of_any_size(new_peer):
    peer = new_peer(settings={WINDOW: 0}, send_bytes=10_000)
    frames = peer.send(peer.call(1, "/t/Big", b"30000"))
    assert peer.answer(frames + peer.send(wire.window_update(1, 1 << 20)))[1]["grpc-status"] == "0"


def test_a_stream_of_answers_that_nobody_reads(new_peer):
    peer = new_peer(settings={WINDOW: 100}, send_bytes=10_000)
    peer.send(peer.begin(1, "/t/Listen"))
    call = peer.services.held[0][0]
    peer.run(lambda: [call.send(bytes(3000)) for _ in range(10)])
    assert peer.protocol._outbox.waiting_bytes < 10_000
    assert peer.services.cancelled == 1
    frames = peer.take() + peer.send(wire.window_update(1, 1 << 20))
    body, fields = peer.answer(frames)
    assert len(body) == 3 * 3005
    assert fields["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))


@pytest.mark.parametrize("due", ["greeting", "frame", "headers", "message", "answer"])
def test_what_stands_still_is_cut(new_peer, tools, due):
    peer = new_peer(greeted=due != "greeting", settings={WINDOW: 0}, stall_seconds=0.02)
    begun = {
        "frame": lambda: peer.call(1)[:-1],
        "headers": lambda: wire.frame(wire.HEADERS, 0, 1, b""),
        "message": lambda: peer.begin(1) + tools.data(1, b"\0\0\0\0\5abc", 0),
        "answer": lambda: peer.call(1),
    }
    if due in begun:
        peer.send(begun[due]())
    for _ in range(2):
        peer.run(lambda: time.sleep(0.03))
    assert peer.transport.aborted


def test_what_is_idle_is_kept(new_peer):
    peer = new_peer(stall_seconds=0.02)
    peer.send(peer.begin(1, "/t/Listen"), peer.call(3, "/t/Held"))
    for _ in range(3):
        peer.run(lambda: time.sleep(0.03))
    assert not peer.transport.closed
