"""The gRPC lane against raw frames on real sockets: random conversations, and the attacks that have names."""

# ruff: noqa: S311 - chance, not secrets
from __future__ import annotations

import contextlib
import itertools
import random
import struct
import time
from collections.abc import Iterator
from typing import Self

import hpack
import pytest

from shipworthy.serve.grpc import messages
from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.wire import Code, frame

LIVE = "/inference.GRPCInferenceService/ServerLive"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CALM = Code.ENHANCE_YOUR_CALM
Frame = tuple[int, int, int, bytes]


def prefixed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def infer(value: float, rows: int = 1) -> bytes:
    """What asks the model ``two`` for the double of a number."""
    request = messages.load()["inference.ModelInferRequest"](model_name="two", id=f"{value:g}")
    for name in "ab":
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[rows, 3])
        tensor.contents.fp32_contents[:] = [value] * 3 * rows
    return request.SerializeToString()


class Peer:
    """The client's end of a connection, which keeps no rule."""

    def __init__(self, victim, *, greeted: bool = True, settings: dict[int, int] | None = None) -> None:
        self.wire = victim.wire(victim.grpc_port)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.closed = False
        self._rest = b""
        if greeted:
            self.send(wire.PREFACE + wire.settings(settings or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    def send(self, *frames: bytes) -> None:
        self.wire.send(b"".join(frames))

    def frames(self) -> Iterator[Frame]:
        """What comes, until the server closes; the header blocks are unpacked on the way."""
        while True:
            while len(self._rest) >= 9 and len(self._rest) >= 9 + int.from_bytes(self._rest[:3], "big"):
                end = 9 + int.from_bytes(self._rest[:3], "big")
                part, self._rest = self._rest[:end], self._rest[end:]
                yield part[3], part[4], int.from_bytes(part[5:9], "big"), part[9:]
            if not self.wire.more():
                self.closed = True
                return
            self._rest += self.wire._take(len(self.wire._rest))

    def head(self, number: int, path: str = LIVE, flags: int = 0, **more: str) -> bytes:
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "fuzz", "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | {name.replace("_", "-"): text for name, text in more.items()}
        return frame(wire.HEADERS, wire.END_HEADERS | flags, number, self.encoder.encode(list(fields.items())))

    def call(self, number: int, path: str = LIVE, message: bytes = b"", **more: str) -> bytes:
        return self.head(number, path, **more) + frame(wire.DATA, wire.END_STREAM, number, prefixed(message))

    def outcome(self, number: int) -> tuple[bytes, dict[str, str]] | int:
        """Message and fields that answer a stream; or the code with which it, or the connection, was ended; -1: closed."""
        body, fields = b"", {}
        for kind, flags, stream, payload in self.frames():
            if kind == wire.HEADERS:
                found = dict(self.decoder.decode(payload))
                fields |= found if stream == number else {}
            elif kind == wire.DATA and stream == number:
                body += payload
            elif kind == wire.RST_STREAM and stream == number:
                return int.from_bytes(payload, "big")
            elif kind == wire.GOAWAY:
                return int.from_bytes(payload[4:8], "big")
            if stream == number and flags & wire.END_STREAM and kind in {wire.HEADERS, wire.DATA}:
                return body, fields
        return -1

    def end(self) -> int:
        """The code of the GOAWAY with which the server ends the connection; -1: it only closes."""
        code = -1
        for kind, _, _, payload in self.frames():
            if kind == wire.GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
        return code

    def is_served(self, number: int, value: float) -> None:
        self.send(self.call(number, INFER, infer(value)))
        found = self.outcome(number)
        assert isinstance(found, tuple), found
        body, fields = found
        self.send(wire.window_update(0, len(body)))
        assert fields["grpc-status"] == "0", fields
        answer = messages.load()["inference.ModelInferResponse"].FromString(body[5:])
        assert answer.id == f"{value:g}"
        assert (
            b"".join(answer.raw_output_contents) == struct.pack("<3f", *[2 * value] * 3)
            or list(answer.outputs[0].contents.fp32_contents) == [2 * value] * 3
        )


def served(victim) -> None:
    for value in range(4):  # whichever worker it is
        with Peer(victim) as peer:
            peer.is_served(1, value)


NUMBERS = [0, 1, 1, 3, 3, 5, 7, 9, 2, 4, 2**31 - 1, 2**31, 2**32 - 1]
FLAGS = [0, 1, 4, 5, 5, 8, 9, 12, 13, 0x20, 0x24, 0x2D, 255]
PAYLOADS = [
    b"", b"\0", bytes(4), bytes(5), bytes(8), b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\x08",
    b"\0\4\0\0\0\0", b"\0\4\0\0\0\1", b"\0\4\x7f\xff\xff\xff", b"\0\4\xff\xff\xff\xff", b"\0\5\0\0\x40\0",
    b"\0\5\0\xff\xff\xff",
    b"\0\1\0\0\0\0", b"\0\1\xff\xff\xff\xff", b"\0\2\0\0\0\2", b"\0\x09\0\0\0\1", b"\x82\x86\x84", b"\xbe",
    b"\x7f\xff\xff\xff\xff",
    b"\x3f\xe1\xff\xff\xff", b"\x20\x20\x20", prefixed(b""), prefixed(b"", 1), prefixed(b"", 2), b"\0\xff\xff\xff\xff",
    b"\xff" + bytes(20), b"\x05abc" + bytes(5), bytes(300), bytes(16384), bytes(16385),
]  # fmt: skip


def random_frame(chance: random.Random, peer: Peer) -> bytes:
    deed, number = chance.randrange(12), chance.choice(NUMBERS)
    if deed < 5:
        payload = chance.choice(PAYLOADS) if chance.random() < 0.8 else chance.randbytes(chance.randrange(60))
        return frame(chance.choice([*range(10), 10, 12, 99]), chance.choice(FLAGS), number, payload)
    if deed == 5:
        return peer.call(number % 2**31, chance.choice([LIVE, INFER, STREAM, "/none"]), chance.randbytes(chance.randrange(40)))
    if deed == 6:
        more = chance.choice(
            [
                {"grpc_timeout": "1n"},
                {"grpc_timeout": "x"},
                {"grpc_encoding": "br"},
                {"content_length": "3"},
                {"grpc_encoding": "gzip"},
            ]
        )
        return peer.call(number % 2**31, INFER, infer(3), **more)
    if deed == 7:
        return peer.head(number % 2**31, chance.choice([STREAM, INFER]))
    if deed == 8:
        return frame(wire.DATA, chance.choice([0, 1]), number, prefixed(infer(1), chance.choice([0, 0, 1])))
    if deed == 9:
        return wire.window_update(number, chance.choice([1, 0, 2**31 - 1, 65535]))
    if deed == 10:
        return wire.settings({chance.choice([1, 3, 4, 5, 6, 2]): chance.choice([0, 1, 65535, 16384, 2**31 - 1])})
    whole = peer.call(number % 2**31, INFER, infer(2))
    return whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else wire.reset(number, chance.choice([8, 0, 99]))


def test_random_conversations_cost_a_connection_at_most(victim, budget):
    """After any frames the peer is either told that it broke a rule, or hears the echo of a last ping."""
    with victim.unharmed():
        for seed in budget.seeds(800):
            chance = random.Random(seed)
            with Peer(victim, greeted=chance.random() < 0.95) as peer:
                sent = [random_frame(chance, peer) for _ in range(chance.choice([1, 2, 5, 20]))]
                sent[:0] = [peer.call(1, INFER, infer(1)), peer.head(3, STREAM)] if chance.random() < 0.5 else []
                data = b"".join(sent)
                peer.wire.send(data, tuple(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 3]))))
                peer.send(frame(wire.PING, 0, 0, b"are-you?"))
                with contextlib.suppress(OSError):
                    peer.wire.socket.shutdown(1)  # half a frame waits for its rest otherwise
                told = False
                for kind, flags, _, payload in peer.frames():
                    assert kind != wire.GOAWAY or payload[7] != Code.INTERNAL_ERROR, f"seed {seed}"
                    assert kind != wire.RST_STREAM or payload[3] != Code.INTERNAL_ERROR, f"seed {seed}"
                    told = told or kind == wire.GOAWAY or (kind == wire.PING and bool(flags & wire.ACK))
                assert peer.closed, f"seed {seed}"
        served(victim)


