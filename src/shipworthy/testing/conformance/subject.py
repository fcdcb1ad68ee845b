"""The model that a server is examined with: what its metadata says, and made-up values that fit. Pure."""

from __future__ import annotations

import math
import urllib.parse
from dataclasses import dataclass

import msgspec
import numpy as np

from shipworthy.protocols import Array

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
"""The data types of the Open Inference Protocol as numpy has them, little-endian; texts are objects."""

_NAMES = {np.dtype(kind).newbyteorder("<").str.lstrip("|"): name for name, kind in DTYPES.items()}


class NotTried(Exception):
    """The model, or the run, has nothing to try a law on; the text says what is missing."""


class Tensor(msgspec.Struct, frozen=True):
    """One input or output as metadata has it; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Subject:
    """The model under examination.

    ``version`` is the one to ask for (empty: its metadata names none); ``extensions`` are those the server names.
    ``unload``: the model may be unloaded for a moment.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    version: str = ""
    extensions: tuple[str, ...] = ()
    unload: bool = False

    @property
    def path(self) -> str:
        """Where the model lies on the server."""
        return f"/v2/models/{urllib.parse.quote(self.name, safe='')}"

    @property
    def versioned(self) -> str:
        """Where its version lies.

        Raises:
            NotTried: no version is known.
        """
        if not self.version:
            raise NotTried("the metadata names no version of the model")
        return f"{self.path}/versions/{urllib.parse.quote(self.version, safe='')}"

    @property
    def in_json(self) -> bool:
        """Whether JSON can hold all inputs and outputs: it has no FP16."""
        return all(one.datatype != "FP16" for one in (*self.inputs, *self.outputs))

    @property
    def has_rows(self) -> bool:
        """Whether rows lie along a free first dimension of every input."""
        return all(one.shape[:1] == (-1,) for one in self.inputs)

    def values(self, rows: int = 1, seed: int = 0) -> dict[str, Array]:
        """Made-up values for every input, by name: fixed pseudo-random numbers and texts, others for another seed.

        A free first dimension is ``rows``, other free dimensions are 1.
        """
        generator = np.random.default_rng([seed, rows])
        made: dict[str, Array] = {}
        for one in self.inputs:
            shape = tuple(n if n >= 0 else 1 if axis else rows for axis, n in enumerate(one.shape))
            kind = DTYPES[one.datatype]
            if kind == "O":
                texts = [f"text {seed} {i} é" for i in range(math.prod(shape))]
                made[one.name] = np.array(texts, dtype=object).reshape(shape)
            elif "f" in kind:
                made[one.name] = generator.random(shape).astype(kind)
            else:
                made[one.name] = generator.integers(0, 2, shape).astype(kind)
        return made

    def with_rows(self, rows: int, seed: int = 0) -> dict[str, Array]:
        """As ``values``, of a model that takes any number of rows.

        Raises:
            NotTried: it does not.
        """
        if not self.has_rows:
            raise NotTried("the model takes a fixed number of rows")
        return self.values(rows, seed)

    def of_kind(self, *datatypes: str) -> Tensor:
        """The first input of one of these data types.

        Raises:
            NotTried: there is none.
        """
        for one in self.inputs:
            if one.datatype in datatypes:
                return one
        raise NotTried(f"the model has no input of {' or '.join(datatypes)}")


def datatype_of(array: Array) -> str:
    """The data type of an array of made-up values."""
    return _NAMES[array.dtype.newbyteorder("<").str.lstrip("|")]


def to_blob(array: Array) -> bytes:
    """The bytes of a tensor: row-major, little-endian; each text after its length in 4 bytes."""
    if array.dtype.kind != "O":
        return array.tobytes()
    texts = [str(text).encode() for text in array.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
