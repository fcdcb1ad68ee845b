"""A connection of HTTP/2 that speaks gRPC: its frames, settings, pings and its end."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol, cast

from shipworthy.serve.calls import Services
from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.heads import Heads
from shipworthy.serve.http2.limits import Limits, Patience
from shipworthy.serve.http2.outbox import Outbox
from shipworthy.serve.http2.stream import StreamOf
from shipworthy.serve.http2.streams import Streams
from shipworthy.serve.http2.wire import Code, ConnectionFault, StreamFault

log = logging.getLogger(__name__)

_NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 51\r\nconnection: close\r\n\r\n"
    b"this port answers gRPC over HTTP/2; use the other.\n"
)
_FAREWELL = b"farewell"
_FAREWELL_SECONDS = 1.0


class Crowd(Protocol):
    """What a connection needs of the lane it is one of."""

    connections: set[GrpcProtocol]
    stream_of: StreamOf

    def left(self, connection: GrpcProtocol) -> None:
        """Forget a connection that has closed."""
        ...

    def wake(self, connection: GrpcProtocol) -> None:
        """Call the connection's ``flush`` in the next turn of the loop."""
        ...


class GrpcProtocol(asyncio.Protocol):
    """One connection. Nothing that a peer sends raises out of it."""

    def __init__(self, services: Services, limits: Limits, crowd: Crowd) -> None:
        self._crowd = crowd
        self._limits = limits
        self._patience = Patience()
        self._outbox = Outbox(self._wake, self._sent, self._patience)
        self._streams = Streams(services, limits, self._outbox, self._patience, self._set_alarm, crowd.stream_of)
        self._heads = Heads(limits.header_bytes)
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._rest = b""
        self._greeted = False
        self._only = wire.SETTINGS  # the one kind of frame that may come now; -1: any
        self._block = b""
        self._block_of = 0
        self._block_ends = False
        self._leaving = False  # once nothing is open any more, we close
        self._closed = False
        self._progress = 0
        self._seen = -1
        self._still = 0.0  # seconds for which nothing has moved
        self._slow = -1  # the stream whose head was not whole when we looked last; 0: the greeting
        self._called = -1  # the last stream that had been opened when we looked last
        self._idle = 0.0  # seconds for which there has been none

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        self._outbox.open(self._transport)
        self._crowd.connections.add(self)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The peer has gone: all calls are cancelled."""
        self._closed = True
        for timer in (self._alarm, self._watch, self._farewell):
            if timer:
                timer.cancel()
        self._streams.cancel_all()
        self._outbox.close()
        self._crowd.left(self)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes, and write at once whatever they bring about."""
        if self._closed:
            return
        self._progress += 1
        self._outbox.awake = True
        try:
            self._read(self._rest + data if self._rest else data)
            if self._patience.left < 0:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames without use")  # noqa: TRY301
        except ConnectionFault as fault:
            self._cut(fault)
        self.flush()

    def pause_writing(self) -> None:
        """The peer does not read: its requests wait in the kernel too, or their answers would pile up here."""
        self._outbox.pause()
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._progress += 1
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()
            self._outbox.resume()

    # The lane

    def flush(self) -> None:
        """Write what is ready; close where that was the last."""
        self._outbox.flush()
        if self._leaving and not self._closed and not self._streams.open:
            self._close()

    def shutdown(self) -> None:
        """Take no new calls, finish those that are open, then close (RFC 9113, 6.8).

        The first GOAWAY only announces: calls that cross it on the way are still taken, until the peer has surely seen it.
        """
        if self._closed or self._farewell:
            return
        if not self._greeted:
            self._close()
            return
        self._outbox.put(wire.goaway(wire.MAX_STREAM, Code.NO_ERROR) + wire.frame(wire.PING, 0, 0, _FAREWELL))
        self._farewell = asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self._last_call)

    def _last_call(self) -> None:
        """The peer knows that we leave: what it begins from now on, it may safely begin elsewhere."""
        if not self._leaving:
            self._leaving = True
            self._streams.final = self._streams.last
            self._outbox.put(wire.goaway(self._streams.last, Code.NO_ERROR))

    # Reading

    def _read(self, data: bytes) -> None:
        """Take every whole frame; keep the rest."""
        at, size = 0, len(data)
        if not self._greeted:
            at = self._greet(data)
            if not self._greeted:
                self._rest = data
                return
        streams = self._streams
        while size - at >= wire.HEADER_BYTES and not self._closed:
            high, low, kind, flags, stream = wire.read_header(data, at)
            start = at + wire.HEADER_BYTES
            end = start + (high << 8 | low)
            if end - start > wire.MAX_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "the frame is larger than our MAX_FRAME_SIZE")
            if self._only >= 0 and kind != self._only:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"frame of type {kind}, where only {self._only} may come")
            if end > size:
                break
            at = end
            try:
                if kind == wire.DATA and not flags & wire.PADDED:
                    streams.data(stream & wire.MAX_STREAM, data, start, end, end - start, flags & wire.END_STREAM)
                elif kind == wire.HEADERS:
                    self._on_headers(flags, stream & wire.MAX_STREAM, data[start:end])
                elif kind in _ON:
                    _ON[kind](self, flags, stream & wire.MAX_STREAM, data[start:end])
                else:
                    self._patience.spend()
            except StreamFault as fault:
                streams.fault(fault)
        self._rest = data[at:] if at < size else b""

    def _greet(self, data: bytes) -> int:
        """Take the preface, and say our settings: where the frames begin."""
        if data[: len(wire.PREFACE)] != wire.PREFACE[: len(data)]:
            if self._transport:
                self._transport.write(_NOT_HTTP2)
            self._close()
            return 0
        if len(data) < len(wire.PREFACE):
            return 0
        self._greeted = True
        limits = self._limits
        self._outbox.put(
            wire.settings(
                {
                    wire.MAX_CONCURRENT_STREAMS: limits.streams,
                    wire.INITIAL_WINDOW_SIZE: limits.stream_window,
                    wire.MAX_HEADER_LIST_SIZE: limits.header_bytes,
                }
            )
            + wire.window_update(0, limits.connection_window - wire.DEFAULT_WINDOW)
        )
        return len(wire.PREFACE)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        """Padded data."""
        plain = wire.without_padding(payload)
        self._streams.data(stream, plain, 0, len(plain), len(payload), flags & wire.END_STREAM)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & wire.PADDED:
            payload = wire.without_padding(payload)
        if flags & wire.PRIORITIZED:
            if len(payload) < 5:  # noqa: PLR2004  # a stream and a weight
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            payload = payload[5:]
        if stream % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        self._block_of, self._block_ends = stream, bool(flags & wire.END_STREAM)
        if flags & wire.END_HEADERS:
            self._on_block(payload)
        else:
            self._block = payload
            self._only = wire.CONTINUATION

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._only != wire.CONTINUATION or stream != self._block_of:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        self._patience.spend()
        self._block += payload
        if len(self._block) > self._limits.header_bytes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & wire.END_HEADERS:
            self._only = -1
            block, self._block = self._block, b""
            self._on_block(block)

    def _on_block(self, block: bytes) -> None:
        """A whole header block: a new call, or the trailers of one."""
        if len(block) > self._limits.header_bytes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too large")
        if self._block_of > self._streams.last:
            self._streams.begin(self._block_of, self._heads.read(block), ended=self._block_ends)
        else:
            self._streams.trailers(self._block_of, self._heads.skip(block), ended=self._block_ends)

    def _on_priority(self, _flags: int, stream: int, payload: bytes) -> None:
        """Deprecated, and of no use to us (RFC 9113, 5.3.2)."""
        self._patience.spend()
        if stream == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:  # noqa: PLR2004  # a stream and a weight
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY is not five bytes long")

    def _on_reset(self, _flags: int, stream: int, payload: bytes) -> None:
        wire.word(payload)
        self._streams.reset(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & wire.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an ACK of SETTINGS is not empty")
            if self._only == wire.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame acknowledges")
            return
        self._only = -1
        self._patience.spend()
        self._outbox.configure(wire.read_settings(payload), list(self._streams.open.values()))
        self._outbox.put(wire.frame(wire.SETTINGS, wire.ACK, 0))

    def _on_push_promise(self, _flags: int, _stream: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client may not promise")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:  # noqa: PLR2004  # as the protocol has it
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is not eight bytes long")
        if not flags & wire.ACK:
            self._patience.spend()
            self._outbox.put(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif payload == _FAREWELL and self._farewell:
            self._last_call()

    def _on_goaway(self, _flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:  # noqa: PLR2004  # a stream and a code
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._leaving = True

    def _on_window_update(self, _flags: int, stream: int, payload: bytes) -> None:
        increment = wire.word(payload)
        if stream:
            self._streams.expect_used(stream)
        half = self._streams.open.get(stream)
        if stream and half is None:
            return  # it has closed in the meantime
        code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
        if not increment or not self._outbox.grow(half, increment):
            if half:
                raise StreamFault(stream, code)
            raise ConnectionFault(code, "the connection's window is opened by nothing, or too far")

    # Timers and the end

    def _look(self) -> None:
        """From time to time: cut a connection on which something is due and nothing moves, say good-bye on an idle one."""
        due = not self._greeted or self._rest or self._only >= 0 or self._outbox.blocked or self._streams.stuck or self._closed
        turn = min(self._limits.head_seconds, self._limits.stall_seconds)
        seen, slow = self._progress + self._outbox.frames, self._heading()
        self._still = self._still + turn if due and seen == self._seen else 0.0
        if self._still >= self._limits.stall_seconds or (slow >= 0 and slow == self._slow):
            log.info("a connection is cut: nothing moved on it for %g s, or a head did not end", self._still)
            if self._transport:
                self._transport.abort()
            return
        calling = bool(self._streams.open) or self._called != self._streams.last
        self._idle = 0.0 if calling else self._idle + turn
        self._seen, self._slow, self._called = seen, slow, self._streams.last
        if self._idle >= self._limits.idle_seconds:
            self.shutdown()
        self._watch = asyncio.get_running_loop().call_later(turn, self._look)

    def _heading(self) -> int:
        """The stream whose headers have begun and not ended; 0: the greeting has not ended; -1: nothing of the kind."""
        if not self._greeted or self._only == wire.SETTINGS:
            return 0
        if self._only == wire.CONTINUATION:
            return self._block_of
        if len(self._rest) >= wire.HEADER_BYTES and self._rest[3] == wire.HEADERS:
            return int.from_bytes(self._rest[5:9], "big") & wire.MAX_STREAM
        return -1

    def _set_alarm(self, at_ns: int) -> None:
        """Wake up when the next deadline passes."""
        if self._alarm:
            self._alarm.cancel()
        delay = max(0, at_ns - time.monotonic_ns()) / 1e9
        self._alarm = asyncio.get_running_loop().call_later(delay, self._streams.expire)

    def _wake(self) -> None:
        self._crowd.wake(self)

    def _sent(self, number: int) -> None:
        self._streams.sent(number)

    def _cut(self, fault: ConnectionFault) -> None:
        """End the connection for what the peer did."""
        log.info("a connection is cut: %s (%s)", fault.why, fault.code.name)
        self._outbox.put(wire.goaway(self._streams.last, fault.code, fault.why))
        self._streams.cancel_all()
        self._outbox.flush()
        self._close()

    def _close(self) -> None:
        """Write what is in the transport, then close; a peer that does not read is cut off."""
        self._closed = True
        if self._transport is None:
            return
        if self._outbox.paused:
            self._transport.abort()
        else:
            self._transport.close()


_ON = {
    wire.DATA: GrpcProtocol._on_data,  # noqa: SLF001
    wire.PRIORITY: GrpcProtocol._on_priority,  # noqa: SLF001
    wire.RST_STREAM: GrpcProtocol._on_reset,  # noqa: SLF001
    wire.SETTINGS: GrpcProtocol._on_settings,  # noqa: SLF001
    wire.PUSH_PROMISE: GrpcProtocol._on_push_promise,  # noqa: SLF001
    wire.PING: GrpcProtocol._on_ping,  # noqa: SLF001
    wire.GOAWAY: GrpcProtocol._on_goaway,  # noqa: SLF001
    wire.WINDOW_UPDATE: GrpcProtocol._on_window_update,  # noqa: SLF001
    wire.CONTINUATION: GrpcProtocol._on_continuation,  # noqa: SLF001
}
"""What each type of frame does."""
