"""gRPC's messages within the bytes of a stream: a flag, four bytes of length, and that many bytes."""

from __future__ import annotations

import zlib

from shipworthy.serve.calls import Status

PREFIX_BYTES = 5
_SMALL = 1024


class MessageFault(Exception):
    """The call cannot go on: its status and why."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Inbox:
    """The incoming messages of one call. Parts are joined once, when the last has come."""

    __slots__ = ("_gzip", "_limit", "_parts", "compressed", "held", "size")

    def __init__(self, limit_bytes: int, *, gzip: bool) -> None:
        self._limit = limit_bytes
        self._gzip = gzip
        self._parts: list[bytes | bytearray] = []
        self.held = 0
        """Bytes that wait for the rest of their message."""
        self.size = -1
        """Of the message under way, without its prefix; -1: not known yet."""
        self.compressed = False

    @property
    def begun(self) -> bool:
        """Whether part of a message has come and the rest has not."""
        return self.held > 0 or self.size >= 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; the messages that they complete.

        Raises:
            MessageFault: a message is too large, its flag is unknown, or it cannot be decompressed.
        """
        done: list[bytes] = []
        while True:
            if self.size < 0:
                if self._parts:
                    data = b"".join((*self._parts, data))
                    self._parts, self.held = [], 0
                if len(data) < PREFIX_BYTES:
                    self._keep(data)
                    return done
                self._open(data)
                data = data[PREFIX_BYTES:]
            missing = self.size - self.held
            if len(data) < missing:
                self._keep(data)
                return done
            self._parts.append(data[:missing])
            done.append(self._close())
            data = data[missing:]

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self.held += len(data)
        if len(data) >= _SMALL:
            self._parts.append(data)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += data  # an object for each byte would be many times what the client sent
        else:
            self._parts.append(bytearray(data))

    def _open(self, data: bytes) -> None:
        """Read a prefix."""
        flag, self.size = data[0], int.from_bytes(data[1:PREFIX_BYTES], "big")
        if flag > 1:
            raise MessageFault(Status.INTERNAL, f"a message's compression flag is {flag}; 0 or 1 was expected")
        if flag and not self._gzip:
            raise MessageFault(Status.INTERNAL, "a message is compressed, but grpc-encoding does not say how")
        if self.size > self._limit:
            raise _too_large(f"a message of {self.size} bytes", self._limit)
        self.compressed = bool(flag)

    def _close(self) -> bytes:
        message = b"".join(self._parts)
        self._parts, self.held, self.size = [], 0, -1
        return gunzip(message, self._limit) if self.compressed else message


def gunzip(message: bytes, limit_bytes: int) -> bytes:
    """What a gzip stream holds; stops unpacking where that is more than the limit.

    Raises:
        MessageFault: too large, or not gzip, or cut off.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(message, limit_bytes + 1)
    except zlib.error as error:
        raise MessageFault(Status.INTERNAL, f"a message cannot be decompressed: {error}") from None
    if len(plain) > limit_bytes:
        raise _too_large("a message, decompressed,", limit_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise MessageFault(Status.INTERNAL, "a message cannot be decompressed: it is not exactly one gzip stream")
    return plain


def _too_large(what: str, limit_bytes: int) -> MessageFault:
    return MessageFault(Status.RESOURCE_EXHAUSTED, f"{what} is too large; at most {limit_bytes} bytes were expected")
