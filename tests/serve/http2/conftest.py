"""A peer that speaks raw frames to one connection in memory, and the services that it calls."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator

import hpack
import pytest

from shipworthy.errors import NotFound
from shipworthy.serve.http2 import Limits, lane, wire

Frame = tuple[int, int, int, bytes]


class Chat:
    """Echoes each message; says good-bye after the last."""

    def __init__(self, call):
        self.call = call

    def message(self, message):
        self.call.send(message)

    def half_closed(self):
        self.call.finish(b"bye")


class Services:
    """What the tests call. Calls of ``/t/Held`` stay open in ``held``; ``cancelled`` counts those taken back."""

    def __init__(self):
        self.held = []
        self.cancelled = 0
        self.taken = 0
        self.unary = {
            "/t/Echo": self.echo,
            "/t/Held": self.hold,
            "/t/Refuse": self.refuse,
            "/t/Break": self.fail,
            "/t/Big": lambda call, message: call.finish(bytes(int(message))),
        }
        self.streaming = {"/t/Chat": Chat, "/t/Listen": self.listen}

    def echo(self, call, message):
        self.taken += 1
        call.finish(message)

    def hold(self, call, message):
        call.on_cancel = self.cancel
        self.held.append((call, message))

    def cancel(self):
        self.cancelled += 1

    def refuse(self, _call, _message):
        raise NotFound("no such model: 100 %", next="look\naround")

    def fail(self, _call, _message):
        raise ValueError("secret")

    def listen(self, call):
        self.held.append((call, b""))
        call.on_cancel = self.cancel
        return Chat(call)


class Transport(asyncio.Transport):
    """Keeps what is written; ``full`` makes it behave as one whose peer does not read."""

    def __init__(self):
        super().__init__()
        self.out = bytearray()
        self.writes = 0
        self.closed = self.aborted = self.reading_paused = False

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def write(self, data):
        assert data
        if not self.closed:
            self.out += data
            self.writes += 1

    def pause_reading(self):
        self.reading_paused = True

    def resume_reading(self):
        self.reading_paused = False

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True


class Peer:
    """The client's end of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.loop = loop
        self.services = Services()
        self.lane = lane(self.services, limits)
        self.transport = Transport()
        self.protocol = self.lane()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.run(lambda: self.protocol.connection_made(self.transport))

    def run(self, deed: Callable[[], object]) -> None:
        """Do something in the loop, and let it turn."""

        async def inside() -> None:
            deed()
            for _ in range(3):
                await asyncio.sleep(0)

        self.loop.run_until_complete(inside())

    def send(self, *frames: bytes) -> list[Frame]:
        """Send bytes in one piece: the frames that come back."""
        self.run(lambda: self.protocol.data_received(b"".join(frames)))
        return self.take()

    def greet(self, settings: dict[int, int] | None = None) -> list[Frame]:
        return self.send(wire.PREFACE, wire.settings(settings or {}))

    def take(self) -> list[Frame]:
        """The frames written since the last time."""
        found, at, out = [], 0, bytes(self.transport.out)
        while at < len(out):
            length, kind, flags = int.from_bytes(out[at : at + 3], "big"), out[at + 3], out[at + 4]
            number = struct.unpack_from(">I", out, at + 5)[0]
            assert at + 9 + length <= len(out), "half a frame was written"
            found.append((kind, flags, number, out[at + 9 : at + 9 + length]))
            at += 9 + length
        self.transport.out.clear()
        return found

    def block(self, path: str = "/t/Echo", **more: str) -> bytes:
        """A header block; ``_`` in names of more fields stands for ``-``."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "here",
            "te": "trailers",
            "content-type": "application/grpc",
        } | {name.replace("_", "-"): text for name, text in more.items()}
        return self.encoder.encode([(name, text) for name, text in fields.items() if text])

    def begin(self, number: int, path: str = "/t/Echo", flags: int = 0, **more: str) -> bytes:
        return wire.frame(wire.HEADERS, wire.END_HEADERS | flags, number, self.block(path, **more))

    def call(self, number: int, path: str = "/t/Echo", message: bytes = b"hello", **more: str) -> bytes:
        """A whole unary call."""
        return self.begin(number, path, **more) + data(number, grpc(message))

    def answer(self, frames: list[Frame], number: int = 1) -> tuple[bytes, dict[str, str]]:
        """The data and all header fields that came on a stream."""
        body, fields = b"", {}
        for kind, _, stream, payload in frames:
            if kind == wire.HEADERS:
                found = dict(self.decoder.decode(payload))
                if stream == number:
                    fields |= found
            elif kind == wire.DATA and stream == number:
                body += payload
        return body, fields


def grpc(message: bytes, flag: int = 0) -> bytes:
    """A message with its prefix."""
    return struct.pack(">BI", flag, len(message)) + message


def data(number: int, payload: bytes, flags: int = wire.END_STREAM, size: int = wire.MAX_FRAME) -> bytes:
    """Data, in as many frames as it needs."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    *first, last = parts
    return b"".join(wire.frame(wire.DATA, 0, number, part) for part in first) + wire.frame(wire.DATA, flags, number, last)


def only(frames: list[Frame], *kinds: int) -> list[Frame]:
    return [one for one in frames if one[0] in kinds]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def new_peer(loop):
    """Makes peers, and hangs up for them at the end."""
    made: list[Peer] = []

    def new(greeted: bool = True, settings: dict[int, int] | None = None, **limits: float) -> Peer:
        made.append(Peer(loop, Limits(**limits)))
        if greeted:
            made[-1].greet(settings)
        return made[-1]

    yield new
    for peer in made:
        peer.run(lambda peer=peer: peer.protocol.connection_lost(None))
        assert not peer.lane.connections


@pytest.fixture
def peer(new_peer) -> Peer:
    return new_peer()


@pytest.fixture
def tools():
    """The helpers above, for tests in other files."""

    class Tools:
        pass

    Tools.grpc, Tools.data, Tools.only = staticmethod(grpc), staticmethod(data), staticmethod(only)
    return Tools
