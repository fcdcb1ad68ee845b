"""Header blocks of answers. They point into HPACK's static table or are literal: our side keeps no table of its own."""

from __future__ import annotations

from urllib.parse import quote

from shipworthy.serve.calls import Status
from shipworthy.serve.http2 import wire

MESSAGE_CHARACTERS = 1000
"""Of an error's text: with every byte percent-encoded it still fits one frame."""
_SEVEN_BITS = 0x7F
# What a grpc-message may hold as it is: the printable characters of ASCII but the percent sign.
_PLAIN = "".join(chr(n) for n in range(0x20, 0x7F) if chr(n) != "%")


def literal(name: bytes, value: bytes) -> bytes:
    """One field, spelled out, that enters no table."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def status_line(status: int) -> bytes:
    """The field ``:status``."""
    return b"\x88" if status == 200 else b"\x08\x03%d" % status  # noqa: PLR2004  # 8: its place in the static table


def trailers(status: Status, text: str = "") -> bytes:
    """The fields that end every answer."""
    fields = literal(b"grpc-status", b"%d" % status)
    if text:
        fields += literal(b"grpc-message", quote(text[:MESSAGE_CHARACTERS], safe=_PLAIN, errors="replace").encode())
    if status is Status.UNIMPLEMENTED:
        fields += literal(b"grpc-accept-encoding", b"identity,gzip")
    return fields


def plain(status: int, text: bytes) -> tuple[bytes, bytes]:
    """Header block and body of an answer to what is not gRPC."""
    return status_line(status) + literal(b"content-type", b"text/plain"), text


def _length(number: int) -> bytes:
    """A length in HPACK's form: seven bits, then seven bits a byte, low ones first."""
    if number < _SEVEN_BITS:
        return bytes((number,))
    out = bytearray((_SEVEN_BITS,))
    number -= _SEVEN_BITS
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


HEAD = status_line(200) + literal(b"content-type", b"application/grpc")
_OK = trailers(Status.OK)

# A small whole answer is these, the stream's number and the message, joined.
HEAD_BEFORE = wire.frame_header(len(HEAD), wire.HEADERS, wire.END_HEADERS, 0)[:5]
OK_BEFORE = wire.frame_header(len(_OK), wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 0)[:5]
OK_AFTER = _OK


def head(stream: int, fields: bytes = b"") -> bytes:
    """The frame that opens an answer, with further fields."""
    return wire.frame(wire.HEADERS, wire.END_HEADERS, stream, HEAD + fields)


def end(stream: int, status: Status, text: str, fields: bytes | None = None) -> bytes:
    """The frame that ends an answer; where none was opened it is all of it, and has these ``fields``."""
    block = trailers(status, text)
    opening = b"" if fields is None else HEAD + fields
    return wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream, opening + block)


def small(stream: int, message: bytes) -> bytes:
    """A whole answer of one message, all in one."""
    number, size = stream.to_bytes(4, "big"), len(message)
    return b"".join(
        (
            HEAD_BEFORE, number, HEAD,
            (size + 5).to_bytes(3, "big"), b"\0\0", number, b"\0", size.to_bytes(4, "big"), message,
            OK_BEFORE, number, OK_AFTER,
        )
    )  # fmt: skip
