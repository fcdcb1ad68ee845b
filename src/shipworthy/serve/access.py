"""The access log: a JSON object a line, written at once and whole, so that the lines of several processes never mix."""

from __future__ import annotations

import functools
import logging
import os
import time
from typing import Any

import msgspec

from shipworthy.errors import Refused
from shipworthy.serve.keys import Keys
from shipworthy.serve.note import Note

STANDARD_ERROR = "-"
LONGEST_PATH = 300

log = logging.getLogger(__name__)


class Lines:
    """A log that is only ever appended to. One that was moved or removed is begun anew with the next lines.

    ``keys`` names the callers; ``None``: nobody needs a key.
    """

    def __init__(self, path: str) -> None:
        """Store the path; ``-`` is standard error."""
        self._path = path
        self._file = -1
        self._torn = False
        self._unwritten = 0
        self._failing = False
        self.keys: Keys | None = None

    def open(self) -> None:
        """Begin, or begin anew.

        Raises:
            Refused: there is no such folder, it may not be written, or nobody reads a pipe.
        """
        if self._path == STANDARD_ERROR:
            self._file = 2
            return
        try:
            # A pipe that nobody reads must not hold the server up; once it is read, its thread may wait.
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            said = getattr(error, "strerror", None) or str(error)
            raise Refused(
                f"the access log {self._path} cannot be written",
                found=said,
                expected="a file in a folder that this user may write, or - for standard error",
                next="correct access_log in [serve]",
            ) from None
        os.set_blocking(file, True)
        if self._file >= 0:
            os.close(self._file)
        self._file = file

    def write(self, notes: list[Note], left_out: int) -> None:
        """A line for each, and one that says how many were left out, if any were."""
        self._follow()
        for note in notes:
            self._append(_line(note, self._caller(note)))
        left_out += self._unwritten
        self._unwritten = 0
        if left_out and not self._append({"time": _time(time.time_ns()), "left_out": left_out}):
            self._unwritten += left_out - 1  # the line itself is none that was asked for

    def _caller(self, note: Note) -> str | None:
        return self.keys.name(note.caller) if self.keys and note.caller else None

    def _append(self, plain: dict[str, Any]) -> bool:
        """Write a line in one call; whether all of it is there."""
        # What a full disk has cut is ended first, so that only that line is lost.
        line = b"\n"[: self._torn] + msgspec.json.encode(plain) + b"\n"
        try:
            wrote = os.write(self._file, line)
        except OSError as error:
            self._fails(str(error.strerror))
            return False
        if wrote < len(line):
            self._torn = True
            self._fails("the disk is full")
            return False
        self._torn = self._failing = False
        return True

    def _fails(self, why: str) -> None:
        self._unwritten += 1
        if not self._failing:
            log.warning("the access log %s cannot be written: %s", self._path, why)
        self._failing = True

    def _follow(self) -> None:
        """Where the log was moved away (logrotate), begin the next; where that cannot be, go on with the old one."""
        if self._path == STANDARD_ERROR:
            return
        try:
            there, ours = os.stat(self._path), os.fstat(self._file)  # noqa: PTH116  the same call for both
            if os.path.samestat(there, ours):
                return
        except OSError:
            pass
        try:
            self.open()
        except Refused as error:
            if not self._failing:
                log.warning("%s", error)
            self._failing = True


def _line(note: Note, caller: str | None) -> dict[str, Any]:
    """What a line says; what is not known is null."""
    ran = note.started_ns
    return {
        "time": _time(note.ended_at_ns - (note.ended_ns - note.began_ns)),
        "protocol": note.protocol,
        "method": note.method,
        "path": note.path[:LONGEST_PATH],
        "model": note.model or None,
        "version": note.version if note.model and note.version else None,
        "bundle": note.bundle or None,
        "outcome": note.outcome,
        "status": note.status,
        "rows": note.rows or None,
        "bytes_in": note.bytes_in,
        "bytes_out": note.bytes_out,
        "queue_ms": _ms((ran or note.ended_ns) - note.arrived_ns) if note.arrived_ns else None,
        "compute_ms": _ms(note.took_ns) if ran else None,
        "whole_ms": _ms(note.ended_ns - note.began_ns),
        "trace_id": note.trace_id or None,
        "span_id": note.span_id or None,
        "key": caller,
    }


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)


def _time(ns: int) -> str:
    """RFC 3339, to the microsecond."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
