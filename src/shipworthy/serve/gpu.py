"""The GPUs of this machine for /metrics. A driver that hangs, as those of broken GPUs do, holds one thread and no scrape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shipworthy.backends.nvml import Gpu, read_all

# The driver is asked no more often, and waited for no longer.
FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 1.0


class Gpus:
    """The GPUs, read in a thread; each reading is shared by all who ask within a second."""

    def __init__(self, read: Callable[[], tuple[Gpu, ...]] | None = None) -> None:
        self._read = read or read_all
        self._reading: asyncio.Future[tuple[Gpu, ...]] | None = None
        self._began = 0.0

    async def now(self) -> tuple[Gpu, ...]:
        """All of them; none, where the driver does not answer in time."""
        if self._reading is None or (self._reading.done() and time.monotonic() - self._began >= FRESH_SECONDS):
            self._began = time.monotonic()
            self._reading = asyncio.get_running_loop().run_in_executor(None, self._read)
        done, _ = await asyncio.wait({self._reading}, timeout=PATIENCE_SECONDS)
        return self._reading.result() if done else ()
