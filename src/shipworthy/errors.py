"""The two families of errors, by who must act.

``Refused``: the caller must act (a wrong argument, a broken file, data that does not fit the model).
``Failed``: we, or the machine, must act (a full disk, a tracking server that does not answer).

Each carries what was found, what was expected and what to do next; the exit code of the command line and the
HTTP status of the server are on the class, so no edge needs a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ShipworthyError(Exception):
    """Base of both families: one clear sentence, and what helps to mend it."""

    exit_code: ClassVar[int] = 3
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, *, found: str = "", expected: str = "", next: str = "") -> None:  # noqa: A002
        super().__init__(what)
        self.what = what
        self.found = found
        self.expected = expected
        self.next = next

    def as_dict(self) -> dict[str, str]:
        """The parts that are filled, for ``--json`` and for logs."""
        parts = {"error": self.what, "found": self.found, "expected": self.expected, "next": self.next}
        return {key: text for key, text in parts.items() if text}

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("found", self.found), ("expected", self.expected), ("do next", self.next)):
            if text:
                lines.append(f"  {label + ':':<10}{text}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.as_dict())


class Refused(ShipworthyError):
    """The call was wrong; the message says what to change. Exit code 2, HTTP 400."""

    exit_code = 2
    http_status = 400


class NotFound(Refused):
    """The thing named does not exist; the message names what does. Exit code 2, HTTP 404."""

    http_status = 404


class Conflict(Refused):
    """Somebody changed the thing first: look again and repeat the call. Exit code 2, HTTP 409."""

    http_status = 409


class Failed(ShipworthyError):
    """The call was right and we could not carry it out. Exit code 3, HTTP 500."""


class Unavailable(Failed):
    """Right and possible, but not now: too much waits, or the caller's time is up. Exit code 3, HTTP 503.

    ``retry_after_seconds`` says when to come back: at least 1.
    """

    http_status = 503

    def __init__(
        self,
        what: str,
        *,
        found: str = "",
        expected: str = "",
        next: str = "",  # noqa: A002
        retry_after_seconds: int = 1,
    ) -> None:
        super().__init__(what, found=found, expected=expected, next=next)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[object, ...]:
        return *super().__reduce__(), {"retry_after_seconds": self.retry_after_seconds}


class StorageFailed(Failed):
    """The disk is full, or a folder cannot be written: nothing else will work either. Exit code 3, HTTP 500."""


def to_plain(error: ShipworthyError) -> dict[str, Any]:
    """An error for another process, as data without code: its family and its parts."""
    return {"kind": "Failed" if isinstance(error, Failed) else "Refused", **error.as_dict()}


def from_plain(plain: Mapping[str, str]) -> ShipworthyError:
    """The error that ``to_plain`` has told, as one of the two families."""
    return _rebuild(Failed if plain["kind"] == "Failed" else Refused, plain)


def _rebuild(kind: type[ShipworthyError], parts: Mapping[str, str]) -> ShipworthyError:
    return kind(parts["error"], found=parts.get("found", ""), expected=parts.get("expected", ""), next=parts.get("next", ""))
