"""One tensor on the wire, both ways: as JSON values, and as the bytes of the binary tensor data extension.

Pure. Bytes are little-endian, row-major, without padding; BOOL is one byte, 0 or 1; an element of BYTES is its length
(uint32) and its UTF-8 text. JSON has no FP16, NaN or infinity: those travel as bytes only; ``null`` is read as NaN.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.serve.texts import written

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "str": "BYTES",
}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}

_LENGTH = struct.Struct("<I")
# Standard sizes ("=") are range-checked; native floats are not.
_CODES = dict(zip(DATATYPES, "?BHIQbhiqefd", strict=False))
_OPENING = re.compile(rb"[ \t\r\n\[]*")


def datatype_of(array: Array) -> str:
    """The protocol's name for the dtype of ``array``; arrays of Python or fixed-width strings are BYTES.

    Raises:
        Refused: the protocol has no such type (complex, datetime…).
    """
    if array.dtype.kind in "OU":
        return "BYTES"
    if array.dtype.name not in DATATYPES:
        raise Refused("the protocol has no such datatype", found=str(array.dtype), expected=", ".join(DATATYPES))
    return DATATYPES[array.dtype.name]


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """The array of ``shape`` that a JSON text holds: its values flat in row-major order, or nested as the shape.

    Raises:
        Refused: malformed, values of another type or out of its range, ragged, or not as many as the shape says.
    """
    if datatype == "FP16":
        raise Refused(
            f"tensor '{name}': FP16 has no JSON form",
            found="data as JSON",
            expected="binary_data_size and the bytes after the JSON (binary tensor data extension)",
        )
    depth = _OPENING.match(data).group().count(b"[")  # type: ignore[union-attr]  # it matches the empty string too
    if depth > max(1, len(shape)):
        raise _wrong_count(name, f"data nested {depth} deep", shape)
    try:
        values = _decoder(DTYPES[datatype], max(1, depth)).decode(data)
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=_numpy(datatype))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(
            f"tensor '{name}': data is not {datatype}", found=str(error)[:200], expected=_EXPECTED[datatype]
        ) from None
    if array.shape != (math.prod(shape),) if depth < 2 else array.shape != shape:  # noqa: PLR2004
        raise _wrong_count(name, f"data of shape {list(array.shape)}", shape)
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise Refused(f"tensor '{name}': a value is too large for {datatype}", expected=_EXPECTED[datatype])
    return _shaped(name, array, shape)


def from_lists(values: list[Any], dtype: str, shape: tuple[int, ...]) -> Array | None:
    """The array of ``shape`` of numbers in lists, flat or nested as the shape; read-only.

    ``None`` when they are not so many, when one is out of the dtype's range, or when there are none. For an image that
    is twice as fast as ``np.array``, which looks at the type of each number.
    """
    if values and type(values[0]) is list:
        if len(values) != shape[0]:
            return None
        for n in shape[1:]:
            if set(map(len, values)) != {n}:
                return None
            values = list(itertools.chain.from_iterable(values))
    try:
        count, pack, kind = _packing(dtype, shape)
        return np.ndarray(shape, kind, pack(*values)) if values and len(values) == count else None
    except (struct.error, OverflowError):
        return None


@functools.lru_cache(maxsize=256)
def _packing(dtype: str, shape: tuple[int, ...]) -> tuple[int, Callable[..., bytes], np.dtype[Any]]:
    """How numbers become an array: how many, what makes bytes of them, their dtype. Remembered: 0.7 µs a request."""
    count = math.prod(shape)
    return count, struct.Struct(f"={count}{_CODES[dtype]}").pack, np.dtype(dtype)


def from_blob(name: str, datatype: str, shape: tuple[int, ...], blob: memoryview) -> Array:
    """The array of ``shape`` in ``blob``: a read-only view of it where alignment allows.

    Raises:
        Refused: the size does not fit shape and datatype, a BOOL is neither 0 nor 1, BYTES are not UTF-8.
    """
    if datatype == "BYTES":
        return _shaped(name, _texts(name, blob, shape), shape)
    dtype = _numpy(datatype).newbyteorder("<")
    needed = math.prod(shape) * dtype.itemsize
    if len(blob) != needed:
        raise _wrong_size(name, f"{len(blob)} bytes", f"{needed} bytes for {datatype} {list(shape)}")
    if datatype == "BOOL" and (np.frombuffer(blob, np.uint8) > 1).any():
        raise Refused(f"tensor '{name}': a BOOL is neither 0 nor 1", expected="one byte an element, 0 or 1")
    return np.require(_shaped(name, np.frombuffer(blob, dtype), shape), _numpy(datatype), "A")


def to_json(name: str, array: Array) -> msgspec.Raw:
    """The values of ``array`` as a flat JSON list, each number such that reading it gives the same bits.

    Raises:
        Refused: FP16, NaN or infinity, which JSON does not have.
    """
    if array.dtype == np.float16 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise Refused(
            f"tensor '{name}' has no JSON form",
            found="FP16" if array.dtype == np.float16 else "NaN or infinity",
            expected="finite numbers of another type",
            next="send it as bytes (binary tensor data extension: binary_data_size), or ask for it so (binary_data: true)",
        )
    if array.dtype.kind not in "OU":
        return msgspec.Raw(written(array))
    try:
        return msgspec.Raw(msgspec.json.encode(array.ravel().tolist()))
    except UnicodeEncodeError as error:
        raise Refused(f"tensor '{name}': a text is not Unicode", found=str(error)[:200]) from None


def to_blob(name: str, array: Array) -> bytes:
    """The bytes of ``array``.

    Raises:
        Refused: a text cannot be written as UTF-8.
    """
    if array.dtype.kind not in "OU":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    try:
        texts = [str(text).encode() for text in array.ravel()]
    except UnicodeEncodeError as error:
        raise Refused(f"tensor '{name}': a text is not Unicode", found=str(error)[:200]) from None
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _texts(name: str, blob: memoryview, shape: tuple[int, ...]) -> Array:
    """The elements of a BYTES blob, whose lengths must tile it exactly."""
    count = math.prod(shape)
    texts: list[str] = []
    at = 0
    while at < len(blob):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(blob, at)[0] if start <= len(blob) else start
        if at > len(blob):
            raise _wrong_size(
                name, f"{len(blob)} bytes that hold other lengths", f"{count} elements, each uint32 length and text"
            )
        try:
            texts.append(str(blob[start:at], "utf-8"))
        except UnicodeDecodeError as error:
            raise Refused(f"tensor '{name}': element {len(texts)} is not UTF-8", found=str(error)[:200]) from None
    if len(texts) != count:
        raise _wrong_size(name, f"{len(texts)} elements", f"{count} elements, each uint32 length and text")
    return np.array(texts, dtype=object)


def _shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as error:  # no elements, but dimensions beyond what an array can have
        raise Refused(f"tensor '{name}': no array has this shape", found=f"{list(shape)}: {error}") from None


def _numpy(datatype: str) -> np.dtype[Any]:
    dtype = DTYPES[datatype]
    return np.dtype(object if dtype == "str" else dtype)


@functools.cache
def _decoder(dtype: str, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = {"b": bool, "u": int, "i": int, "f": float | None, "U": str}[np.dtype(dtype).kind]
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


_EXPECTED = {
    datatype: "true or false"
    if dtype == "bool"
    else "strings"
    if dtype == "str"
    else f"numbers within {datatype}, or null for NaN"
    if dtype.startswith("float")
    else f"whole numbers from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
    for datatype, dtype in DTYPES.items()
}


def _wrong_count(name: str, found: str, shape: tuple[int, ...]) -> Refused:
    return Refused(
        f"tensor '{name}': data does not fit the shape",
        found=found,
        expected=f"shape {list(shape)}: {math.prod(shape)} values, flat or nested as the shape",
    )


def _wrong_size(name: str, found: str, expected: str) -> Refused:
    return Refused(f"tensor '{name}': the binary data does not fit the shape", found=found, expected=expected)
