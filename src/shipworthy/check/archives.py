"""Zip archives as models come in (.keras, .pt2, .pt): looked through member by member, and never unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shipworthy.check.words import first_line, listed
from shipworthy.text import plain

# More than weights ever shrink, pruned ones among them; small members of text do, and harm nobody.
RATIO, RATIO_BYTES = 200, 100_000_000
# One ONNX file holds no more, and an archive of a model has a few members a layer.
MOST_BYTES, MOST_MEMBERS = 2**31, 100_000
CHUNK = 1 << 20
ENCRYPTED = 0x1
# zipfile and what it unpacks with raise all of these over broken archives.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, struct.error, ValueError)


def troubles(path: Path) -> Iterator[str]:
    """What is wrong with the archive: broken, a bomb, members that say one name twice; every byte is read, none kept."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if said := list(declared(members)):
                yield from said
                return  # reading it is what a bomb waits for
            yield from _read(archive, members)
    except BROKEN as error:
        yield f"it is no whole zip archive: {first_line(error)}"


def strays(path: Path) -> Iterator[tuple[str, str]]:
    """The members that would not stay in the folder that they are unpacked in, with the reason."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except BROKEN:
        return  # the law of archives says so
    for member in members:
        name = member.orig_filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or name[1:2] == ":":
            yield plain(name, 80), "its path is absolute"
        elif ".." in parts:
            yield plain(name, 80), "its path leads out of the folder"
        elif "\x00" in name:
            yield plain(name, 80), "its name has a zero byte: tools read it as another name"
        elif stat.S_ISLNK(member.external_attr >> 16):
            yield plain(name, 80), "it is a link"


def declared(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    """What the archive's list of its members says that no model's says; nothing is read for it."""
    size, packed = sum(one.file_size for one in members), sum(one.compress_size for one in members)
    if len(members) > MOST_MEMBERS:
        yield f"it has {len(members)} members, more than any model: at most {MOST_MEMBERS}"
    if size > MOST_BYTES:
        yield f"it says to unpack to {size / 1e9:.1f} GB: at most {MOST_BYTES / 1e9:.1f} GB"
    elif size > RATIO_BYTES and size > RATIO * packed:
        yield f"it unpacks {packed} bytes to {size}, which weights never do: a zip bomb looks like this"
    if twice := [name for name, count in Counter(one.filename for one in members).items() if count > 1]:
        yield f"it has two members of one name, and which of them is read depends on the reader: {listed(twice)}"
    if locked := [one.filename for one in members if one.flag_bits & ENCRYPTED]:
        yield f"it is encrypted: {listed(locked)}"


def _read(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Every member to its end, which compares its checksum; no more than it has declared."""
    for member in members:
        try:
            with archive.open(member) as stream:
                read = 0
                while piece := stream.read(CHUNK):
                    read += len(piece)
                    if read > member.file_size:
                        break
        except BROKEN as error:
            yield f"its member {plain(member.filename, 80)} cannot be read: {first_line(error)}"
            return
        if read != member.file_size:
            yield f"its member {plain(member.filename, 80)} has not the {member.file_size} bytes that it says"
            return
