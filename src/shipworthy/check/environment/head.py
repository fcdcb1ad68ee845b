"""The opset and the IR version of an ONNX file, read past its weights: only the outermost fields, never what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

# Numbers of the fields in onnx.proto: those of ModelProto, and of OperatorSetIdProto in it.
IR_VERSION, OPSET_IMPORT, DOMAIN, VERSION = 1, 8, 1, 2
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# An import is a name and a number; a model imports a few.
LIMIT_IMPORT_BYTES, LIMIT_FIELDS = 10_000, 100_000


def read(path: Path) -> tuple[int, int] | None:
    """The opset of the default domain (0: none named) and the IR version; ``None`` for what is no ONNX file."""
    opset = ir_version = 0
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            for _ in range(LIMIT_FIELDS):
                if file.tell() >= size:
                    break
                field, kind = divmod(_varint(file), 8)
                if kind == VARINT:
                    value = _varint(file)
                    ir_version = value if field == IR_VERSION else ir_version
                elif kind == LENGTH:
                    length = _varint(file)
                    if length > size - file.tell():
                        return None
                    if field == OPSET_IMPORT and length <= LIMIT_IMPORT_BYTES:
                        opset = _default(file, file.tell() + length) or opset
                    else:
                        file.seek(length, 1)
                elif kind in {FIXED64, FIXED32}:
                    file.seek(8 if kind == FIXED64 else 4, 1)
                else:
                    return None
    except (OSError, ValueError):
        return None
    return (opset, ir_version) if ir_version else None


def _default(file: BinaryIO, end: int) -> int:
    """The version of one import if it is of ONNX's own domain, else 0; the file stands at its end afterwards."""
    domain, version = b"", 0
    while file.tell() < end:
        field, kind = divmod(_varint(file), 8)
        if (field, kind) == (DOMAIN, LENGTH):
            domain = file.read(min(_varint(file), end - file.tell()))
        elif (field, kind) == (VERSION, VARINT):
            version = _varint(file)
        else:
            break
    file.seek(end)
    return version if domain in {b"", b"ai.onnx"} else 0


def _varint(file: BinaryIO) -> int:
    """A whole number as protobuf writes it: seven bits a byte, the lowest first.

    Raises:
        ValueError: the file ends in it, or it is longer than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:  # noqa: PLR2004  the highest bit says that more follow
            return value
    raise ValueError("a number of more than 64 bits")
