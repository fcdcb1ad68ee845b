"""Area ``format``: the file is whole, is what its name says, and the target's runtime takes it.

What is done here for each kind of file reads its bytes and loads no framework; what can crash comes last.
"""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.backends import boosters, sklearn, tensorflow_file, torch
from shipworthy.check import archives, format_onnx, format_safetensors, magic
from shipworthy.check.law import Law
from shipworthy.check.readable import READABLE
from shipworthy.check.subject import Origin
from shipworthy.check.words import first_line
from shipworthy.errors import Refused
from shipworthy.records import Finding
from shipworthy.text import plain

ARCHIVE = Law(
    name="format.archive",
    severity="error",
    holds="the archive is whole, and what it says to unpack to is bounded",
    breaks="whoever unpacks it fills the memory or the disk, or gets other members than those that were looked at",
    mend="write or copy the file again; do not unpack it",
)
LAWS: tuple[Law, ...] = (READABLE, *format_onnx.LAWS, ARCHIVE, *format_safetensors.LAWS)

# Archives, unless an older torch has written them.
MAYBE = torch.PICKLES


def look(origin: Origin) -> Iterator[Finding]:
    """What the suffix says decides which laws are asked; a file that cannot be opened breaks the first of them.

    Pickles are read by the area of security.
    """
    try:
        if not origin.path.is_dir():
            with origin.path.open("rb") as stream:
                head = stream.read(magic.HEAD_BYTES)
            if not head:
                yield READABLE.found(str(origin.named), "it is empty: 0 bytes")
                return
            yield from _of_a_file(origin, head)
        elif origin.path.suffix == ".onnx":
            yield READABLE.found(str(origin.named), "it is a folder", "name the file in it")
        else:
            yield from _of_a_folder(origin)
    except OSError as error:
        yield READABLE.found(str(origin.named), first_line(error))


def _of_a_file(origin: Origin, head: bytes) -> Iterator[Finding]:
    suffix = origin.path.suffix
    if suffix == ".onnx":
        yield from format_onnx.look(origin)
    elif suffix == torch.WEIGHTS:
        yield from format_safetensors.look(origin)
    elif suffix in (tensorflow_file.KERAS, torch.PROGRAM, sklearn.SKOPS) or (suffix in MAYBE and head.startswith(b"PK")):
        yield from _archive(origin, head)
    elif suffix == tensorflow_file.HDF5 and not head.startswith(tensorflow_file.MAGIC):
        yield READABLE.found(str(origin.named), f"it is no HDF5 file: {magic.told(head) or 'its first bytes are others'}")
    elif suffix in boosters.SUFFIXES and not boosters.is_model(origin.path):
        text = (
            f"it is no model of {boosters.FRAMEWORKS[boosters.SUFFIXES[suffix]]}: {magic.told(head) or 'it begins otherwise'}"
        )
        yield READABLE.found(str(origin.named), text)


def _archive(origin: Origin, head: bytes) -> Iterator[Finding]:
    if not head.startswith(b"PK"):
        yield READABLE.found(str(origin.named), f"it is no zip archive: {magic.told(head) or 'its first bytes are others'}")
        return
    said = list(archives.troubles(origin.path))
    yield from (ARCHIVE.found(str(origin.named), text) for text in said)
    if not said and origin.path.suffix == tensorflow_file.KERAS:
        yield from _keras(origin)


def _keras(origin: Origin) -> Iterator[Finding]:
    try:
        tensorflow_file.reasons(origin.path)  # it reads all that says what the model is made of
    except Refused as error:
        yield READABLE.found(str(origin.named), plain(error.found, 300), error.next or None)


def _of_a_folder(origin: Origin) -> Iterator[Finding]:
    yield from _keras(origin)
    graph = origin.path / tensorflow_file.GRAPH
    if graph.is_file():
        with graph.open("rb") as stream:
            head = stream.read(magic.HEAD_BYTES)
        # The message SavedModel begins with its version, as a number, or with the first of its graphs.
        if not head.startswith((b"\x08", b"\x12")):
            told = magic.told(head) or "its first bytes are others"
            yield READABLE.found(str(graph), f"it is no graph of TensorFlow: {told}")
