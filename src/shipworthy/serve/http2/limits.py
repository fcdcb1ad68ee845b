"""What one connection may ask of us."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection; together they bound its memory.

    At most ``streams`` x ``stream_window`` + 2 x ``message_bytes`` are held of what came in, and ``send_bytes`` and one
    answer of what goes out.
    """

    message_bytes: int = 64_000_000
    """Largest message of a client, also after decompression."""
    streams: int = 256
    """Calls that one connection may have open at a time."""
    stream_window: int = 1 << 18
    """Bytes of one call that may be under way before we allow more; at least 65,535, which a client may always send."""
    connection_window: int = 1 << 24
    """Bytes of all calls that may be under way."""
    send_bytes: int = 64_000_000
    """Bytes of answers that may wait for a client that reads slowly; beyond them further answers are errors."""
    header_bytes: int = 16384
    """Largest header block, packed and unpacked (RFC 9113, 6.5.2: each field counts 32 more than its text)."""
    head_seconds: float = 10.0
    """How long the greeting may take, and the header block of a request, which is looked at as often: twice that at most."""
    stall_seconds: float = 60.0
    """How long a half-sent request, or an answer that is not read, may stand still before the connection is cut."""
    idle_seconds: float = 75.0
    """How long a connection without a call is kept, whatever else comes on it; it is looked at as often as heads are, and
    so kept for two looks more at most. Longer than the minute for which load balancers keep theirs, as over HTTP/1.1."""


class Patience:
    """How many frames without use, and calls taken back at once, a connection may send before it has to calm down.

    A sum of money, not a rate: 1,000 to begin with, one more for each useful thing, and 100 a second.
    """

    __slots__ = ("_at", "left")

    MOST = 1000
    PER_SECOND = 100

    def __init__(self) -> None:
        self.left = self.MOST
        self._at = time.monotonic()

    def earn(self) -> None:
        """Something useful was done."""
        if self.left < self.MOST:
            self.left += 1

    def spend(self) -> bool:
        """Something useless was asked; false when that was once too often."""
        self.left -= 1
        if self.left < 0:
            now = time.monotonic()
            self.left = min(self.MOST, int((now - self._at) * self.PER_SECOND)) - 1
            self._at = now
        return self.left >= 0
