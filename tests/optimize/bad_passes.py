"""Passes that fail in every way; a module of its own, so that the process that runs a pass can import them."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from shipworthy.errors import Refused
from shipworthy.optimize.int8 import Int8Dynamic


class Stubborn(Exception):
    """An error that cannot be pickled and read again."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


ERRORS = {
    "value": lambda: ValueError("first line\nsecond"),
    "key": KeyError,
    "refused": lambda: Refused("no", found="this"),
    "odd": lambda: OSError(errno.ENOTTY, "odd"),
    "memory": MemoryError,
    "stubborn": lambda: Stubborn("this", "that"),
    "full": lambda: OSError(errno.ENOSPC, "said"),
    "quota": lambda: OSError(errno.EDQUOT, "said"),
    "read only": lambda: OSError(errno.EROFS, "said"),
}


@dataclass(frozen=True)
class Bad(Int8Dynamic):
    """Does what its word says instead of quantizing; ``content`` is what it writes."""

    do: str = ""
    content: bytes = b"half a"

    def requires(self, model, target, calibration):  # noqa: ARG002 - the seam's
        return ""

    def apply(self, model, result, calibration):  # noqa: ARG002 - the seam's
        if self.do in ERRORS:
            Path(result).write_bytes(self.content)
            error = ERRORS[self.do]()
            raise error
        if self.do == "write":
            Path(result).write_bytes(self.content)
        elif self.do == "copy":
            Path(result).write_bytes(Path(model).read_bytes())
        elif self.do == "crash":
            os.write(1, b"the last words of a library\n")
            os.abort()
        elif self.do == "hang":
            time.sleep(60)
