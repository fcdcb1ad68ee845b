"""NVIDIA's driver, asked of its own library: no package is needed for a few questions."""

from __future__ import annotations

import ctypes
import uuid
from typing import Any

LIBRARY = "libcuda.so.1"
UUID_BYTES = 16


class NoGpu(Exception):
    """There is no driver, or no GPU that this process may use."""


class Driver:
    """The library, opened and initialised; the GPUs are those that CUDA shows to this process, in its order."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def ask(self, function: str, *arguments: Any) -> None:
        """Call a function that gives an error code.

        Raises:
            NoGpu: the code is one of an error.
        """
        code = getattr(self._library, function)(*arguments)
        if code:
            raise NoGpu(f"{function} answers with error {code}")

    def first(self) -> ctypes.c_int:
        """The first GPU.

        Raises:
            NoGpu: there is none.
        """
        device = ctypes.c_int()
        self.ask("cuDeviceGet", ctypes.byref(device), 0)
        return device

    def first_uuid(self) -> str:
        """What the first GPU, or the part of one (MIG), is called by all of NVIDIA's tools, without the kind before it.

        Raises:
            NoGpu: there is none.
        """
        given = ctypes.create_string_buffer(UUID_BYTES)
        self.ask("cuDeviceGetUuid_v2", given, self.first())
        return str(uuid.UUID(bytes=given.raw))


def driver() -> Driver:
    """The driver of this machine.

    Raises:
        NoGpu: there is none, or it does not start.
    """
    try:
        made = Driver(ctypes.CDLL(LIBRARY))
    except OSError as error:
        raise NoGpu(str(error)) from None
    made.ask("cuInit", 0)
    return made
