"""Weights that an ONNX model keeps in other files: which they are, whether they may be read, and the model as one file.

Nothing outside of the model's folder is opened, whatever the model says: no absolute path, no ``..``, no link that leads
elsewhere, nothing but plain files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Literal

import onnx
from google.protobuf.message import DecodeError

from shipworthy.backends.onnx_graph import tensors
from shipworthy.backends.onnx_types import bytes_of
from shipworthy.errors import Refused
from shipworthy.text import plain

# protobuf holds no more than 2 GiB in one message; the rest is room for what is written into a model later.
LIMIT_BYTES = 1_900_000_000
SHOWN = 80

Trouble = Literal["outside", "missing", "short"]


@dataclass(frozen=True)
class Problem:
    """A tensor in another file that is not as the model says: it leads ``outside``; the file is ``missing``, or ``short``."""

    kind: Trouble
    tensor: str
    file: str
    text: str


def files(path: Path) -> dict[str, Path | None]:
    """The files that an ONNX model keeps weights in, by the name it has for them; ``None``: one that may not be read.

    No file but ``path`` is opened. What is no ONNX model, or too large to be one, has none.
    """
    try:
        if path.stat().st_size > LIMIT_BYTES:
            return {}
        content = path.read_bytes()
        if b"location" not in content:  # the key of every such tensor; most models are not read further for this
            return {}
        proto = onnx.load_model_from_string(content)
    except (DecodeError, OSError):
        return {}
    return {name: _inside(path.parent, name) for name in sorted({_said(tensor, "location") for tensor in outside(proto)})}


def outside(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model whose data lies in another file."""
    return (tensor for tensor in tensors(proto) if tensor.data_location == onnx.TensorProto.EXTERNAL)


def problems(proto: onnx.ModelProto, folder: Path) -> list[Problem]:
    """What is wrong with the weights in other files of a folder; one a file and kind, of the first tensor there.

    Nothing is opened: the paths are the model's own, and may lead to what must not be.
    """
    found: dict[tuple[str, str], Problem] = {}
    for tensor in outside(proto):
        if one := _problem(tensor, folder):
            found.setdefault((one.kind, one.file), one)
    return list(found.values())


def whole_bytes(proto: onnx.ModelProto, path: Path) -> int:
    """Size of the model as one file, as far as its weights are where they should be."""
    there = (tensor for tensor in outside(proto) if not _problem(tensor, path.parent))
    return path.stat().st_size + sum(_span(tensor, path.parent)[1] for tensor in there)


def join(proto: onnx.ModelProto, path: Path) -> None:
    """Bring all weights into the message, in place.

    Args:
        proto: the model as it was read from ``path``.
        path: the file, whose folder the weights have to lie in.

    Raises:
        Refused: a file is gone or lies elsewhere, is too short, or all together are more than one file holds.
    """
    wrong = problems(proto, path.parent)
    if wrong:
        raise _refusal(wrong[0], path)
    if (size := whole_bytes(proto, path)) > LIMIT_BYTES:
        raise Refused(
            f"{path} and its weights are more than one file holds",
            found=f"{size / 1e9:.1f} GB",
            expected=f"at most {LIMIT_BYTES / 1e9:.1f} GB: protobuf ends at 2 GB, and one digest has to speak for all of it",
            next="the laws on files still speak, and onnxruntime runs such a model as it lies, outside of this tool; to have "
            "it measured and released, export it in float16, or in parts",
        )
    for tensor in list(outside(proto)):
        start, size = _span(tensor, path.parent)
        with (path.parent / _said(tensor, "location")).open("rb") as stream:
            stream.seek(start)
            tensor.raw_data = stream.read(size)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _problem(tensor: onnx.TensorProto, folder: Path) -> Problem | None:
    name = _said(tensor, "location")

    def found(kind: Trouble, text: str) -> Problem:
        return Problem(kind, plain(tensor.name, SHOWN), plain(name, SHOWN) or "(none)", text)

    if not name:
        return found("missing", "its weights are said to lie in another file, which has no name")
    if reason := _stray(folder, name):
        return found("outside", reason)
    path = folder / name
    if not path.is_file():
        return found("missing", f"there is no such file in {folder}" if not path.exists() else "it is not a plain file")
    try:
        (start, size), there, needed = _span(tensor, folder), path.stat().st_size, bytes_of(tensor.data_type, tensor.dims)
    except ValueError:
        offset, length = (plain(_said(tensor, key), 40) for key in ("offset", "length"))
        return found("short", f"offset {offset} and length {length}: no numbers")
    end = start + max(size, needed or 0)
    if start < 0 or size < 0 or end > there:
        return found("short", f"it has {there} bytes, and the tensor is said to lie at {start} to {end}")
    if needed is not None and size != needed and _said(tensor, "length"):
        return found("short", f"{size} bytes are said to hold a tensor of {needed}")
    return None


def _refusal(one: Problem, path: Path) -> Refused:
    found = f"tensor '{one.tensor}' in '{one.file}': {one.text}"
    if one.kind == "short":
        return Refused(
            f"{path} and its weights do not belong together",
            found=found,
            expected="files that are whole; a truncated download looks like this",
            next="copy or export the model again, with all of its files",
        )
    return Refused(
        f"{path} keeps weights where they are not read",
        found=found,
        expected=f"a plain file in {path.parent} or a folder below it, and no link to elsewhere",
        next="copy all files of the model into one folder, or export it again with the weights inside",
    )


def _inside(folder: Path, name: str) -> Path | None:
    """The plain file of that name in a folder or below it; ``None`` where it is something else, or leads elsewhere."""
    if not name or _stray(folder, name) or not (folder / name).is_file():
        return None
    return folder / name


def _stray(folder: Path, name: str) -> str:
    """Why a path does not stay in a folder; empty when it does."""
    if "\0" in name:
        return "the path has a zero byte"
    if PureWindowsPath(name).root:  # it begins with either stroke, or with a drive and one
        return "the path is absolute"
    if ".." in PureWindowsPath(name).parts:  # it parts at both kinds of strokes
        return "the path leads out of the model's folder"
    try:
        real = (folder / name).resolve()
        real.exists()  # raises where a name is too long
    except (OSError, RuntimeError) as error:
        return f"the path cannot be followed: {getattr(error, 'strerror', None) or 'links in a ring'}"
    if not real.is_relative_to(folder.resolve()):
        return f"a link leads out of the model's folder, to {plain(real)}"
    return ""


def _span(tensor: onnx.TensorProto, folder: Path) -> tuple[int, int]:
    """Where in its file the data begins, and how long it is; as long as the tensor, or the rest, where nothing is said.

    Raises:
        ValueError: what is said are no numbers.
    """
    start, size = (int(_said(tensor, key) or 0) for key in ("offset", "length"))
    if not size:
        needed = bytes_of(tensor.data_type, tensor.dims)
        size = (folder / _said(tensor, "location")).stat().st_size - start if needed is None else needed
    return start, size


def _said(tensor: onnx.TensorProto, key: str) -> str:
    """What is said of where the data lies; bytes that are no text name no file that is read."""
    value: str | bytes = next((entry.value for entry in tensor.external_data if entry.key == key), "")
    return value if isinstance(value, str) else value.decode("utf-8", errors="surrogateescape")