def test_random_bytes_cost_a_connection(victim, budget):
    """Random bytes after a preface that is right, and in its place."""
    with victim.unharmed():
        for seed in budget.seeds(400):
            chance = random.Random(seed)
            start = chance.choice([b"", wire.PREFACE, wire.PREFACE + wire.settings({}), wire.PREFACE[: chance.randrange(24)]])
            with Peer(victim, greeted=False) as peer:
                peer.send(start + chance.randbytes(chance.choice([0, 1, 9, 10, 40, 3000])))
                with contextlib.suppress(OSError):
                    peer.wire.socket.shutdown(1)
                for _ in peer.frames():
                    pass
        served(victim)


def repeated(make) -> Iterator[bytes]:
    return (make(number) for number in itertools.count())


# Each attack: the settings of the client, and what it sends for ever, by the peer. All end with ENHANCE_YOUR_CALM.
FLOODS = {
    "rapid reset": lambda peer: repeated(lambda n: peer.call(2 * n + 1, INFER, infer(1)) + wire.reset(2 * n + 1, Code.CANCEL)),
    "reset of half a call": lambda peer: repeated(lambda n: peer.head(2 * n + 1, INFER) + wire.reset(2 * n + 1, Code.CANCEL)),
    "made you reset": lambda peer: repeated(lambda n: peer.head(2 * n + 1, STREAM) + wire.window_update(2 * n + 1, 0)),
    "continuation": lambda _peer: itertools.chain(
        [frame(wire.HEADERS, 0, 1, b"")], itertools.repeat(frame(wire.CONTINUATION, 0, 1, b""))
    ),
    "continuation with content": lambda _peer: itertools.chain(
        [frame(wire.HEADERS, 0, 1, b"")], itertools.repeat(frame(wire.CONTINUATION, 0, 1, b"\0\1a\1b" * 20))
    ),
    "ping": lambda _peer: itertools.repeat(frame(wire.PING, 0, 0, bytes(8))),
    "settings": lambda _peer: itertools.repeat(wire.settings({})),
    "settings that move windows": lambda peer: itertools.chain(
        [peer.head(2 * n + 1, STREAM) for n in range(100)],
        repeated(lambda n: wire.settings({wire.INITIAL_WINDOW_SIZE: n % 2})),
    ),
    "priority": lambda _peer: repeated(lambda n: frame(wire.PRIORITY, 0, 2 * n + 1, bytes(5))),
    "unknown frames": lambda _peer: itertools.repeat(frame(99, 0, 0, b"x")),
    "empty data": lambda peer: itertools.chain([peer.head(1, STREAM)], itertools.repeat(frame(wire.DATA, 0, 1))),
    "padding only": lambda peer: itertools.chain(
        [peer.head(1, STREAM)], itertools.repeat(frame(wire.DATA, wire.PADDED, 1, b"\xff" + bytes(255)))
    ),
    "bytes one by one": lambda peer: itertools.chain(
        [peer.head(1, STREAM), frame(wire.DATA, 0, 1, b"\0\0\0\xff\xff")], itertools.repeat(frame(wire.DATA, 0, 1, b"x"))
    ),
    "more streams than allowed": lambda peer: repeated(lambda n: peer.head(2 * n + 1, STREAM)),
    "malformed heads": lambda _peer: repeated(lambda n: frame(wire.HEADERS, 5, 2 * n + 1, b"\x83")),
    "windows opened by one byte": lambda peer: itertools.chain(
        [wire.settings({wire.INITIAL_WINDOW_SIZE: 0}), peer.call(1, INFER, infer(1, rows=600))],
        itertools.repeat(wire.window_update(1, 1) + wire.window_update(0, 1)),
    ),
    "header bomb": lambda _peer: iter(
        [frame(wire.HEADERS, 4, 1, b"\x82\x86\x84\x40\x01a\x7f\xb9\x16" + b"v" * 3000 + b"\xbe" * 9000)]
    ),
    "header bomb in many frames": lambda _peer: repeated(
        lambda n: frame(wire.CONTINUATION if n else wire.HEADERS, 0, 1, b"\x40\x01a\x7f\xb9\x16" + b"v" * 3000)
    ),
}


