"""All calls of one connection: from frames to services and back."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from shipworthy.errors import ShipworthyError
from shipworthy.serve.calls import Bidirectional, Services, Status, refuse
from shipworthy.serve.http2 import replies, wire
from shipworthy.serve.http2.heads import Head, well_formed
from shipworthy.serve.http2.intake import Intake
from shipworthy.serve.http2.limits import Limits, Patience
from shipworthy.serve.http2.messages import PREFIX_BYTES, Inbox, MessageFault
from shipworthy.serve.http2.outbox import Outbox
from shipworthy.serve.http2.stream import Stream, StreamOf
from shipworthy.serve.http2.wire import Code, ConnectionFault, StreamFault

log = logging.getLogger(__name__)

_SMALL = 256
_ONE_MESSAGE = (Status.UNIMPLEMENTED, "this method takes exactly one message")


class Streams:
    """The open streams by number, what becomes of their data, and how their answers leave.

    ``alarm`` is called with the ``time.monotonic_ns`` at which ``expire`` is to be called.
    """

    def __init__(
        self,
        services: Services,
        limits: Limits,
        outbox: Outbox,
        patience: Patience,
        alarm: Callable[[int], None],
        stream_of: StreamOf = Stream,
    ) -> None:
        self._stream_of = stream_of
        self._services = services
        self._limits = limits
        self._outbox = outbox
        self._intake = Intake(limits, outbox.put)
        self._patience = patience
        self._alarm = alarm
        self._alarm_ns = 0
        self.open: dict[int, Stream] = {}
        self.last = 0
        """The highest number that the peer has used."""
        self.final = wire.MAX_STREAM
        """The highest number that is still worked on."""
        # Which of the closed streams' frames are an error depends on how they closed; of old ones nobody knows any more.
        self._ended: deque[int] = deque(maxlen=128)
        self._abandoned: deque[int] = deque(maxlen=2 * limits.streams)

    # From the peer

    def begin(self, number: int, head: Head, *, ended: bool) -> None:
        """Open a stream with its request's headers.

        Raises:
            StreamFault: they are malformed, or too many streams are open.
        """
        self.last = number
        if number > self.final:
            self._abandoned.append(number)
            return
        if head.malformed:
            raise StreamFault(number, Code.PROTOCOL_ERROR)
        if len(self.open) >= self._limits.streams:
            raise StreamFault(number, Code.REFUSED_STREAM)
        stream = self._stream_of(self, number, head, self._outbox.initial_window, self._limits.stream_window)
        self.open[number] = stream
        stream.ended = ended
        stream.unary = self._services.unary.get(head.path)
        if head.http_status or head.refused or stream.unary is None or head.timeout_ns:
            self._unusual(stream)
        if ended and not stream.over:
            self._half_closed(stream)

    def data(self, number: int, frame: bytes, start: int, end: int, flow: int, ended: int) -> None:
        """Take ``frame[start:end]`` of a stream; ``flow`` is what it counts in the windows, padding and all.

        Raises:
            ConnectionFault: the stream was never opened, or more came than the connection's window lets through.
            StreamFault: the stream is closed, or more came than its window or its content-length says.
        """
        self._intake.take(flow)
        stream = self.open.get(number)
        if stream is None or stream.ended:
            self._stray(number, stream, flow)
        elif (
            ended
            and stream.inbox is None
            and stream.unary is not None
            and PREFIX_BYTES <= end - start <= self._limits.message_bytes
            and int.from_bytes(frame[start : start + PREFIX_BYTES], "big") == end - start - PREFIX_BYTES
            and stream.head.content_length in {-1, end - start}
            and not stream.over
        ):  # a whole message, not compressed, is all there is: nearly every call
            stream.ended = True
            stream.received = flow
            self._guarded(stream, stream.unary, stream, frame[start + PREFIX_BYTES : end])
        else:
            self._intake.count(stream, flow)
            self._part(stream, frame[start:end], ended=bool(ended))

    def trailers(self, number: int, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        """Take a second header block of a stream: the end of the client's half.

        Raises:
            ConnectionFault: the stream is closed, or was never opened.
            StreamFault: the stream is half closed already, or this is no trailer.
        """
        stream = self.open.get(number)
        if stream is None:
            if number not in self._abandoned:
                code = Code.STREAM_CLOSED if number in self._ended else Code.PROTOCOL_ERROR
                raise ConnectionFault(code, "headers of a stream that is closed")
        elif stream.ended:
            raise StreamFault(number, Code.STREAM_CLOSED)
        elif not ended or not well_formed(fields, frozenset()):
            raise StreamFault(number, Code.PROTOCOL_ERROR)
        else:
            self._part(stream, b"", ended=True)

    def reset(self, number: int) -> None:
        """The peer takes a call back.

        Raises:
            ConnectionFault: it was never opened.
        """
        self.expect_used(number)
        stream = self.open.get(number)
        if stream is not None:
            if not stream.over:
                self._patience.spend()
            self._ended.append(number)
            self._cancel(stream)

    def expect_used(self, number: int) -> None:
        """Refuse a frame of a stream that was never opened.

        Raises:
            ConnectionFault: it was not.
        """
        if number > self.last or number % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that is not open")

    def fault(self, fault: StreamFault) -> None:
        """Reset a stream whose rules the peer broke."""
        self._patience.spend()
        self._outbox.put(wire.reset(fault.stream, fault.code))
        self._abandoned.append(fault.stream)
        if stream := self.open.get(fault.stream):
            self._cancel(stream)

    def cancel_all(self) -> None:
        """The peer has gone."""
        for stream in list(self.open.values()):
            self._cancel(stream)

    def expire(self) -> None:
        """End the calls whose deadline has passed, and ask for the next alarm."""
        now = time.monotonic_ns()
        for stream in list(self.open.values()):
            if 0 < stream.deadline_ns <= now and not stream.over:
                self._break(stream, Status.DEADLINE_EXCEEDED, "the deadline that the client set has passed")
        self._alarm_ns = min((one.deadline_ns for one in self.open.values() if one.deadline_ns and not one.over), default=0)
        if self._alarm_ns:
            self._alarm(self._alarm_ns)

    @property
    def stuck(self) -> bool:
        """Whether part of a message waits for the rest."""
        return any(one.inbox is not None and one.inbox.held and not one.over for one in self.open.values())

    # From the services

    def send(self, stream: Stream, message: bytes) -> None:
        """Send one message of an answer; where too much waits already, end the call instead."""
        if self._waits_too_much(message):
            self._break(stream, Status.RESOURCE_EXHAUSTED, "the client does not read its answers fast enough")
            return
        self._patience.earn()
        if not stream.opened:
            stream.opened = True
            self._outbox.put(replies.head(stream.id, stream.fields))
        self._outbox.data(stream, b"\0" + len(message).to_bytes(4, "big") + message)

    def finish(self, stream: Stream, message: bytes | None, status: Status, text: str) -> None:
        """Send the rest of an answer."""
        self._patience.earn()
        if message is not None:
            if not status and not stream.opened and not stream.fields and self._outbox.answer(stream, message):
                self.sent(stream.id)
                return
            if self._waits_too_much(message):
                status, text = Status.RESOURCE_EXHAUSTED, "the client does not read its answers fast enough"
            else:
                self.send(stream, message)
        self._outbox.end(stream, replies.end(stream.id, status, text, None if stream.opened else stream.fields))

    def sent(self, number: int) -> None:
        """The last frame of an answer is out: the stream is closed."""
        stream = self.open.pop(number)
        if stream.ended:
            self._ended.append(number)
        else:  # the client need not send the rest
            self._abandoned.append(number)
            self._outbox.put(wire.reset(number, Code.NO_ERROR))
        if stream.inbox is not None:
            self._intake.release(stream)

    # Within

    def _unusual(self, stream: Stream) -> None:
        """All that a plain unary call does not need when it begins."""
        head = stream.head
        if head.http_status:
            stream.over = True
            block, body = replies.plain(head.http_status, b"this port answers gRPC over HTTP/2 only\n")
            self._outbox.put(wire.frame(wire.HEADERS, wire.END_HEADERS, stream.id, block))
            stream.opened = True
            self._outbox.data(stream, body)
            self._outbox.end(stream, wire.frame(wire.DATA, wire.END_STREAM, stream.id))
            return
        if head.refused:
            stream.finish(None, *head.refused)
            return
        if head.timeout_ns:
            stream.deadline_ns = time.monotonic_ns() + head.timeout_ns
            if not self._alarm_ns or stream.deadline_ns < self._alarm_ns:
                self._alarm_ns = stream.deadline_ns
                self._alarm(stream.deadline_ns)
        if stream.unary is None:
            bidirectional = self._services.streaming.get(head.path)
            if bidirectional is None:
                stream.finish(None, Status.UNIMPLEMENTED, f"there is no method {head.path[:200]}")
            else:
                self._guarded(stream, self._join, stream, bidirectional)

    def _join(self, stream: Stream, bidirectional: Bidirectional) -> None:
        stream.service = bidirectional(stream)

    def _part(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        """Take some data of a stream, the last of it perhaps, and hand on what messages it completes."""
        stream.ended = ended
        stream.received += len(data)
        length = stream.head.content_length
        if 0 <= length < stream.received or (ended and 0 <= length != stream.received):
            raise StreamFault(stream.id, Code.PROTOCOL_ERROR)
        if stream.over:
            return
        if len(data) < _SMALL and not ended:
            self._patience.spend()
        if stream.inbox is None:
            stream.inbox = Inbox(self._limits.message_bytes, gzip=stream.head.gzip)
        try:
            messages = stream.inbox.feed(data)
        except MessageFault as fault:
            self._break(stream, fault.status, fault.why)
            return
        for message in messages:
            self._message(stream, message)
        if stream.message is not None and stream.inbox.begun:
            self._break(stream, *_ONE_MESSAGE)
        elif ended:
            self._half_closed(stream)
        else:
            self._intake.more(stream)

    def _message(self, stream: Stream, message: bytes) -> None:
        self._patience.earn()
        if stream.service is not None:
            self._intake.release(stream)
            if not stream.over:
                self._guarded(stream, stream.service.message, message)
        elif stream.message is None:
            stream.message = message
        else:
            self._break(stream, *_ONE_MESSAGE)

    def _half_closed(self, stream: Stream) -> None:
        """The client's half is complete."""
        if stream.over:
            return
        if stream.inbox is not None and stream.inbox.begun:
            self._break(stream, Status.INTERNAL, "the last message is cut off")
        elif stream.service is not None:
            self._guarded(stream, stream.service.half_closed)
        elif stream.unary is None or stream.message is None:
            self._break(stream, *_ONE_MESSAGE)
        else:
            message, stream.message = stream.message, None
            self._intake.release(stream)
            self._guarded(stream, stream.unary, stream, message)

    def _guarded(self, stream: Stream, service: Callable[..., None], *arguments: object) -> None:
        """Call a service; whatever it raises ends this call and no other."""
        try:
            service(*arguments)
        except ShipworthyError as error:
            refuse(stream, error)
        except Exception:
            log.exception("a service failed: %s", stream.head.path)
            self._break(stream, Status.INTERNAL, "the server failed; its log says why")

    def _break(self, stream: Stream, status: Status, text: str) -> None:
        """End a call that a service may be working on."""
        stream.finish(None, status, text)
        self._tell(stream)

    def _cancel(self, stream: Stream) -> None:
        """Forget a stream; nothing is sent for it any more."""
        self.open.pop(stream.id, None)  # a service that was told may have ended others
        self._outbox.drop(stream)
        self._intake.release(stream)
        if not stream.over:
            stream.cancel()
            self._tell(stream)

    def _tell(self, stream: Stream) -> None:
        """Tell whoever works on a call that nobody waits for it."""
        told, stream.on_cancel = stream.on_cancel, None
        if told is not None:
            self._guarded(stream, told)

    def _stray(self, number: int, stream: Stream | None, flow: int) -> None:
        """Data of a stream that is closed: the rest of one that we closed first is nobody's fault."""
        self.expect_used(number)
        if flow < _SMALL:
            self._patience.spend()
        if stream is not None or number not in self._abandoned:
            raise StreamFault(number, Code.STREAM_CLOSED)

    def _waits_too_much(self, message: bytes) -> bool:
        waiting = self._outbox.waiting_bytes
        return waiting > 0 and waiting + len(message) > self._limits.send_bytes
