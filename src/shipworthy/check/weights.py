"""The weights that an ONNX file keeps in other files: where they are said to lie, and whether they do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from shipworthy.check import parts
from shipworthy.check.words import plain

# One protobuf message cannot be larger, nor an ONNX file without others beside it.
LIMIT_BYTES = 2**31 - 1
# Less than a byte an element: so many elements a byte.
PACKED: dict[int, int] = {onnx.TensorProto.UINT4: 2, onnx.TensorProto.INT4: 2, onnx.TensorProto.FLOAT4E2M1: 2}

Trouble = Literal["outside", "missing", "short"]


@dataclass(frozen=True)
class Problem:
    """One file, or one tensor in it, that is not as the model says: leads ``outside``, is ``missing``, or too ``short``."""

    kind: Trouble
    place: str
    text: str


def problems(proto: onnx.ModelProto, folder: Path) -> list[Problem]:
    """What is wrong with the weights in other files; one line a file and kind, the first tensor named.

    Nothing is opened: the paths are the file's own, and may lead to what must not be.
    """
    found: dict[tuple[str, str], Problem] = {}
    for tensor, entries in external(proto):
        for kind, text in _judge(tensor, entries, folder):
            location = entries.get("location", "")
            place = f"tensor {plain(tensor.name, 80)}, file {plain(location, 80) or '(none)'}"
            found.setdefault((kind, location), Problem(kind, place, text))
    return list(found.values())


def external(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, dict[str, str]]]:
    """The tensors whose values lie in other files, with what is said of where."""
    for tensor in parts.tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor, {plain(one.key): _text(one.value) for one in tensor.external_data}


def whole_bytes(proto: onnx.ModelProto, path: Path) -> int:
    """Size of the model and of those files beside it that are where they should be, in bytes."""
    names = {entries.get("location", "") for _, entries in external(proto)}
    beside = [path.parent / name for name in names if name and not _outside(name, path.parent)]
    return path.stat().st_size + sum(one.stat().st_size for one in beside if one.is_file())


def _judge(tensor: onnx.TensorProto, entries: dict[str, str], folder: Path) -> Iterator[tuple[Trouble, str]]:
    location = entries.get("location", "")
    if not location:
        yield "missing", "its weights are said to lie in another file, which has no name"
        return
    if reason := _outside(location, folder):
        yield "outside", reason
        return
    path = folder / location
    if not path.is_file():
        yield "missing", f"there is no such file in {folder}" if not path.exists() else "it is not a plain file"
        return
    try:
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
    except ValueError:
        yield "short", f"offset {plain(entries.get('offset'), 40)} and length {plain(entries.get('length'), 40)}: no numbers"
        return
    size, needed = path.stat().st_size, _bytes(tensor)
    if offset < 0 or length < 0 or offset + max(length, needed or 0) > size:
        yield "short", f"it has {size} bytes, and the tensor is said to lie at {offset} to {offset + max(length, needed or 0)}"
    elif "length" in entries and needed is not None and length != needed:
        yield "short", f"{length} bytes are said to hold a tensor of {needed}"


def _outside(location: str, folder: Path) -> str:
    """Why the path does not stay in the folder; empty when it does."""
    path = Path(location)
    if "\x00" in location:
        return "the path has a zero byte"
    if path.is_absolute() or location[1:3] in {":\\", ":/"} or location.startswith("\\"):
        return "the path is absolute"
    if ".." in location.replace("\\", "/").split("/"):
        return "the path leads out of the model's folder"
    try:
        real = (folder / path).resolve()
        real.exists()  # raises where a name is too long
    except (OSError, RuntimeError) as error:
        return f"the path cannot be followed: {getattr(error, 'strerror', None) or 'links in a ring'}"
    if not real.is_relative_to(folder.resolve()):
        return f"a link leads out of the model's folder, to {plain(real)}"
    return ""


def _bytes(tensor: onnx.TensorProto) -> int | None:
    """Size of the values; ``None`` where the type has none, or the dimensions are impossible."""
    if any(one < 0 for one in tensor.dims):
        return None
    count = int(math.prod(tensor.dims))
    if tensor.data_type in PACKED:
        return -(-count // PACKED[tensor.data_type])
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", errors="surrogateescape")
