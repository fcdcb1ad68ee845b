"""Repeated fields of a message as arrays, both ways; numbers without a Python object for each.

Protocol buffers write numbers packed: for floats and bools the bytes are those of the array. A message that holds only
one such field is its tag, its length and these bytes, so writing and reading that message is the conversion:
150,528 floats take 30 µs so, and 3.5 to 5 ms through a list. Other integers are packed as varints: those go through a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.serve.grpc import messages

# By FieldDescriptor.TYPE_…: what is packed as it lies in memory, and what is not.
_ALIKE: dict[int, np.dtype[Any]] = {1: np.dtype("<f8"), 2: np.dtype("<f4"), 8: np.dtype("bool")}
_WHOLE: dict[int, np.dtype[Any]] = {3: np.dtype("int64"), 4: np.dtype("uint64"), 5: np.dtype("int32"), 13: np.dtype("uint32")}
_LENGTH_DELIMITED = 2


def numbers(message: Any, field: str) -> Array:
    """The repeated numbers of a field, flat."""
    values = getattr(message, field)
    kind = message.DESCRIPTOR.fields_by_name[field].type
    if kind in _WHOLE:
        return np.array(values[:], dtype=_WHOLE[kind])
    only = type(message)()
    getattr(only, field).MergeFrom(values)
    blob = only.SerializeToString()
    dtype = _ALIKE[kind]
    return np.frombuffer(blob, dtype, len(values), len(blob) - len(values) * dtype.itemsize)


def shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """A flat array in a shape of as many elements.

    Raises:
        Refused: there are none, and the dimensions are beyond what an array can have.
    """
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise Refused(f"tensor '{name}': no array has this shape", found=f"{list(shape)}: {error}"[:200]) from None


def narrow(name: str, values: Array, dtype: np.dtype[Any], word: str) -> Array:
    """The values of tensor ``name`` in ``dtype``, which the request calls ``word``.

    Raises:
        Refused: whole numbers that the dtype does not have.
    """
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    if limits and values.size and not (limits.min <= values.min() and values.max() <= limits.max):
        raise Refused(
            f"tensor '{name}': a value is out of the range of {word}",
            found=f"{values.min()} to {values.max()}",
            expected=f"{limits.min} to {limits.max}",
        )
    return values.astype(dtype, copy=False)


def texts(name: str, message: Any, field: str) -> list[str]:
    """The texts of a repeated field of bytes; ``name`` is the tensor's.

    Raises:
        Refused: one of them is not UTF-8.
    """
    found: list[str] = []
    for value in getattr(message, field):
        try:
            found.append(value.decode())
        except UnicodeDecodeError as error:
            raise Refused(f"tensor '{name}': element {len(found)} is not UTF-8", found=str(error)[:200]) from None
    return found


def write_texts(name: str, message: Any, field: str, array: Array) -> None:
    """Append all texts of ``array``, in row-major order, to a repeated field of bytes; ``name`` is the tensor's.

    Raises:
        Refused: one of them has no UTF-8.
    """
    try:
        getattr(message, field).extend([str(text).encode() for text in array.ravel()])
    except UnicodeEncodeError as error:
        raise Refused(f"tensor '{name}': a text is not Unicode", found=str(error)[:200]) from None


def write_numbers(message: Any, field: str, array: Array) -> None:
    """Append all elements of ``array``, in row-major order, to a repeated field of numbers."""
    described = message.DESCRIPTOR.fields_by_name[field]
    if described.type in _WHOLE:
        getattr(message, field).extend(array.ravel().tolist())
        return
    blob = array.astype(_ALIKE[described.type], copy=False).tobytes()
    message.MergeFromString(messages.varint(described.number << 3 | _LENGTH_DELIMITED) + messages.varint(len(blob)) + blob)
