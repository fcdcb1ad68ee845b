"""NVIDIA's GPUs in this machine, as their driver sees them: for /metrics, and for the figures of measure.

That needs the package nvidia-ml-py (the extra ``gpu``) and a driver; without either there are no GPUs to show, and nothing
else changes. Tested with a driver that pretends: what concerns a measured process has not run on a GPU yet.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

from shipworthy.backends import cuda

# The longest time that a reading of how busy a GPU is speaks of (NVIDIA's documentation of nvmlUtilization_t).
PERIOD_SECONDS = 1.0

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


@dataclass(frozen=True)
class Meter:
    """What one process takes of one GPU; ``None``: the GPU does not tell."""

    nvml: Any
    handle: Any

    @property
    def memory_used_bytes(self) -> int | None:
        """Of the whole GPU, whoever uses it."""
        memory = _told(self.nvml, self.handle, "nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def memory_taken(self, pid: int, before: int | None) -> tuple[int, bool] | None:
        """The bytes of a process that computes on it, and whether they are its own: else all of the GPU's have grown by them.

        In a container the driver may know the process by another number, and tell nothing of it; ``before`` is what
        ``memory_used_bytes`` was before the process took any.
        """
        running = _told(self.nvml, self.handle, "nvmlDeviceGetComputeRunningProcesses") or ()
        ours = next((one.usedGpuMemory for one in running if one.pid == pid), None)
        if ours is not None:
            return int(ours), True
        now = self.memory_used_bytes
        return None if before is None or now is None else (max(0, now - before), False)

    @property
    def utilization(self) -> float | None:
        """Share of the last ``PERIOD_SECONDS``, or less of them, in which it was busy, 0 to 1; by whoever uses it."""
        used = _told(self.nvml, self.handle, "nvmlDeviceGetUtilizationRates")
        return None if used is None else used.gpu / 100


def meter() -> Meter | None:
    """Of the GPU that runtimes take here, the first that CUDA shows to this process; ``None`` where that cannot be told.

    CUDA counts its GPUs in an order of its own, and only those that it is told to show; so it is asked for the name.
    """
    nvml = _driver()
    if nvml is None:
        return None
    try:
        uuid = cuda.driver().first_uuid()
    except cuda.NoGpu as error:
        log.info("no GPU is measured: %s", error)
        return None
    for kind in ("GPU", "MIG"):
        try:
            return Meter(nvml, nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}"))
        except nvml.NVMLError as error:
            log.info("no GPU is measured: %s", error)
    return None


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
    told = functools.partial(_told, nvml, handle)
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


def _told(nvml: Any, handle: Any, function: str, *arguments: Any) -> Any:
    try:
        return getattr(nvml, function)(handle, *arguments)
    except nvml.NVMLError:
        return None
