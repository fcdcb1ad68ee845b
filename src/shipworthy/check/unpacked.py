"""The pickles in a file of scikit-learn or PyTorch, wherever they lie: compressed, in archives, in archives within those."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.check import archives, magic
from shipworthy.check.pickles import Name, Opaque, names
from shipworthy.check.words import first_line
from shipworthy.text import plain

# What one pickle may unpack to; an archive within an archive is unpacked in memory.
MOST_BYTES, MOST_NESTED_BYTES = 2**32, 2**28
MOST_DEPTH = 3
# An older torch writes five pickles one behind another: a number, a version, sizes, the object, the keys of its storages.
LEGACY = 5
PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
MARKS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
CODE = "/code/"


@dataclass
class Contents:
    """What was found: the globals of all pickles, why some could not be followed, and files of TorchScript's code."""

    names: set[Name] = field(default_factory=set)
    opaque: list[str] = field(default_factory=list)
    code: int = 0


def of_scikit_learn(path: Path) -> Contents:
    """A file of joblib or pickle, compressed or not."""
    found = Contents()
    with path.open("rb") as stream:
        _follow(found, "", lambda: _decompressed(stream), 1)
    return found


def of_torch(path: Path) -> Contents:
    """An archive of torch's, or the pickles of an older torch."""
    found = Contents()
    with path.open("rb") as stream:
        _look(found, "", stream, depth=0, surely=True)
    return found


def _look(found: Contents, place: str, stream: io.BufferedIOBase, depth: int, *, surely: bool) -> None:
    """Whatever the stream is; where it is only perhaps a pickle, it may be no pickle at all."""
    head = stream.read(magic.HEAD_BYTES)
    stream.seek(0)
    if head.startswith(b"PK"):
        _archive(found, place, stream, depth)
    elif place.endswith(".npy"):
        _follow(found, place, lambda: _array(stream), 1)
    elif surely or head.startswith(MARKS):
        said = [] if surely else list(found.opaque)
        _follow(found, place, lambda: _pickled(stream, head), LEGACY)
        if not surely:
            found.opaque = said


def _archive(found: Contents, place: str, stream: io.BufferedIOBase, depth: int) -> None:
    if depth > MOST_DEPTH:
        found.opaque.append(f"{place}: more than {MOST_DEPTH} archives lie one within another")
        return
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if said := list(archives.declared(members)):
                found.opaque.append(f"{place}: {said[0]}" if place else said[0])
                return
            for member in members:
                _member(found, f"{place}:{member.filename}" if place else member.filename, archive, member, depth)
    except archives.BROKEN as error:
        found.opaque.append(f"{place or 'it'} is no whole zip archive: {first_line(error)}")


def _member(found: Contents, place: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, depth: int) -> None:
    name = f"/{member.filename}"
    found.code += CODE in name and name.endswith(".py")
    with archive.open(member) as opened:
        head = opened.read(len(MARKS[0]))
    surely = name.endswith(PICKLED)
    if not (surely or name.endswith(".npy") or head.startswith((*MARKS, b"PK"))):
        return
    with archive.open(member) as opened:
        if head.startswith(b"PK"):
            if member.file_size > MOST_NESTED_BYTES:
                found.opaque.append(f"{plain(place)}: an archive of {member.file_size} bytes lies in the archive")
                return
            _look(found, place, io.BytesIO(opened.read()), depth + 1, surely=surely)
        else:
            _look(found, place, opened, depth, surely=surely)  # type: ignore[arg-type]  # it is one


def _follow(found: Contents, place: str, opened: Callable[[], io.BufferedIOBase | None], pickles: int) -> None:
    try:
        stream = opened()
        if stream:
            names(stream, found.names, MOST_BYTES, pickles)
    except (Opaque, *archives.BROKEN, lzma.LZMAError) as error:
        said = str(error) if isinstance(error, Opaque) else first_line(error)
        found.opaque.append(plain(f"{place}: {said}" if place else said, 300))


def _array(stream: io.BufferedIOBase) -> io.BufferedIOBase | None:
    """What is pickled in an .npy file: the part behind the header, where the array holds objects."""
    version = np.lib.format.read_magic(stream)
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return stream if read(stream)[2].hasobject else None


def _decompressed(stream: io.BufferedIOBase) -> io.BufferedIOBase:
    """As joblib chooses it: by the first bytes."""
    head = stream.read(magic.HEAD_BYTES)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZ"):
        return bz2.BZ2File(stream)
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return lzma.LZMAFile(stream)  # type: ignore[arg-type]  # it takes any file
    if head.startswith(b"x"):
        return io.BufferedReader(_Inflated(stream))
    if head.startswith(b"\x04\x22\x4d\x18"):
        raise Opaque("it is compressed with LZ4, which is not unpacked here: joblib.dump(..., compress=('zlib', 3))")
    return _pickled(stream, head)


def _pickled(stream: io.BufferedIOBase, head: bytes) -> io.BufferedIOBase:
    """The stream, unless its first bytes are something else's; the oldest protocol is text."""
    if (told := magic.told(head)) and not head.startswith(MARKS) and told != magic.TEXT:
        raise Opaque(f"it is no pickle, but {told}")
    return stream


class _Inflated(io.RawIOBase):
    """A stream of zlib's, unpacked as it is read."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._pieces = _inflate(stream)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _inflate(stream: io.BufferedIOBase) -> Iterator[bytes]:
    unpack = zlib.decompressobj()
    while not unpack.eof:
        packed = unpack.unconsumed_tail or stream.read(archives.CHUNK)
        if not packed:
            raise EOFError("it breaks off")
        yield unpack.decompress(packed, archives.CHUNK)
