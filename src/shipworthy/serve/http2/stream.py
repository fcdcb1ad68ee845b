"""One stream of a connection, which is one call of a service."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from shipworthy.serve.calls import Status, Streaming, Unary
from shipworthy.serve.http2.heads import Head
from shipworthy.serve.http2.messages import Inbox
from shipworthy.serve.note import Note


class Connection(Protocol):
    """What a call needs of its connection."""

    def send(self, stream: Stream, message: bytes) -> None:
        """Send one message of an answer that goes on."""
        ...

    def finish(self, stream: Stream, message: bytes | None, status: Status, text: str) -> None:
        """Send the rest of an answer."""
        ...


class StreamOf(Protocol):
    """Makes the stream of a new call."""

    def __call__(self, connection: Connection, number: int, head: Head, send_window: int, receive_window: int, /) -> Stream:
        """As ``Stream`` does."""
        ...


class Stream:
    """A call (``calls.Call``) and the state of its two directions.

    The client's half: ``ended`` when it has sent all; ``receive_window`` is what it may still send; ``inbox`` exists once
    a message comes in parts. Ours: ``opened`` once headers are out, ``over`` once the answer is settled, ``waiting`` and
    ``ending`` belong to the outbox.
    """

    __slots__ = (
        "_connection", "deadline_ns", "ended", "ending", "head", "id", "inbox", "message", "metadata", "on_cancel", "opened",
        "over", "receive_window", "received", "reserved", "send_window", "service", "unary", "waiting",
    )  # fmt: skip

    note: Note | None = None
    fields = b""
    """Header fields of the answer beside the usual ones, as HPACK has them."""

    def __init__(self, connection: Connection, number: int, head: Head, send_window: int, receive_window: int) -> None:
        self._connection = connection
        self.id = number
        self.head = head
        self.metadata = head.metadata
        self.send_window = send_window
        self.receive_window = receive_window
        self.deadline_ns = 0
        self.on_cancel: Callable[[], None] | None = None
        self.unary: Unary | None = None
        self.service: Streaming | None = None
        self.message: bytes | None = None
        self.inbox: Inbox | None = None
        self.received = 0
        self.reserved = 0
        self.waiting: deque[memoryview] | None = None
        self.ending = b""
        self.ended = self.opened = self.over = False

    def send(self, message: bytes) -> None:
        """Send one message of the answer; the call stays open."""
        if not self.over:
            self._connection.send(self, message)

    def finish(self, message: bytes | None = None, status: Status = Status.OK, text: str = "") -> None:
        """Send the last message, if there is one, and the status; the call is over."""
        if not self.over:
            self.over = True
            self._connection.finish(self, message, status, text)

    def cancel(self) -> None:
        """The client has gone; nothing is sent any more."""
        self.over = True