@pytest.mark.parametrize("attack", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_ended_and_others_are_served_meanwhile(victim, attack):
    with victim.unharmed(), Peer(victim) as peer, Peer(victim) as good, Peer(victim) as other:
        began, sent, numbers = time.monotonic(), 0, itertools.count(1, 2)
        peer.wire.socket.settimeout(0.001)
        parts = attack(peer)
        ended = False
        while not ended:
            batch = b"".join(itertools.islice(parts, 100))
            try:
                peer.wire.socket.sendall(batch)
                sent += len(batch)
                ended = not peer.wire.more() or not batch
            except TimeoutError:
                pass
            except (ConnectionResetError, BrokenPipeError):
                break
            for one in (good, other):
                asked = time.monotonic()
                one.is_served(next(numbers), 4)
                assert time.monotonic() - asked < 2
            assert time.monotonic() - began < 20, "it went on and on"
            assert sent < 8e6
        # The kernel throws the last words away where the server hangs up on bytes that it has not read.
        peer._rest += peer.wire._take(len(peer.wire._rest))
        assert {int.from_bytes(one[4:8], "big") for kind, _, _, one in peer.frames() if kind == wire.GOAWAY} <= {CALM}


PROTOCOL, FLOW, SIZE = Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.FRAME_SIZE_ERROR
CLOSED, PACKING = Code.STREAM_CLOSED, Code.COMPRESSION_ERROR
# What breaks a rule of the connection, and the code that it is told.
BREACHES = {
    "window of the connection too wide": (wire.window_update(0, wire.MAX_WINDOW), FLOW),
    "window of the connection by nothing": (wire.window_update(0, 0), PROTOCOL),
    "window of no stream": (wire.window_update(9, 1), PROTOCOL),
    "window of three bytes": (frame(wire.WINDOW_UPDATE, 0, 0, b"\0\0\1"), SIZE),
    "initial window too wide": (wire.settings({wire.INITIAL_WINDOW_SIZE: 1 << 31}), FLOW),
    "frames too small": (wire.settings({wire.MAX_FRAME_SIZE: 16383}), PROTOCOL),
    "frames too large": (wire.settings({wire.MAX_FRAME_SIZE: 1 << 24}), PROTOCOL),
    "push neither on nor off": (wire.settings({wire.ENABLE_PUSH: 2}), PROTOCOL),
    "half a setting": (frame(wire.SETTINGS, 0, 0, bytes(5)), SIZE),
    "settings of a stream": (frame(wire.SETTINGS, 0, 1), PROTOCOL),
    "acknowledged settings": (frame(wire.SETTINGS, wire.ACK, 0, bytes(6)), SIZE),
    "short ping": (frame(wire.PING, 0, 0, bytes(7)), SIZE),
    "ping of a stream": (frame(wire.PING, 0, 1, bytes(8)), PROTOCOL),
    "data of no stream": (frame(wire.DATA, 0, 0, b"x"), PROTOCOL),
    "data of a stream never opened": (frame(wire.DATA, 0, 7, b"x"), PROTOCOL),
    "data with more padding than frame": (frame(wire.DATA, wire.PADDED, 1, b"\5x"), PROTOCOL),
    "data with no padding length": (frame(wire.DATA, wire.PADDED, 1), PROTOCOL),
    "head with more padding than frame": (frame(wire.HEADERS, 12, 1, b"\5x"), PROTOCOL),
    "head with half a priority": (frame(wire.HEADERS, 0x24, 1, b"\0\0"), SIZE),
    "head of an even stream": (frame(wire.HEADERS, 5, 2, b"\x82"), PROTOCOL),
    "head of no stream": (frame(wire.HEADERS, 5, 0, b"\x82"), PROTOCOL),
    "reset of a stream never opened": (wire.reset(9, Code.CANCEL), PROTOCOL),
    "long reset": (frame(wire.RST_STREAM, 0, 1, bytes(5)), SIZE),
    "short priority": (frame(wire.PRIORITY, 0, 1, bytes(4)), SIZE),
    "short farewell": (frame(wire.GOAWAY, 0, 0, bytes(7)), SIZE),
    "a promise": (frame(wire.PUSH_PROMISE, 4, 1, bytes(5)), PROTOCOL),
    "continuation of nothing": (frame(wire.CONTINUATION, 4, 1, b"\x82"), PROTOCOL),
    "something within a head": (frame(wire.HEADERS, 0, 1, b"\x82") + frame(wire.PING, 0, 0, bytes(8)), PROTOCOL),
    "another head within a head": (frame(wire.HEADERS, 0, 1, b"\x82") + frame(wire.CONTINUATION, 4, 3, b""), PROTOCOL),
    "a frame too large": (frame(wire.DATA, 0, 1, bytes(16385)), SIZE),
    "a length of all ones": (b"\xff\xff\xff\0\0\0\0\0\1", SIZE),
    "index 0": (frame(wire.HEADERS, 5, 1, b"\x80"), PACKING),
    "index of nothing": (frame(wire.HEADERS, 5, 1, b"\xff\xff\x03"), PACKING),
    "index without end": (frame(wire.HEADERS, 5, 1, b"\xff" * 200), PACKING),
    "text longer than its block": (frame(wire.HEADERS, 5, 1, b"\0\x7f\xff\xff\x03a"), PACKING),
    "table larger than allowed": (frame(wire.HEADERS, 5, 1, b"\x3f\xe1\xff\x07\x82"), PACKING),
    "bad code of Huffman": (frame(wire.HEADERS, 5, 1, b"\0\x84\xff\xff\xff\xff\0"), PACKING),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_broken_rule_ends_the_connection_with_its_code(victim, name):
    data, code = BREACHES[name]
    with Peer(victim) as peer:
        peer.is_served(1, 5) if "stream never" in name else None
        peer.send(data)
        assert peer.end() == code
    served(victim)


def test_numbers_that_go_back_and_data_after_the_end(victim):
    with Peer(victim) as peer:
        peer.send(peer.call(5), peer.call(3))
        assert peer.end() in {PROTOCOL, CLOSED}
    with Peer(victim) as peer:
        peer.send(peer.call(1), frame(wire.DATA, 0, 1, b"x"))
        assert peer.outcome(1) != -1
    served(victim)


def test_a_preface_of_another_protocol_is_told_so(victim):
    for start in (b"GET / HTTP/1.1\r\nHost: fuzz\r\n\r\n", bytes.fromhex("1603010200010001fc0303"), b"PRI * HTTP/2.1\r\n\r\n"):
        with Peer(victim, greeted=False) as peer:
            peer.send(start)
            assert peer.wire.rest().startswith(b"HTTP/1.1 400 ")


def test_half_open_streams_and_closed_windows_hold_nobody_up(victim):
    """Callers that never end their requests, and such that never take their answers, beside one that is served."""
    with victim.unharmed(), contextlib.ExitStack() as stack, Peer(victim) as good:
        for _ in range(8):
            peer = stack.enter_context(Peer(victim, settings={wire.INITIAL_WINDOW_SIZE: 0}))
            peer.send(*(peer.head(number, STREAM) for number in range(1, 257, 2)))
            peer.send(*(peer.call(number, INFER, infer(1)) for number in range(257, 511, 2)))
        for number in range(1, 100, 2):
            good.is_served(number, number)


def test_connections_that_stop_within_a_frame_hold_nobody_up(victim):
    with victim.unharmed(), contextlib.ExitStack() as stack:
        whole = None
        for end in range(0, 120, 2):
            peer = stack.enter_context(Peer(victim, greeted=False))
            whole = whole or wire.PREFACE + wire.settings({}) + peer.call(1, INFER, infer(1))
            peer.send(whole[:end])
        served(victim)


def test_answers_do_not_depend_on_the_cuts(victim):
    """A conversation of two calls, cut at every byte."""
    with victim.unharmed():
        with Peer(victim, greeted=False) as peer:
            data = wire.PREFACE + wire.settings({}) + peer.call(1, INFER, infer(6)) + peer.call(3)
        for at in range(1, len(data)):
            with Peer(victim, greeted=False) as peer:
                peer.wire.send(data, (at,), pause=0.0002)
                ended: dict[int, dict[str, str]] = {}
                for kind, flags, stream, payload in peer.frames():
                    fields = dict(peer.decoder.decode(payload)) if kind == wire.HEADERS else {}
                    if flags & wire.END_STREAM and kind == wire.HEADERS:
                        ended[stream] = fields
                    if len(ended) == 2:
                        break
                assert [ended[number]["grpc-status"] for number in (1, 3)] == ["0", "0"], at
