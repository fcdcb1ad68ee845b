"""Rows for a model: .npz files read against its signature, and rows made up where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.protocols import Array
from shipworthy.records import Signature, TensorSpec


@dataclass(frozen=True)
class Dataset:
    """Rows that fit a signature.

    ``inputs`` holds one array an input, in the dtype of the signature, rows along the first axis; ``labels`` one label
    a row, or ``None``; ``digest`` is that of the file, and empty for rows made up.
    """

    origin: str
    digest: str
    inputs: dict[str, Array]
    labels: Array | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(next(iter(self.inputs.values())).shape[0])

    def take(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of rows ``start`` to ``stop``, as views."""
        return {name: array[start:stop] for name, array in self.inputs.items()}


def read(path: Path, signature: Signature, names: Mapping[str, str] | None = None, labels: str = "") -> Dataset:
    """The rows in an .npz file, checked against the signature.

    Args:
        path: the file; arrays of Python objects are never loaded (they could execute code).
        signature: what the model takes.
        names: input of the model to array of the file, where the names differ.
        labels: the array of the labels; empty: the labels are not read.

    Raises:
        Refused: the file is missing, broken, empty, lacks an input, or does not fit; the message names array and row.
    """
    digest = file_digest(path)
    arrays = _arrays(path)
    inputs = {}
    for spec in signature.inputs:
        array_name = (names or {}).get(spec.name, spec.name)
        if array_name not in arrays:
            raise Refused(
                f"{path} has no array for the input '{spec.name}' of the model",
                found="arrays " + ", ".join(f"'{name}' {a.dtype} {list(a.shape)}" for name, a in sorted(arrays.items())),
                expected=f"an array '{array_name}' ({spec})",
                next=f'rename the array, or map it in shipworthy.toml: [data] inputs = {{ {spec.name} = "THE ARRAY" }}',
            )
        inputs[spec.name] = _fit(arrays[array_name], spec, f"{path}: array '{array_name}'")
    _same_rows(path, {name: array.shape[0] for name, array in inputs.items()}, "rows of the inputs differ")
    return Dataset(str(path), digest, inputs, _labels(path, arrays, labels, inputs) if labels else None)


def made_up(signature: Signature, rows: int) -> Dataset:
    """``rows`` rows of fixed pseudo-random numbers that fit the signature: enough for timing, never for accuracy.

    A first dimension that is not free stays as it is, other free dimensions are 1.
    """
    generator = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        free = (rows, *(1 for _ in spec.shape[1:]))
        shape = tuple(least if n is None else n for n, least in zip(spec.shape, free, strict=False))
        if spec.dtype == "str":
            inputs[spec.name] = np.full(shape, "a", dtype=object)
        elif np.issubdtype(np.dtype(spec.dtype), np.floating):
            inputs[spec.name] = generator.random(shape).astype(spec.dtype)
        else:
            inputs[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return Dataset("made up", "", inputs)


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0][:200]
    # numpy's words for every file that does not begin as one of its own, and no advice of ours.
    return "its first bytes are of another kind of file" if text.startswith("This file contains pickled") else text


def _arrays(path: Path) -> dict[str, Array]:
    arrays: dict[str, Any] | None = None
    try:
        with path.open("rb") as stream:  # numpy leaves a broken file open when it opens it itself
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # noqa: BLE001 - a broken file makes zipfile, zlib and numpy raise almost anything
        raise Refused(
            f"{path} is not a readable .npz file",
            found=_reason(error),
            expected="an .npz file of plain arrays (numpy.savez), no Python objects",
            next="write the file again",
        ) from None
    if arrays is None:
        raise Refused(f"{path} is a single array", expected="an .npz file with one array an input (numpy.savez)")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives a foreign member of the zip as bytes
            raise Refused(f"{path} holds more than arrays", found=f"'{name}'", expected="an .npz file made by numpy.savez")
    return arrays


def _fit(array: Array, spec: TensorSpec, place: str) -> Array:
    if not spec.shape:
        raise Refused(f"{place} has no axis of rows", found=str(spec), expected="an input whose first axis is the rows")
    if array.ndim != len(spec.shape) or any(
        n is not None and n != m for n, m in zip(spec.shape[1:], array.shape[1:], strict=True)
    ):
        raise Refused(
            f"{place} has the wrong shape",
            found=f"{array.dtype} {list(array.shape)}",
            expected=str(spec),
            next="write the rows as the training has them, or name another array: [data] inputs in shipworthy.toml",
        )
    if array.shape[0] == 0:
        raise Refused(f"{place} has no rows", found=str(list(array.shape)), expected="at least one row")
    if spec.dtype == "str":
        return array.astype(object) if array.dtype.kind == "U" else _wrong_dtype(array, spec, place)
    wanted = np.dtype(spec.dtype)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        return _wrong_dtype(array, spec, place)
    with np.errstate(over="ignore"):
        fitted = np.ascontiguousarray(array, dtype=wanted)
    lost = ~np.isfinite(fitted) if wanted.kind == "f" else fitted != array
    if lost.any():
        row, count = int(np.argwhere(lost)[0][0]), int(lost.sum())
        raise Refused(
            f"{place} holds " + ("NaN or infinity" if wanted.kind == "f" else f"numbers beyond {wanted}"),
            found=f"{count} such value{'s' if count > 1 else ''}, the first in row {row}",
            expected=f"finite numbers that {wanted} can hold: a metric over others says nothing",
            next="drop or fill those rows, as the training did",
        )
    return fitted


def _wrong_dtype(array: Array, spec: TensorSpec, place: str) -> Array:
    raise Refused(
        f"{place} has the wrong dtype",
        found=f"{array.dtype} {list(array.shape)}",
        expected=str(spec),
        next="write the array in that dtype: no safe cast exists between the two",
    )


def _labels(path: Path, arrays: Mapping[str, Array], name: str, inputs: Mapping[str, Array]) -> Array:
    if name not in arrays:
        raise Refused(
            f"{path} has no array '{name}' for the labels",
            found="arrays " + ", ".join(f"'{one}'" for one in sorted(arrays)),
            expected=f"an array '{name}' with one label a row",
            next="name the array in shipworthy.toml: [data] labels",
        )
    labels = arrays[name]
    if labels.ndim not in {1, 2}:
        raise Refused(
            f"{path}: the labels '{name}' have the wrong shape",
            found=str(list(labels.shape)),
            expected="one label, or one vector, a row",
        )
    rows = {one: array.shape[0] for one, array in inputs.items()}
    _same_rows(path, {name: len(labels)} | rows, "labels and rows differ in number")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise Refused(f"{path}: the labels '{name}' hold NaN or infinity", expected="one finite label a row")
    return labels


def _same_rows(path: Path, rows: Mapping[str, int], what: str) -> None:
    if len(set(rows.values())) > 1:
        raise Refused(
            f"{path}: {what}",
            found=", ".join(f"'{name}' {count}" for name, count in rows.items()),
            expected="the same number everywhere",
            next="write the file again from one table",
        )
