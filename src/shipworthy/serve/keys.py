"""Who may ask for what: keys by their digests, the models that each may use, and whether it may load and unload them.

A key is 32 random bytes, so there is nothing to guess, and a plain SHA-256 of it is as good as a slow hash and costs a
microsecond. Keys are looked up by that digest. How long the look-up takes could tell of digests at most, and nobody can
choose a key by what its digest begins with: no comparison of ours walks along a secret that a caller gets nearer to.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from shipworthy.errors import Refused
from shipworthy.files import machine_errors

PREFIX = "sw_"
KEY_BYTES = 32
LARGEST_FILE = 1_000_000
# Longer ones are not keys of ours: no digest is made of what a stranger sends at length.
LONGEST_HEADER = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NEXT = "make an entry with: shipworthy key NAME --file FILE"


class Unauthenticated(Refused):
    """No key came with the request, or one that is not known. HTTP 401."""

    http_status = 401


class Forbidden(Refused):
    """The key does not give the right to do this. HTTP 403."""

    http_status = 403


@dataclass(frozen=True)
class Rights:
    """What a key gives: ``models`` that it may use (``None``: all), and whether it may load and unload these."""

    models: frozenset[str] | None = None
    operate: bool = False

    def may_use(self, name: str) -> bool:
        """Whether a model may be asked, and its existence be known."""
        return self.models is None or name in self.models

    def need(self, name: str) -> None:
        """Let pass who may use the model.

        Raises:
            Forbidden: the key gives no such right.
        """
        if not self.may_use(name):
            raise Forbidden(f"this key may not use model '{name[:100]}'", next="use a key whose models name it")

    def need_operate(self) -> None:
        """Let pass who may load and unload models.

        Raises:
            Forbidden: the key gives no such right.
        """
        if not self.operate:
            raise Forbidden("this key may not load or unload models", next="use a key with operate = true")


@dataclass(frozen=True)
class Keys:
    """All keys: the rights, and the name, by the SHA-256 of the key."""

    rights: Mapping[bytes, Rights] = field(repr=False)
    names: Mapping[bytes, str] = field(default_factory=dict, repr=False)

    def find(self, headers: Iterable[bytes]) -> Rights:
        """The rights of who sent these ``authorization`` headers.

        Raises:
            Unauthenticated: there is none, or several, or none of ours.
        """
        sent = list(headers)
        if len(sent) != 1 or len(sent[0]) > LONGEST_HEADER:
            raise _unknown("no key" if not sent else "not one key")
        scheme, _, key = sent[0].partition(b" ")
        rights = self.rights.get(hashlib.sha256(key.strip()).digest())
        if rights is None or scheme.lower() != b"bearer":
            raise _unknown("another text")
        return rights

    def name(self, header: bytes) -> str | None:
        """What people call the key in an ``authorization`` header; ``None``: it is none of ours."""
        if len(header) > LONGEST_HEADER:
            return None
        return self.names.get(hashlib.sha256(header.partition(b" ")[2].strip()).digest())


def _unknown(found: str) -> Unauthenticated:
    return Unauthenticated("this server asks for a key", found=found, expected="the header 'Authorization: Bearer KEY'")


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hash: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    models: Literal["*"] | tuple[str, ...]
    operate: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: dict[str, _Entry]


def read(path: Path) -> Keys:
    """The keys in a file.

    Raises:
        Refused: it is not there, not TOML, too large, or an entry is not right; the message names the entry.
    """
    return parse(_text(path), str(path))


def parse(text: str, origin: str) -> Keys:
    """The keys in a text: a table ``[keys.NAME]`` each; ``origin`` is the file that messages name.

    Raises:
        Refused: as ``read``.
    """
    try:
        entries = msgspec.convert(tomllib.loads(text), _File).keys
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Refused(f"the key file {origin} is not TOML", found=str(error)[:200], next="correct that line") from None
    except msgspec.ValidationError as error:
        raise Refused(
            f"the key file {origin} is not right",
            found=str(error),
            expected="[keys.NAME] with hash = 'sha256:' and 64 digits, models = names or '*', operate = true or false",
            next=_NEXT,
        ) from None
    if not entries:
        raise Refused(f"the key file {origin} has no keys: nobody could ask anything", next=_NEXT)
    rights: dict[bytes, Rights] = {}
    names: dict[bytes, str] = {}
    for name, entry in entries.items():
        digest = bytes.fromhex(entry.hash.removeprefix("sha256:"))
        if not _NAME.fullmatch(name):
            raise Refused(f"the key file {origin} is not right", found=f"a key named {name[:100]!r}", expected=_NAME.pattern)
        if digest in rights:
            raise Refused(f"the key file {origin} has one hash twice", found=f"again under '{name}'", next=_NEXT)
        rights[digest] = Rights(None if entry.models == "*" else frozenset(entry.models), entry.operate)
        names[digest] = name
    return Keys(rights, names)


def make(name: str, models: tuple[str, ...], *, operate: bool) -> tuple[str, str]:
    """A new key, and its entry for a key file; the entry does not tell the key.

    Args:
        name: what people call the key; letters, digits, ``_`` and ``-``.
        models: those that it may use; none given: all.
        operate: whether it may load and unload them.

    Raises:
        Refused: no such name can be.
    """
    if not _NAME.fullmatch(name):
        raise Refused("a key cannot have this name", found=repr(name[:100]), expected="letters, digits, _ and -, at most 64")
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    listed = msgspec.json.encode(models).decode() if models else '"*"'  # JSON's strings and lists are TOML's, too
    lines = [
        f"[keys.{name}]",
        f'hash = "sha256:{hashlib.sha256(key.encode()).hexdigest()}"',
        f"models = {listed}",
        f"operate = {str(operate).lower()}",
    ]
    return key, "\n".join(lines) + "\n"


def append(path: Path, entry: str) -> None:
    """Put an entry at the end of a key file, which is made where there is none; for its owner's eyes only.

    Raises:
        Refused: the file is not right, or has an entry of that name.
        StorageFailed: the disk is full, or the folder cannot be written.
    """
    text = _text(path) + "\n" if path.exists() else ""
    parse(text + entry, str(path))
    final = path.resolve()
    with machine_errors(final.parent):
        handle, temporary = tempfile.mkstemp(dir=final.parent, prefix=".writing-")  # only its owner may read it
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text + entry)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(final)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise Refused(f"the key file {path} is too large", expected=f"at most {LARGEST_FILE / 1e6:g} MB")
        return data.decode()
    except FileNotFoundError:
        raise Refused(f"there is no key file {path}", next=_NEXT) from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a zero byte in the path
        raise Refused(f"the key file {path} cannot be read", found=str(error)[:200]) from None
