"""Everything that one connection sends: within the peer's windows, in turns, and in one write a turn of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from shipworthy.serve.http2 import replies, wire
from shipworthy.serve.http2.limits import Patience
from shipworthy.serve.http2.wire import Code, ConnectionFault

WRITE_BUFFER_BYTES = 1 << 19
"""What may wait in the transport before we stop both to send and to read."""
_TINY = 256


class Half(Protocol):
    """What the outbox keeps for each stream."""

    id: int
    send_window: int
    waiting: deque[memoryview] | None
    """Data that no window has let through yet."""
    ending: bytes
    """The frame that ends the answer, once that is known."""


class Outbox:
    """The sending side of a connection.

    Whoever puts something in does not write it: it goes out with all else of the same turn, at ``flush``. ``wake`` is
    called when the first thing was put in; ``sent`` when the last frame of a stream was.
    """

    def __init__(self, wake: Callable[[], None], sent: Callable[[int], None], patience: Patience) -> None:
        self._wake = wake
        self._sent = sent
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._ready: list[bytes | memoryview] = []
        self._blocked: dict[int, Half] = {}
        self._window = wire.DEFAULT_WINDOW
        self._max_frame = wire.MAX_FRAME
        self.initial_window = wire.DEFAULT_WINDOW
        self.awake = False
        """Whether somebody will call ``flush``."""
        self.paused = False
        """Whether the peer does not take what we write."""
        self.waiting_bytes = 0
        """Answers that no window has let through."""
        self.frames = 0
        """Data frames sent so far."""

    def open(self, transport: asyncio.Transport) -> None:
        """Write to this transport."""
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def close(self) -> None:
        """Forget everything; nothing is written any more."""
        self._transport = None
        self._ready.clear()
        self._blocked.clear()

    @property
    def blocked(self) -> bool:
        """Whether answers wait for the peer."""
        return self.paused or bool(self._blocked)

    def put(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._ready.append(frame)
        if not self.awake:
            self.awake = True
            self._wake()

    def answer(self, half: Half, message: bytes) -> bool:
        """Send a whole answer of one message at once; false, and nothing done, where it may not pass at once."""
        size = len(message) + 5
        if size > self._window or size > half.send_window or size > wire.MAX_FRAME:
            return False
        self._window -= size
        self.put(replies.small(half.id, message))
        return True

    def data(self, half: Half, data: bytes) -> None:
        """Send data as the windows allow."""
        if half.waiting is None:
            half.waiting = deque()
            self._blocked[half.id] = half
        half.waiting.append(memoryview(data))
        self.waiting_bytes += len(data)
        self._pump(half)

    def end(self, half: Half, frame: bytes) -> None:
        """Send the last frame of a stream, after its data."""
        if half.waiting is None:
            self.put(frame)
            self._sent(half.id)
        else:
            half.ending = frame

    def drop(self, half: Half) -> None:
        """Forget what waits of a stream."""
        if half.waiting is not None:
            self.waiting_bytes -= sum(map(len, half.waiting))
            half.waiting = None
            del self._blocked[half.id]

    def grow(self, half: Half | None, increment: int) -> bool:
        """Widen the window of a stream, or with None that of the connection; false where it gets too wide."""
        if (self._window if half is None else half.send_window) + increment > wire.MAX_WINDOW:
            return False
        if half is not None:
            half.send_window += increment
            self._pump(half)
            return True
        self._window += increment
        if self._blocked and not self._pump():
            self._patience.spend()  # to look through all streams is work too
        return True

    def configure(self, found: list[tuple[int, int]], halves: list[Half]) -> None:
        """Keep to the peer's settings; a new initial window also moves those of open streams.

        Raises:
            ConnectionFault: that makes a window too wide.
        """
        for key, value in found:
            if key == wire.MAX_FRAME_SIZE:
                self._max_frame = value
            elif key == wire.INITIAL_WINDOW_SIZE:
                for half in halves:
                    half.send_window += value - self.initial_window
                    if half.send_window > wire.MAX_WINDOW:
                        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window too large")
                self.initial_window = value
        self._pump()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self.paused = True

    def resume(self) -> None:
        """The transport's buffer has room."""
        self.paused = False
        self._pump()

    def flush(self) -> None:
        """Write what is ready."""
        self.awake = False
        ready = self._ready
        if ready and self._transport is not None:
            self._ready = []
            self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))

    def _pump(self, only: Half | None = None) -> bool:
        """Send waiting data of all streams, or of one, a frame of each in turn; whether there was room for any."""
        size = 0
        any_moved = False
        moved = True
        while moved and self._blocked and not self.paused:
            moved = False
            for half in [only] if only else list(self._blocked.values()):
                took = self._one(half) if half.waiting is not None else -1
                moved = moved or took >= 0
                size += max(took, 0)
            any_moved = any_moved or moved
            if size > WRITE_BUFFER_BYTES and self._transport is not None:
                awake, size = self.awake, 0
                self.flush()
                self.awake = awake
        return any_moved

    def _one(self, half: Half) -> int:
        """Send one frame of a stream's data, and its end where that follows: bytes of data sent, -1: it cannot."""
        assert half.waiting is not None  # noqa: S101  for the type checker: it is among the blocked
        took = 0
        if half.waiting:
            part = half.waiting[0]
            took = min(len(part), self._window, half.send_window, self._max_frame)
            if took <= 0:
                return -1
            if took < min(len(part), _TINY):
                self._patience.spend()
            else:
                self._patience.earn()
            self._window -= took
            half.send_window -= took
            self.waiting_bytes -= took
            self.frames += 1
            self.put(wire.frame_header(took, wire.DATA, 0, half.id))
            self._ready.append(part[:took])
            if took == len(part):
                half.waiting.popleft()
            else:
                half.waiting[0] = part[took:]
        if not half.waiting:
            half.waiting = None
            del self._blocked[half.id]
            if half.ending:
                self.put(half.ending)
                self._sent(half.id)
        return took
