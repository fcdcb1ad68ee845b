"""Numbers in JSON to arrays and back without a Python object for each: floats are read by simdjson, orjson writes.

The texts of small requests that wait together (``cohort``) are read as one. What simdjson does not take, or takes as something
else than the protocol, the full reader reads again, or says what is wrong with it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import orjson
import simdjson

from shipworthy.protocols import Array

try:
    from shipworthy.serve import _numbers
except ImportError:  # there was no compiler when it was installed (decision 20)
    _numbers = None  # type: ignore[assignment]

# Requests up to here may wait as bytes.
SMALL_BYTES = 16_384
# What simdjson raises: not JSON, not all numbers, a number too large or too long, nested too deep.
_UNREADABLE = (ValueError, TypeError, RuntimeError)


class Frame:
    """What is the same in every text of a form: dtype (a float), shape, and how deep the numbers lie.

    Only forms that cannot be ragged have one: a flat list, or one row nested as the shape.
    """

    __slots__ = ("closing", "count", "depth", "dtype", "opening", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], depth: int) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.depth = depth
        self.count = math.prod(shape)
        self.opening, self.closing = b"[" * depth, b"]" * depth

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def of(dtype: str, shape: tuple[int, ...], depth: int) -> Frame | None:
        """The frame of such texts, one for all of a kind; ``None`` where there is none."""
        flat = depth == 1 or (math.prod(shape[: depth - 1]) == 1 and depth == len(shape))
        return Frame(dtype, shape, depth) if flat and dtype in {"float32", "float64"} and 0 not in shape else None


def read(text: bytes, frame: Frame) -> Array | None:
    """The array of one text, its brackets included.

    ``None`` when it is not JSON, not so many numbers nested so, or has a number beyond the dtype.
    """
    # If it opens and closes at its ends and nowhere between, and is JSON, then its lists are nested as they should be.
    nested = text.startswith(frame.opening) and text.endswith(frame.closing) and text.find(b"[", frame.depth) < 0
    found = _parsed(text) if nested else None
    return None if found is None else _array(found[1], frame, 1)


def read_all(texts: list[bytes], frame: Frame) -> Array | None:
    """The arrays of texts without their brackets, one after the other along the first axis.

    ``None`` when one is as ``read`` does not take it: none can lend its numbers to another. Each is a list of its own, which
    opens nowhere but where we open it; then in what is JSON it closes nowhere but where we close it.
    """
    short = _numbers.read_short(texts, frame.count, frame.dtype.itemsize) if _numbers else None
    if short is not None:
        return np.frombuffer(short, frame.dtype).reshape(frame.shape[0] * len(texts), *frame.shape[1:])
    if b"[" in b",".join(texts):
        return None
    found = _parsed(b"[[%b]]" % b"],[".join(texts))
    if found is None or {*map(len, found[0])} != {frame.count}:
        return None
    return _array(found[1], frame, len(texts))


def _parsed(text: bytes) -> tuple[Any, Array] | None:
    """A text's list as simdjson has it, and all numbers in it; ``None``: it is not JSON, or not all numbers."""
    # One parser a call: it is not for several threads, and keeps the memory of its largest text.
    try:
        lists: Any = simdjson.Parser().parse(text)
        return lists, np.frombuffer(lists.as_buffer(of_type="d"), np.float64)
    except _UNREADABLE:
        return None


def _array(numbers: Array, frame: Frame, texts: int) -> Array | None:
    """Numbers in a frame's dtype and shape; ``None`` when they are not so many, or one is beyond the dtype."""
    if len(numbers) != frame.count * texts:
        return None
    if frame.dtype != numbers.dtype:
        try:
            with np.errstate(over="raise"):
                numbers = numbers.astype(frame.dtype)
        except FloatingPointError:
            return None
    return numbers.reshape(frame.shape[0] * texts, *frame.shape[1:])


def written(array: Array) -> bytes:
    """The numbers of an array of numbers or booleans as JSON, flat, each such that reading it gives the same bits.

    NaN and infinity, which JSON does not have, are ``null``.
    """
    return orjson.dumps(np.ascontiguousarray(array).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)


def written_by_row(array: Array) -> list[bytes] | None:
    """The numbers of each row as ``written`` has them, without brackets; ``None`` where some are no JSON, or are none."""
    if not array.size:
        return None
    text = orjson.dumps(np.ascontiguousarray(array).reshape(len(array), -1), option=orjson.OPT_SERIALIZE_NUMPY)
    return None if b"n" in text else text[2:-2].split(b"],[")  # it stands in null alone, and is found at a glance
