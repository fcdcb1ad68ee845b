"""The registry in one SQLite file: releases, and a log of promotions that only grows.

There is no table of aliases: an alias is where the last line of the log put it, so that the two cannot disagree.
Every method opens its own connection and is one transaction; any number of threads and processes may use one file.
A registry that does not exist reads as an empty one; the file appears with the first release.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from shipworthy.errors import Conflict, Failed, NotFound, Refused, ShipworthyError
from shipworthy.records import Promotion, Release

SCHEMA = 1
BUSY_SECONDS = 20.0

_APPLICATION = 0x53484950  # "SHIP": tells our file from another program's
_VERSION = re.compile(r"[0-9]{1,18}")
_TABLES = f"""
CREATE TABLE release (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (name, version),
    UNIQUE (name, bundle)
);
CREATE TABLE promotion (
    line INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    before INTEGER,
    after INTEGER,
    at TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    FOREIGN KEY (name, before) REFERENCES release (name, version),
    FOREIGN KEY (name, after) REFERENCES release (name, version)
);
CREATE INDEX promotion_of_alias ON promotion (name, alias, line);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {SCHEMA};
"""
# REPLACE deletes without firing a DELETE trigger, so inserting over a row needs a guard of its own.
_GUARD = """
CREATE TRIGGER {table}_not_updated BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
CREATE TRIGGER {table}_not_deleted BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
CREATE TRIGGER {table}_not_replaced BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
"""
_GUARDS = _GUARD.format(
    table="release", same="name = NEW.name AND (version = NEW.version OR bundle = NEW.bundle)"
) + _GUARD.format(table="promotion", same="line = NEW.line")

_RELEASE = "SELECT name, version, bundle, created_at, created_by FROM release"
_PROMOTION = "SELECT name, alias, before, after, at, by, reason FROM promotion"


class SqliteRegistry:
    """A ``Registry`` in the SQLite file ``path``. Creating the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, name: str, bundle: str, by: str) -> Release:
        """Give the bundle the next version number; see ``protocols.Registry``.

        Raises:
            Refused: the file is not a registry, or one of a newer Shipworthy.
            Failed: the disk is full, or the file is locked, damaged or forbidden.
        """
        with self._transaction("BEGIN IMMEDIATE", create=True) as database:
            known = database.execute(f"{_RELEASE} WHERE name = ? AND bundle = ?", (name, bundle)).fetchone()
            if known:
                return _release(known)
            (last,) = database.execute("SELECT coalesce(max(version), 0) FROM release WHERE name = ?", (name,)).fetchone()
            release = Release(name=name, version=last + 1, bundle=bundle, created_at=_now(), created_by=by)
            database.execute("INSERT INTO release VALUES (?, ?, ?, ?, ?)", (name, last + 1, bundle, release.created_at, by))
            return release

    def get(self, name: str, which: str | int) -> Release:
        """The release of that version number (also as text) or alias.

        Raises:
            NotFound: there is none; the message names those there are.
            Refused, Failed: as ``add``.
        """
        with self._transaction() as database:
            numbered = isinstance(which, int) or _VERSION.fullmatch(which) is not None
            version = int(which) if numbered else _alias(database, name, str(which))
            row = database.execute(f"{_RELEASE} WHERE name = ? AND version = ?", (name, version)).fetchone()
            if row is None:
                raise _not_found(database, name, f"version {which}" if numbered else f"alias '{which}'")
            return _release(row)

    def swap(self, name: str, alias: str, *, expected: int | None, version: int | None, by: str, reason: str) -> Promotion:
        """Move ``alias`` from ``expected`` to ``version`` and log it; see ``protocols.Registry``.

        Raises:
            Conflict: the alias is not at ``expected`` any more; nothing was changed.
            NotFound: there is no such version, or no such alias to remove.
            Refused: the alias looks like a version number; or as ``add``.
            Failed: as ``add``.
        """
        if not alias or _VERSION.fullmatch(alias):
            raise Refused(f"'{alias}' cannot be an alias", expected="a word: a number always means a version")
        with self._transaction("BEGIN IMMEDIATE") as database:
            before = _alias(database, name, alias)
            if before != expected:
                raise Conflict(
                    f"alias '{alias}' of '{name}' was moved by somebody else",
                    found=_place(before),
                    expected=_place(expected),
                    next="look at the log, then repeat the call from where the alias is now",
                )
            if version is None and before is None:
                raise _not_found(database, name, f"alias '{alias}'")
            known = database.execute("SELECT 1 FROM release WHERE name = ? AND version = ?", (name, version)).fetchone()
            if version is not None and not known:
                raise _not_found(database, name, f"version {version}")
            line = (name, alias, before, version, _now(), by, reason)
            database.execute(
                "INSERT INTO promotion (name, alias, before, after, at, by, reason) VALUES (?, ?, ?, ?, ?, ?, ?)", line
            )
            return _promotion(line)

    def log(self, name: str) -> tuple[Promotion, ...]:
        """Every promotion of that name, oldest first.

        Raises:
            Refused, Failed: as ``add``.
        """
        with self._transaction() as database:
            return tuple(map(_promotion, database.execute(f"{_PROMOTION} WHERE name = ? ORDER BY line", (name,))))

    def aliases(self, name: str) -> dict[str, int]:
        """Every alias of that name and the version it points to.

        Raises:
            Refused, Failed: as ``add``.
        """
        with self._transaction() as database:
            return _aliases(database, name)

    def releases(self, name: str | None = None) -> tuple[Release, ...]:
        """All releases, or those of one name, oldest first.

        Raises:
            Refused, Failed: as ``add``.
        """
        with self._transaction() as database:
            rows = database.execute(f"{_RELEASE} WHERE ?1 IS NULL OR name = ?1 ORDER BY rowid", (name,))
            return tuple(map(_release, rows))

    @contextmanager
    def _transaction(self, begin: str = "BEGIN", *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction: committed at the end, rolled back when anything is raised."""
        with self._narrowed():
            with closing(self._connect(create=create)) as database:
                database.execute(begin)
                blank = self._is_blank(database)
                if blank and create:
                    _create(database)
                if not blank or create:
                    yield database
                    database.execute("COMMIT")
                    return
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
                _create(database)
                yield database

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        if create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        elif not self._path.exists():
            return sqlite3.connect(":memory:", isolation_level=None)
        # Not "ro" for reading: whoever comes after a killed writer must be able to roll its journal back.
        uri = f"{self._path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        database = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            database.close()
            raise
        return database

    def _is_blank(self, database: sqlite3.Connection) -> bool:
        """Whether nothing was ever written there; refuses what is not ours."""
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (schema,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, schema, tables) == (0, 0, 0):
            return True
        if application != _APPLICATION:
            raise self._not_ours("a database of another program")
        if schema != SCHEMA:
            raise Refused(
                f"the registry {self._path} was written by a newer Shipworthy",
                found=f"schema {schema}",
                expected=f"schema {SCHEMA}",
                next="upgrade: pip install --upgrade shipworthy",
            )
        return False

    def _not_ours(self, found: str) -> Refused:
        return Refused(
            f"{self._path} is not a registry",
            found=found,
            expected="a registry that Shipworthy wrote, or no file",
            next="name another file, or move this one away",
        )

    @contextmanager
    def _narrowed(self) -> Iterator[None]:
        """Let out only our own errors."""
        try:
            yield
        except ShipworthyError:
            raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its extension
            if code == sqlite3.SQLITE_NOTADB:
                raise self._not_ours("not an SQLite database") from None
            mend = _MENDS.get(code, "look at the file and the disk it lies on, then run the same command again")
            raise Failed(f"the registry {self._path} cannot be used", found=str(error), next=mend) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise Refused("the registry cannot hold that value", found=str(error), expected="plain text and numbers") from None
        except OSError as error:
            found = error.strerror or str(error)
            raise Failed(f"the registry {self._path} cannot be used", found=found, next=_FORBIDDEN) from error


_FORBIDDEN = "give this user the right to write the file and its folder, or name another place"
_MENDS = {
    sqlite3.SQLITE_BUSY: f"another process has held it for {BUSY_SECONDS:g} s: let it end, then run the same command again",
    sqlite3.SQLITE_FULL: "free some space on that disk, then run the same command again: nothing was half-written",
    sqlite3.SQLITE_IOERR: "free some space on that disk or mend it, then run the same command again",
    sqlite3.SQLITE_READONLY: _FORBIDDEN,
    sqlite3.SQLITE_CANTOPEN: _FORBIDDEN,
    sqlite3.SQLITE_PERM: _FORBIDDEN,
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup",
}


def _create(database: sqlite3.Connection) -> None:
    """Make the tables inside the transaction that is open, if one is (``executescript`` would commit it first)."""
    statement = ""
    for line in (_TABLES + _GUARDS).splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""


def _alias(database: sqlite3.Connection, name: str, alias: str) -> int | None:
    row = database.execute(
        "SELECT after FROM promotion WHERE name = ? AND alias = ? ORDER BY line DESC LIMIT 1", (name, alias)
    ).fetchone()
    return row[0] if row else None


def _aliases(database: sqlite3.Connection, name: str) -> dict[str, int]:
    aliases = [
        row[0] for row in database.execute("SELECT DISTINCT alias FROM promotion WHERE name = ? ORDER BY alias", (name,))
    ]
    return {alias: at for alias in aliases if (at := _alias(database, name, alias)) is not None}


def _not_found(database: sqlite3.Connection, name: str, what: str) -> NotFound:
    names = [row[0] for row in database.execute("SELECT DISTINCT name FROM release ORDER BY name")]
    if not names:
        return NotFound("nothing is released yet", next="shipworthy ship releases a model")
    if name not in names:
        return NotFound(f"there is no release of '{name}'", found="releases of " + ", ".join(names), next="correct the name")
    (last,) = database.execute("SELECT max(version) FROM release WHERE name = ?", (name,)).fetchone()
    placed = [f"{alias} (version {at})" for alias, at in _aliases(database, name).items()]
    return NotFound(
        f"'{name}' has no {what}",
        found=f"version{'s 1 to' if last > 1 else ''} {last}; aliases: {', '.join(placed) or 'none'}",
        next="name one of those",
    )


def _release(row: tuple[str, int, str, str, str]) -> Release:
    name, version, bundle, created_at, created_by = row
    return Release(name=name, version=version, bundle=bundle, created_at=created_at, created_by=created_by)


def _promotion(row: tuple[str, str, int | None, int | None, str, str, str]) -> Promotion:
    name, alias, before, after, at, by, reason = row
    return Promotion(name=name, alias=alias, before=before, after=after, at=at, by=by, reason=reason)


def _place(version: int | None) -> str:
    return "no such alias" if version is None else f"version {version}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
