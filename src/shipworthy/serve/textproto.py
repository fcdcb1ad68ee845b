"""Protocol buffers as text (config.pbtxt, models.config), read without a schema: any field can be named, known or not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

from shipworthy.errors import Refused

LARGEST_BYTES = 1_000_000
DEEPEST = 50

Fields: TypeAlias = dict[str, list["str | Fields"]]
"""Field to its values in the order of the text: a scalar as text, strings without their quotes, or the fields of a message."""

_WHOLE = re.compile(r"[0-9]{1,18}")
# Blanks and comments (possessive: a comment is never read as anything else), then a word or number, a string, or a sign.
_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)*+(?:(?P<word>[\w.+-]+)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<sign>[{}<>\[\]:,;])|\Z)"""
)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ESCAPE = re.compile(rb"\\(?:[xX]([0-9a-fA-F]{1,2})|([0-7]{1,3})|(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))|(.))")
_ESCAPES = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_ENDS = {"{": "}", "<": ">"}


def read(path: Path) -> Fields:
    """The fields in a file.

    Raises:
        Refused: it cannot be read, is larger than 1 MB, or is not the text format of protocol buffers.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read", found=error.strerror or str(error), expected="a readable file") from None
    if len(data) > LARGEST_BYTES:
        raise Refused(f"{path} is too large", found=f"more than {LARGEST_BYTES} bytes", expected="a configuration")
    return parse(data, str(path))


def parse(data: bytes, origin: str) -> Fields:
    """The fields in a text; ``origin`` is the file that messages name.

    Raises:
        Refused: it is not UTF-8, or not the text format of protocol buffers.
    """
    try:
        return _Reader(data.decode()).fields("", 0)
    except ValueError as error:
        raise Refused(
            f"{origin} cannot be read", found=str(error)[:300], expected="protocol buffers as text", next="correct that place"
        ) from None


def last(fields: Fields, name: str) -> str:
    """The scalar of a field that is there once; empty when it is not there.

    Raises:
        Refused: it is there several times, or is a message.
    """
    values = fields.get(name, [])
    if len(values) > 1 or (values and not isinstance(values[0], str)):
        raise Refused(f"'{name}' is not one value", found=f"{len(values)} values" if len(values) > 1 else "a message")
    return values[0] if values and isinstance(values[0], str) else ""


def integer(fields: Fields, name: str) -> int | None:
    """The whole number, 0 or more, of a field that is there once; ``None`` when it is not there.

    Raises:
        Refused: it is no whole number of at most 18 digits, or negative.
    """
    return whole(last(fields, name), name) if name in fields else None


def whole(text: str, name: str) -> int:
    """The whole number, 0 or more, in a text; ``name`` is the field that messages name.

    Raises:
        Refused: it is none, or has more than 18 digits.
    """
    if not _WHOLE.fullmatch(text):
        raise Refused(f"'{name}' is not a whole number", found=text[:100], expected="0 or more, at most 18 digits")
    return int(text)


def messages(fields: Fields, name: str) -> list[Fields]:
    """The messages of a field.

    Raises:
        Refused: one of its values is a scalar.
    """
    values = fields.get(name, [])
    if scalars := [value for value in values if isinstance(value, str)]:
        raise Refused(f"'{name}' is not a message", found=scalars[0][:100], expected=f"{name} {{ ... }}")
    return [value for value in values if not isinstance(value, str)]


def message(fields: Fields, name: str) -> Fields:
    """The message of a field, with all that its repetitions bring; no fields when it is not there.

    Raises:
        Refused: one of its values is a scalar.
    """
    merged: Fields = {}
    for one in messages(fields, name):
        for key, values in one.items():
            merged.setdefault(key, []).extend(values)
    return merged


class _Reader:
    """Walks through a text token by token; what does not fit is a ``ValueError`` that names the line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._kind: str | None = None
        self._part = ""
        self._next()

    def fields(self, end: str, depth: int) -> Fields:
        """The fields up to the token ``end``, which is consumed; empty: up to the end of the text."""
        if depth > DEEPEST:
            raise self._error("messages are nested too deeply")
        found: Fields = {}
        while self._kind or end:
            if self._take(end):
                break
            if self._kind != "word" or not _NAME.fullmatch(self._part):
                raise self._error("the name of a field is missing")
            values = found.setdefault(self._part, [])
            self._next()
            if not self._take(":") and self._part not in {*_ENDS, "["}:
                raise self._error("a colon is missing")
            if self._take("["):
                while not self._take("]"):
                    values.append(self._value(depth))
                    if self._part != "]" and not self._take(","):
                        raise self._error("a list does not end")
            else:
                values.append(self._value(depth))
            if not self._take(","):
                self._take(";")
        return found

    def _value(self, depth: int) -> str | Fields:
        kind, token = self._kind, self._part
        if kind == "text":
            return self._string()
        if kind != "word" and token not in _ENDS:
            raise self._error("a value is missing")
        self._next()
        return token if kind == "word" else self.fields(_ENDS[token], depth + 1)

    def _string(self) -> str:
        """A string, and those that follow it directly: they are one."""
        data = b""
        while self._kind == "text":
            data += _ESCAPE.sub(_unescape, self._part[1:-1].encode())
            self._next()
        return data.decode()

    def _take(self, sign: str) -> bool:
        taken = self._kind == "sign" and self._part == sign
        if taken:
            self._next()
        return taken

    def _next(self) -> None:
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            raise self._error("that is no token")
        self._end, self._kind = match.end(), match.lastgroup
        self._part = match[self._kind] if self._kind else ""

    def _error(self, what: str) -> ValueError:
        line = self._text.count("\n", 0, self._end) + 1
        return ValueError(f"line {line}: {what}, near {self._text[max(0, self._end - 20) : self._end + 20]!r}")


def _unescape(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, short, long, letter = match.groups()
    if letter is not None:
        if letter[0] not in _ESCAPES:
            raise ValueError(f"there is no escape {match[0].decode(errors='replace')}")
        return bytes([_ESCAPES[letter[0]]])
    if hexadecimal or octal:
        return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8)])
    return chr(int(short or long, 16)).encode()
