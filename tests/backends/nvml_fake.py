"""NVIDIA's drivers that only pretend: NVML with the functions, fields and errors of nvidia-ml-py, and CUDA's own library."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml

FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)


def not_supported() -> pynvml.NVMLError:
    return pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


class Driver(ModuleType):
    """Two GPUs, of which the second tells little. Calls that nvidia-ml-py would not take are errors.

    ``used`` are the bytes of each that are taken, ``processes`` those of a process, by its number; ``None``: it tells none.
    """

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.inits = 0
        self.broken: Exception | None = None
        self.used = 2 << 30
        self.processes: dict[int, int | None] = {}
        for name, answer in {
            "nvmlInit": self.init,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": self.handle,
            "nvmlDeviceGetHandleByUUID": self.named,
            "nvmlDeviceGetComputeRunningProcesses": self.running,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetUtilizationRates": self.tells(pynvml.c_nvmlUtilization_t(gpu=37, memory=5)),
            "nvmlDeviceGetMemoryInfo": lambda _: pynvml.c_nvmlMemory_t(
                total=80 << 30, free=(80 << 30) - self.used, used=self.used
            ),
            "nvmlDeviceGetPowerUsage": self.tells(71_500),
            "nvmlDeviceGetEnforcedPowerLimit": self.tells(700_000),
            "nvmlDeviceGetTemperature": lambda _, sensor: {pynvml.NVML_TEMPERATURE_GPU: 34}[sensor],
        }.items():
            setattr(self, name, self.like(getattr(pynvml, name), answer))

    def init(self) -> None:
        self.inits += 1

    def handle(self, index: int) -> int:
        if self.broken:
            raise self.broken
        return index + 1

    def named(self, uuid: str) -> int:
        names = {f"GPU-{FIRST}": 1, f"MIG-{SECOND}": 2}
        if uuid not in names:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return names[uuid]

    def running(self, _handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes.items()]

    def tells(self, value: Any) -> Callable[[int], Any]:
        def tell(handle: int) -> Any:
            if handle != 1:
                raise not_supported()
            return value

        return tell

    def like(self, real: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            inspect.signature(real).bind(*arguments)
            return answer(*arguments)

        return call


class Cuda:
    """CUDA's library, as far as it is asked which GPU is the first; another one than NVML's first may be."""

    def __init__(self, first: uuid.UUID = FIRST, code: int = 0) -> None:
        self.first, self.code = first, code

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.code

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetUuid_v2(self, given: Any, _device: Any) -> int:  # noqa: N802
        given.raw = self.first.bytes
        return 0
