"""What bytes are, by how they begin: for the user who named another file than they meant. Pure.

Source of the magic numbers: the formats' own pages, as the ``file`` command's database lists them.
"""

from __future__ import annotations

HEAD_BYTES = 512
TEXT = "a text"

# The longer ones first, where one begins another.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of git-lfs: the file itself was never fetched (git lfs pull)"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (.keras, .pt2, .pt and .npz are some)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x7fELF", "a program or library of Linux"),
    (b"MZ", "a program or library of Windows"),
    (b"\x93NUMPY", "an array of NumPy (.npy)"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"GGUF", "a GGUF model"),
    (b"RIFF", "a RIFF container (sound, pictures)"),
)
# Flatbuffers have their mark behind four bytes, tar behind 257.
WITHIN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"TFL3", "a model of TensorFlow Lite"),
    (4, b"ORTM", "onnxruntime's own format (.ort)"),
    (257, b"ustar", "a tar archive"),
)
PAGES = (b"<!doctype html", b"<html", b"<?xml")
_TEXT = {*range(0x20, 0x7F), *range(0x80, 0x100), *b"\t\n\r\f"}


def told(head: bytes) -> str:
    """What a file is that begins with these bytes (``HEAD_BYTES`` of them are enough); empty when nobody can tell."""
    if not head:
        return "an empty file"
    if not head.strip(b"\x00"):
        return "zeros: a download or a copy that never got its content"
    found = next((name for mark, name in BEGINNINGS if head.startswith(mark)), "")
    found = found or next((name for place, mark, name in WITHIN if head[place:].startswith(mark)), "")
    if found:
        return found
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(PAGES):
        return "a web page: the download gave its page, not the file"
    if start.startswith((b"{", b"[")) and _is_text(head):
        return "JSON"
    return TEXT if _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head):  # not a letter that was cut at the end
            return False
    return _TEXT.issuperset(head)
