"""The seam between the gRPC lane and the services: what a call is, and what answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Protocol

from shipworthy.errors import ShipworthyError
from shipworthy.serve.note import Note
from shipworthy.serve.wording import sentence


class Status(IntEnum):
    """The gRPC status codes that we send (grpc.io, Status codes and their use in gRPC)."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


OF_HTTP = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    413: Status.RESOURCE_EXHAUSTED,
    415: Status.UNIMPLEMENTED,
    501: Status.UNIMPLEMENTED,
    503: Status.UNAVAILABLE,
}


class Call(Protocol):
    """One call from one client. Everything happens in the loop's thread; after the end, further words are dropped."""

    metadata: Mapping[str, str]
    deadline_ns: int
    """Of ``time.monotonic_ns``; 0: the client set none."""
    on_cancel: Callable[[], None] | None
    """Called when the client has gone or its deadline has passed; set by whoever works on the call."""

    @property
    def note(self) -> Note | None:
        """What is kept of the call; ``None``: nothing."""
        ...

    def send(self, message: bytes) -> None:
        """Send one message of the answer; the call stays open (streaming answers)."""
        ...

    def finish(self, message: bytes | None = None, status: Status = Status.OK, text: str = "") -> None:
        """Send the last message, if there is one, and the status; the call is over."""
        ...


class Streaming(Protocol):
    """The server's half of a call whose client may send several messages."""

    def message(self, message: bytes) -> None:
        """Take the next message."""
        ...

    def half_closed(self) -> None:
        """The client sends no more; the answer may go on."""
        ...


Unary = Callable[[Call, bytes], None]
Bidirectional = Callable[[Call], Streaming]


class Services(Protocol):
    """Every method by its path, ``/package.Service/Method``."""

    @property
    def unary(self) -> Mapping[str, Unary]:
        """Methods whose client sends one message."""
        ...

    @property
    def streaming(self) -> Mapping[str, Bidirectional]:
        """Methods whose client may send several."""
        ...


def refuse(call: Call, error: ShipworthyError) -> None:
    """End a call with one of our errors."""
    call.finish(None, OF_HTTP.get(error.http_status, Status.INTERNAL), sentence(error))
