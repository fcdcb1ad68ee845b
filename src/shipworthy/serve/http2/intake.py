"""What the peer may send: windows that bound the memory that one connection can fill."""

from __future__ import annotations

from collections.abc import Callable

from shipworthy.serve.http2 import wire
from shipworthy.serve.http2.limits import Limits
from shipworthy.serve.http2.stream import Stream
from shipworthy.serve.http2.wire import Code, ConnectionFault, StreamFault


class Intake:
    """The receiving side of flow control.

    The connection's window is always given back: it bounds what is on the way. A stream's window is given back too, but a
    message larger than that window must first have its whole size set aside, out of ``message_bytes`` for the connection;
    else its stream waits until another is through. So many large messages at once come one after the other, and none
    waits for ever.
    """

    def __init__(self, limits: Limits, put: Callable[[bytes], None]) -> None:
        self._limits = limits
        self._put = put
        self._window = limits.connection_window
        self._reserved = 0
        self._queue: dict[int, Stream] = {}

    def take(self, length: int) -> None:
        """Count the bytes of a DATA frame, padding and all, of any stream.

        Raises:
            ConnectionFault: the peer had no right to send them.
        """
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self._window < self._limits.connection_window // 2:
            self._put(wire.window_update(0, self._limits.connection_window - self._window))
            self._window = self._limits.connection_window

    def count(self, stream: Stream, length: int) -> None:
        """Count the bytes of a DATA frame against its stream.

        Raises:
            StreamFault: the peer had no right to send them.
        """
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise StreamFault(stream.id, Code.FLOW_CONTROL_ERROR)

    def more(self, stream: Stream) -> None:
        """Let the peer send more of a stream, now or when its turn comes."""
        whole = self._limits.stream_window
        if stream.over or stream.receive_window > whole // 2:
            return
        size = stream.inbox.size if stream.inbox else 0
        if size > whole and not stream.reserved:
            if self._reserved and self._reserved + size > self._limits.message_bytes:
                self._queue[stream.id] = stream
                return
            self._reserved += size
            stream.reserved = size
        self._put(wire.window_update(stream.id, whole - stream.receive_window))
        stream.receive_window = whole

    def release(self, stream: Stream) -> None:
        """The stream's message is through, or the stream has gone: whoever waited for its place has it."""
        self._queue.pop(stream.id, None)
        if not stream.reserved:
            return
        self._reserved -= stream.reserved
        stream.reserved = 0
        for waiting in list(self._queue.values()):
            self.more(waiting)
            if not waiting.reserved:
                return
            del self._queue[waiting.id]
