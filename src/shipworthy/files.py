"""Files as the whole house handles them: digests, and writes that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shipworthy.errors import Refused, StorageFailed

FORBIDDEN = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),  # no place for a file of that name
}


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits.

    Raises:
        Refused: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise Refused(f"there is no file {path}", next="correct the path; it is read relative to the settings file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise Refused(f"{path} cannot be read", found=str(error), expected="a readable file") from None


def folder_digest(path: Path) -> str:
    """SHA-256 of the names and digests of all files in a folder, as 64 hexadecimal digits.

    Raises:
        Refused: a file cannot be read.
    """
    found = sorted((one.relative_to(path).as_posix(), one) for one in path.rglob("*") if one.is_file())
    return hashlib.sha256("\n".join(f"{file_digest(one)} {name}" for name, one in found).encode()).hexdigest()


def size_mb(path: Path) -> float:
    """Size of the file in MB (10**6 bytes)."""
    return path.stat().st_size / 1e6


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all: a temporary file beside it, flushed to the disk, then renamed.

    Raises:
        StorageFailed: the disk is full, or the folder cannot be written.
    """
    with machine_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def publish(draft: Path, final: Path) -> None:
    """Rename a finished file or folder into place, its contents on the disk first.

    Somebody who published the same content before us has done our work: the draft goes.
    """
    with machine_errors(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        for path in [draft, *draft.rglob("*")] if draft.is_dir() else [draft]:
            _flush(path)
        try:
            draft.rename(final)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not final.is_dir():
                raise
            shutil.rmtree(draft)
        _flush(final.parent)


@contextmanager
def draft_folder(parent: Path) -> Iterator[Path]:
    """A fresh folder below ``parent`` to build something in; gone afterwards, whatever happens."""
    with machine_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix="draft-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def machine_errors(place: Path) -> Iterator[None]:
    """Turn what the operating system says of a full or forbidden disk into our words.

    Raises:
        StorageFailed: no space left, a quota or file-size limit reached, a read-only or forbidden folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFailed(
                f"the disk is full at {place}",
                found=f"{_free(place)} free; the system says: {error.strerror}",
                next="free some space and run the same command again: what was finished is kept (or name another --workspace)",
            ) from error
        if error.errno in FORBIDDEN:
            raise StorageFailed(
                f"{place} cannot be written",
                found=error.strerror or str(error),
                next="give this user the right to write there, or name another folder",
            ) from error
        raise


def need_room(place: Path, size_bytes: int) -> None:
    """Tell a full disk from other failures of libraries that do not say why they could not write.

    Raises:
        StorageFailed: fewer than ``size_bytes`` are free at ``place``.
    """
    with machine_errors(place):
        if shutil.disk_usage(place).free < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _free(place: Path) -> str:
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return f"{shutil.disk_usage(place).free / 1e6:.1f} MB"
    except OSError:
        return "an unknown amount"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
