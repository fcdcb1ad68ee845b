"""Frames of HTTP/2 (RFC 9113): their numbers, how they are written, and the two kinds of error."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME = 16384
"""The largest payload that we take and, until the peer allows more, send: the protocol's default."""
DEFAULT_WINDOW = 65535
MAX_WINDOW = (1 << 31) - 1
MAX_STREAM = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)

read_header = struct.Struct(">HBBBI").unpack_from
"""High 16 and low 8 bits of the payload's length, type, flags, stream with its reserved bit."""
_header = struct.Struct(">HBBBI").pack
_setting = struct.Struct(">HI")
_word = struct.Struct(">I")
_two_words = struct.Struct(">II")


class Code(IntEnum):
    """Error codes of RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke a rule that ends the connection: it gets GOAWAY with this code."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class StreamFault(Exception):
    """The peer broke a rule that ends one stream: it gets RST_STREAM with this code."""

    def __init__(self, stream: int, code: Code) -> None:
        super().__init__(f"stream {stream}: {code.name}")
        self.stream = stream
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return frame_header(len(payload), kind, flags, stream) + payload


def frame_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before a payload of ``length`` bytes."""
    return _header(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(key, value) for key, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a payload in their order.

    Raises:
        ConnectionFault: the length does not fit, or a value is out of its range.
    """
    if len(payload) % _setting.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of six bytes")
    found = list(_setting.iter_unpack(payload))
    for key, value in found:
        if key == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if key == MAX_FRAME_SIZE and not MAX_FRAME <= value < 1 << 24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
    return found


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _word.pack(increment))


def reset(stream: int, code: Code) -> bytes:
    """An RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _word.pack(code))


def goaway(last: int, code: Code, why: str = "") -> bytes:
    """A GOAWAY frame; ``last`` is the highest stream that was, or will be, worked on."""
    return frame(GOAWAY, 0, 0, _two_words.pack(last, code) + why.encode()[:200])


def word(payload: bytes) -> int:
    """The four bytes of an RST_STREAM or WINDOW_UPDATE, less the reserved bit.

    Raises:
        ConnectionFault: these are not four bytes.
    """
    if len(payload) != _word.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "the frame is not four bytes long")
    return int.from_bytes(payload, "big") & MAX_WINDOW


def without_padding(payload: bytes) -> bytes:
    """The payload of a padded frame without its padding.

    Raises:
        ConnectionFault: the padding is longer than the frame.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
