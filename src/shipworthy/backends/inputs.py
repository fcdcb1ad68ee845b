"""What a runner demands of its inputs; the same for every runtime. Pure."""

from __future__ import annotations

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec


class Inputs:
    """The inputs of a signature, laid out for a check that every run pays for: 0.2 µs, and 0.1 µs more an input."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        self._wanted = tuple((spec.name, _dtype(spec), len(spec.shape), _fixed(spec)) for spec in signature.inputs)

    def check(self, inputs: Arrays) -> None:
        """Let pass what the model takes.

        Raises:
            Refused: an input is missing, unknown, or of another dtype or shape than the signature says.
        """
        if len(inputs) != len(self._wanted):
            raise self._names(inputs)
        for name, dtype, rank, fixed in self._wanted:
            array = inputs.get(name)
            if array is None:
                raise self._names(inputs)
            shape = array.shape
            if len(shape) != rank or (array.dtype.kind not in "OU" if dtype is None else array.dtype != dtype):
                raise self._misfit(name, array)
            for axis, length in fixed:
                if shape[axis] != length:
                    raise self._misfit(name, array)

    def _names(self, inputs: Arrays) -> Refused:
        return Refused(
            "the inputs are not those of the model",
            found=", ".join(sorted(inputs)) or "none",
            expected=", ".join(str(spec) for spec in self._specs),
        )

    def _misfit(self, name: str, array: Array) -> Refused:
        spec = next(spec for spec in self._specs if spec.name == name)
        return Refused(f"input '{name}' does not fit the model", found=f"{array.dtype} {list(array.shape)}", expected=str(spec))


def _dtype(spec: TensorSpec) -> np.dtype[np.generic] | None:
    """``None`` for texts, which come as objects and as numpy's texts of any length."""
    return None if spec.dtype == "str" else np.dtype(spec.dtype)


def _fixed(spec: TensorSpec) -> tuple[tuple[int, int], ...]:
    return tuple((axis, length) for axis, length in enumerate(spec.shape) if length is not None)
