"""A list of packages as text: bounded, in whatever encoding its editor wrote, or the reason why not."""

from __future__ import annotations

import codecs
from pathlib import Path

LIMIT_BYTES, LIMIT_LINES = 1_000_000, 10_000
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Unreadable(Exception):
    """A list that cannot be read at all: why, and what to do."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.why = why
        self.mend = mend


def unreadable(path: Path, error: OSError | ValueError) -> Unreadable:
    """What the machine says of a file, as we say it."""
    return Unreadable(f"it cannot be read: {error}"[:300], f"check its name and its permissions: ls -l {str(path)[:100]}")


def lines(path: Path) -> list[str]:
    """The lines of a list.

    Raises:
        Unreadable: no such file, no regular one, too large, or no text.
    """
    try:
        if not path.is_file():
            raise Unreadable("there is no such file", "name an existing list: --environment requirements.txt")
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if len(data) > LIMIT_BYTES:
        raise Unreadable(f"it has more than {LIMIT_BYTES} bytes", "name a list that pip freeze wrote")
    encoding = next((name for mark, name in BOMS if data.startswith(mark)), "utf-8")
    try:
        found = data.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is no text in {encoding}: {error.reason} at byte {error.start}", "save it as UTF-8") from None
    if len(found) > LIMIT_LINES:
        raise Unreadable(f"it has {len(found)} lines, more than {LIMIT_LINES}", "name a list that pip freeze wrote")
    return found
