"""Rows on their way between a probe and its parent: .npz files, arrays by the names of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shipworthy.protocols import Array, Arrays

# Before every name: numpy.savez has arguments of its own, and a model may have an input "file".
PREFIX = "of/"


def write(path: Path, arrays: Arrays) -> None:
    """Write the arrays; texts (objects) as numpy's own texts, so that nothing is pickled."""
    plain = {PREFIX + name: a.astype(str) if a.dtype.kind == "O" else a for name, a in arrays.items()}
    np.savez(path, **plain)  # type: ignore[arg-type]


def read(path: Path) -> dict[str, Array]:
    """What ``write`` wrote; texts as objects, which is how the runtime takes and gives them."""
    with np.load(path, allow_pickle=False) as loaded:
        named = {name.removeprefix(PREFIX): array for name, array in loaded.items()}
    return {name: a.astype(object) if a.dtype.kind == "U" else a for name, a in named.items()}
