"""Numbers in JSON to arrays and back without a Python object for each: floats are read by simdjson, orjson writes.

A large list is read when it comes. The texts of small requests wait and are read with those of their batch, as one text:
``Text`` stands for the array until then. What simdjson does not take, or takes as something else than the protocol, the
full reader reads again, or says what is wrong with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
import simdjson

from shipworthy.protocols import Array

# Texts up to here wait for their batch.
SMALL_BYTES = 16_384
# What simdjson raises: not JSON, not all numbers, a number too large or too long, nested too deep.
_UNREADABLE = (ValueError, TypeError, RuntimeError)


class Frame:
    """What is the same in every text of a form: dtype (a float), shape, and how deep the numbers lie.

    Only forms that cannot be ragged have one: a flat list, or one row nested as the shape.
    """

    __slots__ = ("closing", "commas", "count", "depth", "dtype", "nbytes", "opening", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], depth: int) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.depth = depth
        self.count = math.prod(shape)
        self.commas = self.count - 1
        self.nbytes = self.count * self.dtype.itemsize
        self.opening, self.closing = b"[" * depth, b"]" * depth

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def of(dtype: str, shape: tuple[int, ...], depth: int) -> Frame | None:
        """The frame of such texts, one for all of a kind; ``None`` where there is none."""
        flat = depth == 1 or (math.prod(shape[: depth - 1]) == 1 and depth == len(shape))
        return Frame(dtype, shape, depth) if flat and dtype in {"float32", "float64"} and 0 not in shape else None

    def nests(self, text: bytes) -> bool:
        """Whether a text opens and closes at its ends and nowhere between: if it is JSON, its lists are nested so."""
        return text.startswith(self.opening) and text.endswith(self.closing) and text.find(b"[", self.depth) < 0

    def holds(self, text: bytes) -> bool:
        """Whether a text, if it is JSON and all numbers, has so many of them, nested so.

        Texts of which this is true can be joined: none can lend its numbers to another.
        """
        return self.nests(text) and text.count(b",") == self.commas


class Text(msgspec.Struct, gc=False):
    """The numbers of one request before they are read; numpy takes it for the array, which is read then.

    ``again(body)`` gives the array by the full reader, or raises what is wrong with the request.
    """

    frame: Frame
    text: bytes
    body: bytes
    again: Callable[[bytes], Array]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the array."""
        return self.frame.dtype

    @property
    def nbytes(self) -> int:
        """Memory that the array will take."""
        return self.frame.nbytes

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        array = read([self.text], self.frame)
        return self.again(self.body) if array is None else array


def read(texts: Sequence[bytes], frame: Frame) -> Array | None:
    """The arrays of texts that the frame holds, or of one that nests so, one after the other along the first axis.

    ``None`` when one is not JSON, not all numbers, or has a number beyond the dtype.
    """
    # One parser a call: it is not for several threads, and keeps the memory of its largest text.
    try:
        whole = texts[0] if len(texts) == 1 else b"[%b]" % b",".join(texts)
        lists: Any = simdjson.Parser().parse(whole)
        numbers = lists.as_buffer(of_type="d")
    except _UNREADABLE:
        return None
    array = np.frombuffer(numbers, np.float64)
    if len(array) != frame.count * len(texts):
        return None
    if frame.dtype != array.dtype:
        with np.errstate(over="ignore"):
            array = array.astype(frame.dtype)
        if np.isinf(array).any():
            return None
    return array.reshape(frame.shape[0] * len(texts), *frame.shape[1:])


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
    return None if b"null" in text else text[2:-2].split(b"],[")
