"""What small requests bring and take, as bytes until a batch is made and after it is run: one array for all of them.

An array for each request costs 1 µs, a row cut out of an array half of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from shipworthy.protocols import Array
from shipworthy.records import TensorSpec
from shipworthy.serve.texts import SMALL_BYTES


class Raw(msgspec.Struct, gc=False):
    """The bytes of one request's tensor, as the array of this dtype and shape has them; numpy takes it for that."""

    data: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Memory that the array will take."""
        return len(self.data)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


def may_wait(spec: TensorSpec, size: int) -> bool:
    """Whether a request's tensor of so many bytes may wait as those.

    A large one is better not copied, and where requests may differ in more than their rows the queue looks at shapes of arrays.
    """
    return 0 < size <= SMALL_BYTES and None not in spec.shape[1:] and spec.dtype not in {"str", "bool"}


def joined(parts: Sequence[Array | Raw]) -> Array:
    """The rows of all parts: what one input is given by the requests of a batch, which have one shape but for their rows."""
    first = parts[0]
    if type(first) is Raw:
        data = [part.data for part in parts if type(part) is Raw]
        if len(data) == len(parts):
            return np.frombuffer(b"".join(data), first.dtype).reshape(-1, *first.shape[1:])
    return np.concatenate([np.asarray(part) for part in parts])


def bytes_by_row(array: Array) -> list[bytes] | None:
    """The bytes of each row; ``None`` where rows are none, or so large that they are better not copied twice."""
    if not array.nbytes or array.nbytes > SMALL_BYTES * len(array):
        return None
    data = array.tobytes()
    step = len(data) // len(array)
    return [data[at : at + step] for at in range(0, len(data), step)]
