"""NVIDIA's GPUs in this machine, as their driver sees them, for /metrics.

That needs the package nvidia-ml-py (the extra ``gpu``) and a driver; without either there are no GPUs to show, and nothing
else changes. A driver that hangs, as those of broken GPUs do, holds one thread and no scrape.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The driver is asked no more often, and waited for no longer.
FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """One GPU now; ``None``: it does not tell."""

    uuid: str
    utilization: float | None
    """Share of the last moments in which it was busy, 0 to 1."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    power_watts: float | None
    power_limit_watts: float | None
    temperature_celsius: float | None


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


def read_all() -> tuple[Gpu, ...]:
    """Every GPU that the driver shows; never raises."""
    nvml = _driver()
    if nvml is None:
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple([_one(nvml, handle) for handle in handles])
    except Exception as error:  # noqa: BLE001  a GPU may fall off its bus: its metrics end, the others go on
        log.warning("the GPUs cannot be read: %s", error)
        return ()


@functools.cache
def _driver() -> Any:
    """The driver's library, opened; ``None``: there is none, and none is looked for again."""
    try:
        import pynvml  # noqa: PLC0415  an extra, and only where somebody looks at metrics

        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001  no package, no driver, no rights: all the same to us
        log.info("no GPUs are shown: %s", error)
        return None
    return pynvml


def _one(nvml: Any, handle: Any) -> Gpu:
    """What one GPU tells. Not each tells everything: power is unknown to some, utilization to parts of one (MIG)."""

    def told(function: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError:
            return None

    used, memory = told("nvmlDeviceGetUtilizationRates"), told("nvmlDeviceGetMemoryInfo")
    power, limit = told("nvmlDeviceGetPowerUsage"), told("nvmlDeviceGetEnforcedPowerLimit")
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        utilization=None if used is None else used.gpu / 100,
        memory_used_bytes=None if memory is None else memory.used,
        memory_total_bytes=None if memory is None else memory.total,
        power_watts=None if power is None else power / 1000,
        power_limit_watts=None if limit is None else limit / 1000,
        temperature_celsius=told("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
    )
