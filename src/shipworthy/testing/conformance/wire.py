"""Protobuf by field numbers: what a message says, without knowing its names. Pure.

An examination must not share a mistake with the server it examines, so nothing of ours is used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from shipworthy.protocols import Array
from shipworthy.testing.conformance.case import Broken

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1
_LONGEST_VARINT = 10


def field(number: int, value: bytes | str | int) -> bytes:
    """One field: bytes, a text or a message with its length; a whole number or a bool as a varint."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value & _MASK)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def packed(number: int, values: Iterable[int]) -> bytes:
    """A repeated field of whole numbers."""
    return field(number, b"".join(_varint(int(value) & _MASK) for value in values))


def entry(number: int, key: str, value: bytes) -> bytes:
    """One entry of a map from texts to messages."""
    return field(number, field(1, key) + field(2, value))


class Message:
    """A message as it came; every question is by field number.

    Raises:
        Broken: the bytes are not protobuf; or a field has another kind than asked for (by each question).
    """

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _parse(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def blobs(self, number: int) -> list[bytes]:
        """All values of a field of bytes, texts or messages."""
        values = self._fields.get(number, [])
        if any(isinstance(value, int) for value in values):
            raise Broken(f"bytes in field {number}", "a number")
        return [value for value in values if isinstance(value, bytes)]

    def texts(self, number: int) -> list[str]:
        """All values of a field of texts."""
        try:
            return [blob.decode() for blob in self.blobs(number)]
        except UnicodeDecodeError as error:
            raise Broken(f"a text in field {number}", str(error)) from None

    def text(self, number: int) -> str:
        """The text in a field; empty without one."""
        return next(reversed(self.texts(number)), "")

    def messages(self, number: int) -> list[Message]:
        """All messages in a field."""
        return [Message(blob) for blob in self.blobs(number)]

    def message(self, number: int) -> Message:
        """The message in a field; an empty one without it."""
        return next(reversed(self.messages(number)), Message(b""))

    def map(self, number: int) -> dict[str, Message]:
        """A map from texts to messages."""
        return {one.text(1): one.message(2) for one in self.messages(number)}

    def numbers(self, number: int) -> list[int]:
        """A repeated field of signed whole numbers, packed or not."""
        found: list[int] = []
        for value in self._fields.get(number, []):
            found += [value] if isinstance(value, int) else list(_varints(value))
        return [value - (1 << 64) if value >= 1 << 63 else value for value in found]

    def number(self, number: int) -> int:
        """The whole number in a field; 0 without one."""
        return next(reversed(self.numbers(number)), 0)

    def floats(self, number: int, kind: str) -> Array:
        """A repeated field of ``<f4`` or ``<f8`` numbers, packed or not."""
        size = np.dtype(kind).itemsize
        values = self._fields.get(number, [])
        if any(value >> 8 * size if isinstance(value, int) else len(value) % size for value in values):
            raise Broken(f"numbers of {size} bytes in field {number}", "others")
        data = b"".join(value.to_bytes(size, "little") if isinstance(value, int) else value for value in values)
        return np.frombuffer(data, kind)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _parse(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _read(data, at)
        elif kind in {_FIXED32, _FIXED64}:
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Broken("a protobuf message", f"a field of wire type {kind}")
        if at + size > len(data):
            raise Broken("a protobuf message", f"field {number} ends after the message")
        blob = data[at : at + size]
        at += size
        yield number, blob if kind == _BYTES else int.from_bytes(blob, "little")


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read(data, at)
        yield value


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:  # noqa: PLR2004
            return value & _MASK, at + i + 1
    raise Broken("a protobuf message", "a number without its end")
