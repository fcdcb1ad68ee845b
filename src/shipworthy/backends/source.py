"""The trained file, whatever it is: the digest that speaks for all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shipworthy.backends import external, tensorflow_file
from shipworthy.files import file_digest, folder_digest


def digest(path: Path) -> str:
    """What stands for a model as it was trained. 64 hexadecimal digits.

    SHA-256 of the file's bytes. Of a folder, of the names and digests of all files in it; of an ONNX file with weights in
    other files, of its own digest and of theirs.

    Raises:
        Refused: there is no such file, one cannot be read, or the folder is no SavedModel.
    """
    if path.is_dir():
        tensorflow_file.kind(path)
        return folder_digest(path)
    own = file_digest(path)
    beside = external.files(path) if path.suffix == ".onnx" else {}
    if not beside:
        return own
    lines = [own, *(f"{file_digest(file) if file else 'unread'} {name}" for name, file in beside.items())]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
