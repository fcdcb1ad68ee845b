"""The folder ``.shipworthy/``: what earlier runs left, so that nothing is done twice.

``registry.db`` releases, aliases and the log · ``store/DIGEST/`` bundles · ``models/DIGEST.onnx`` models and variants ·
``cache/STAGE/KEY.json`` records of finished stages, keyed by the digest of everything that shaped them · ``reports/``.

Every file is written whole or not at all, so a run that was killed leaves finished stages and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shipworthy import records
from shipworthy.errors import Refused
from shipworthy.files import file_digest, machine_errors, write_bytes

R = TypeVar("R", bound=records.Record)
FOLDER = ".shipworthy"


class Workspace:
    """One such folder. Constructing stores the path; the folder appears with the first thing written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.reused: list[str] = []

    @property
    def models(self) -> Path:
        """ONNX files, each named by the digest of its bytes."""
        return self.folder / "models"

    @property
    def store(self) -> Path:
        """Bundles, each in a folder named by its digest."""
        return self.folder / "store"

    @property
    def registry(self) -> Path:
        """The registry's database."""
        return self.folder / "registry.db"

    @property
    def reports(self) -> Path:
        """HTML reports."""
        return self.folder / "reports"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Work here alone; scraps of a run that was killed are swept first. The kernel frees the lock of a dead process.

        Raises:
            Refused: another process works here, or a file stands in the way.
            StorageFailed: the folder cannot be written.
        """
        with machine_errors(self.folder):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise Refused(
                    f"{self.folder} cannot be a workspace",
                    found="a file where a folder is needed",
                    next="name a folder with --workspace",
                ) from None
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    f"another shipworthy works in {self.folder}",
                    found=f"process {os.read(handle, 20).decode().strip() or 'unknown'}",
                    next="wait for it, end it, or name another folder with --workspace",
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            self._sweep()
            yield
        finally:
            os.close(handle)

    def reuse(
        self, stage: str, key: dict[str, Any], kind: type[R], build: Callable[[], R], keep: Callable[[R], bool] = lambda _: True
    ) -> R:
        """The record of a stage, as ``recall`` gives it; where it is from an earlier run, ``reused`` says so."""
        built = False

        def build_and_tell() -> R:
            nonlocal built
            built = True
            return build()

        record = self.recall(stage, key, kind, build_and_tell, keep)
        if not built:
            self.reused.append(stage)
        return record

    def recall(
        self, stage: str, key: dict[str, Any], kind: type[R], build: Callable[[], R], keep: Callable[[R], bool] = lambda _: True
    ) -> R:
        """A record from an earlier run with the same key whose files are all still whole, or built now.

        Args:
            stage: the stage's word.
            key: everything that shapes the result: digests, options, versions.
            kind: the record.
            build: makes it; only called when there is none to reuse.
            keep: whether what was built may be reused later; anything is, when not given.
        """
        name = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
        path = self.folder / "cache" / stage / f"{name}.json"
        try:
            record = records.decode(kind, path.read_bytes())
        except (FileNotFoundError, Refused):
            record = None
        if record is not None and all(_whole(file) for file in _files(record)):
            return record
        record = build()
        if keep(record):
            write_bytes(path, records.encode(record))
        return record

    def _sweep(self) -> None:
        cache = self.folder / "cache"
        drafts = (*self.models.glob("draft-*"), *self.store.glob("draft-*"))
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)
        for scrap in (*cache.glob("*/.writing-*"), *self.reports.glob(".writing-*")):
            scrap.unlink(missing_ok=True)


def _files(record: records.Record) -> list[records.Model | records.Variant]:
    if isinstance(record, records.Model):
        return [record]
    if isinstance(record, records.Made):
        return [record.variant] if record.variant else []
    return list(record.variants) if isinstance(record, records.Optimized) else []


def _whole(named: records.Model | records.Variant) -> bool:
    path = Path(named.path)
    return path.is_file() and file_digest(path) == named.digest
