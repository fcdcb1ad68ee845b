"""The folder that ships: named by the digest of its manifest, which holds the digest of every file.

``STORE/DIGEST/manifest.json`` is the canonical JSON of ``records.Bundle``; the other files lie beside it. Two writers
of the same content meet in the same folder. A folder is there whole or not at all, and never changed afterwards.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from shipworthy import files, records
from shipworthy.errors import NotFound, Refused
from shipworthy.records import Bundle, FileEntry

MANIFEST = "manifest.json"
MODEL = "model.onnx"
FORMAT = 1

# No separators and no leading dot: a name can neither leave the folder nor hide in it.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def write(
    store: Path, parts: Mapping[str, bytes | Path], *, name: str, variant_name: str, source: str, model: str, variant: str
) -> tuple[str, Bundle]:
    """Write the bundle ``STORE/DIGEST/``, or reuse the one that is there with the same content.

    Args:
        store: the folder of all bundles.
        parts: file name to its bytes, or to the file to copy; ``model.onnx`` must be among them.
        name: what the release will be called.
        variant_name: the name of the variant that ships.
        source: digest of the trained file.
        model: digest of the ONNX that the trained file became.
        variant: digest of ``model.onnx``.

    Returns:
        The digest of the bundle (SHA-256 of the manifest, 64 hexadecimal digits) and the manifest.

    Raises:
        Refused: a file name is not a plain one, a file to copy is missing, ``model.onnx`` is not the variant that was
            named, or a bundle of that digest is there already and damaged.
        Failed: the disk is full or the store cannot be written.
    """
    _refuse_names({*parts}, "a bundle")
    if MODEL not in parts or MANIFEST in parts:
        raise Refused("these are not the parts of a bundle", found=", ".join(sorted(parts)), expected=f"{MODEL}, no {MANIFEST}")
    with files.draft_folder(store) as draft, files.machine_errors(store):
        entries = {part: _place(content, draft / part) for part, content in sorted(parts.items())}
        if entries[MODEL].digest != variant:
            raise Refused(
                f"{MODEL} is not the variant that was measured",
                found=f"sha256 {entries[MODEL].digest}",
                expected=f"sha256 {variant}",
                next="the file was changed after it was measured: run the same command again",
            )
        bundle = Bundle(
            name=name, variant_name=variant_name, source=source, model=model, variant=variant, files=entries, format=FORMAT
        )
        manifest = records.encode(bundle)
        _place(manifest, draft / MANIFEST)
        digest = hashlib.sha256(manifest).hexdigest()
        draft.chmod(0o755)  # a draft is private, a bundle is not: the server may be another user
        files.publish(draft, store / digest)
    return digest, verify(store / digest, digest)


def verify(folder: Path, digest: str | None = None) -> Bundle:
    """Read everything in the bundle again and compare it with the manifest.

    Args:
        folder: the bundle.
        digest: the digest that the manifest must have; ``None`` takes the manifest as it is.

    Raises:
        NotFound: there is no bundle in that folder.
        Refused: the manifest is another one, or files are missing, extra or changed; the message names them.
    """
    place = folder / MANIFEST
    if not place.is_file():
        raise NotFound(f"{folder} is not a bundle", found=f"no {MANIFEST}", next="name a folder that a release wrote")
    found = files.file_digest(place)
    if digest is not None and found != digest:
        raise Refused(
            f"the bundle {folder} was changed",
            found=f"{MANIFEST} sha256 {found}",
            expected=f"sha256 {digest}",
            next="restore that folder from where it was copied, or remove it and release again",
        )
    bundle = records.decode(Bundle, place.read_bytes())
    if bundle.format != FORMAT:
        raise Refused(
            f"the bundle {folder} has a format that this version does not read",
            found=f"format {bundle.format}",
            expected=f"format {FORMAT}",
            next="use the Shipworthy that wrote it, or a newer one",
        )
    _refuse_names({*bundle.files}, str(place))
    _refuse_differences(folder, bundle)
    return bundle


def open_bundle(store: Path, digest: str) -> tuple[Path, Bundle]:
    """The folder and the manifest of the bundle with that digest, verified.

    Raises:
        NotFound: the store holds no such bundle.
        Refused: the bundle was changed; the message names the files.
    """
    folder = store / digest
    if not _DIGEST.fullmatch(digest) or not folder.is_dir():
        raise NotFound(
            f"there is no bundle {digest}",
            expected=f"a folder of that name in {store}",
            next="copy it from the machine that released it, or release again",
        )
    return folder, verify(folder, digest)


def _place(content: bytes | Path, place: Path) -> FileEntry:
    """Put the content there, and say what lies there now: the copy counts, not what it was copied from."""
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        try:
            shutil.copyfile(content, place)
        except (FileNotFoundError, IsADirectoryError):
            raise Refused(f"there is no file {content}", expected=f"what ships as {place.name}") from None
    place.chmod(0o444)
    return FileEntry(digest=files.file_digest(place), size_bytes=place.stat().st_size)


def _refuse_names(names: set[str], place: str) -> None:
    wrong = sorted(name for name in names if not _FILE_NAME.fullmatch(name))
    if wrong:
        raise Refused(
            f"{place} cannot hold a file of that name",
            found=", ".join(map(repr, wrong)),
            expected="plain names of letters, digits, '.', '_' and '-'; no folders",
        )


def _refuse_differences(folder: Path, bundle: Bundle) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {MANIFEST}
    both = sorted(present & bundle.files.keys())
    differences = {
        "missing": sorted(bundle.files.keys() - present),
        "extra": sorted(present - bundle.files.keys()),
        "changed": [name for name in both if not _is_whole(folder / name, bundle.files[name])],
    }
    if not any(differences.values()) and bundle.files.get(MODEL, FileEntry(digest="", size_bytes=0)).digest == bundle.variant:
        return
    raise Refused(
        f"the bundle {folder} was changed",
        found="; ".join(f"{kind}: {', '.join(names)}" for kind, names in differences.items() if names)
        or f"{MODEL} is not the variant that the manifest names",
        expected=f"exactly the files in {MANIFEST}, byte for byte",
        next="restore that folder from where it was copied, or remove it and release again",
    )


def _is_whole(path: Path, entry: FileEntry) -> bool:
    return (
        path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == entry.size_bytes
        and files.file_digest(path) == entry.digest
    )
