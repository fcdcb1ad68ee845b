"""What all records share: the base class, and the plain forms that they are written in.

``dump`` and ``load`` turn a record into plain dicts and back; ``load`` keeps fields it does not know (a newer
Shipworthy wrote them) and ``dump`` gives them back, so that an old reader loses nothing.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, TypeVar

import msgspec

from shipworthy.errors import Failed, Refused

R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records. ``unrecognised`` holds fields a newer writer added."""

    unrecognised: dict[str, Any] = {}


def dump(record: Record) -> dict[str, Any]:
    """The record as plain dicts, lists and scalars, unrecognised fields back in their places.

    Raises:
        Failed: a number is NaN or infinite, which JSON cannot hold.
    """
    known = {name: _plain(getattr(record, name)) for name in record.__struct_fields__ if name != "unrecognised"}
    return known | record.unrecognised


def load(kind: type[R], data: Any) -> R:
    """The record that ``data`` describes; ``dump`` gives every field of ``data`` back, also those it does not know.

    Raises:
        Refused: a field is missing or of the wrong type.
    """
    try:
        return msgspec.convert(_stow(data, msgspec.inspect.type_info(kind)), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Refused(
            f"this is not a {kind.__name__} record",
            found=str(error),
            expected=f"the fields of {kind.__name__}: {', '.join(f for f in kind.__struct_fields__ if f != 'unrecognised')}",
            next="the file was edited or is damaged: make it again with the verb that wrote it",
        ) from None


def encode(record: Record) -> bytes:
    """Canonical JSON of the record (sorted keys, no spaces), the bytes that digests are taken of.

    A whole number in a field of fractions is written as it is when read again, so that both have one digest.

    Raises:
        Failed: a number is NaN or infinite, which JSON cannot hold.
    """
    return msgspec.json.encode(dump(load(type(record), dump(record))), order="sorted")


def decode(kind: type[R], data: bytes) -> R:
    """The record in a JSON text.

    Raises:
        Refused: the bytes are not JSON, or not this record.
    """
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"this is not a {kind.__name__} record", found=str(error), expected="JSON") from None
    return load(kind, plain)


def digest(record: Record) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(encode(record)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return dump(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Failed(f"a record cannot hold {value}", expected="finite numbers: JSON has no others")
    return value


def _stow(plain: Any, kind: msgspec.inspect.Type) -> Any:
    """Move the keys that no field of ``kind`` takes under ``unrecognised``, at every depth."""
    if isinstance(kind, msgspec.inspect.UnionType):
        inner = [t for t in kind.types if isinstance(t, msgspec.inspect.StructType)]
        return _stow(plain, inner[0]) if inner and plain is not None else plain
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(plain, dict):
        fields = {field.name: field.type for field in kind.fields if field.name != "unrecognised"}
        known = {key: _stow(value, fields[key]) for key, value in plain.items() if key in fields}
        extra = {key: value for key, value in plain.items() if key not in fields}
        return known | ({"unrecognised": extra} if extra else {})
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(plain, list):
        return [_stow(item, kind.item_type) for item in plain]
    if isinstance(kind, msgspec.inspect.DictType) and isinstance(plain, dict):
        return {key: _stow(value, kind.value_type) for key, value in plain.items()}
    return plain
