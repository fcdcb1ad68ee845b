"""GPUs in /metrics, with a driver that only pretends: its functions, fields and errors are those of nvidia-ml-py."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from shipworthy.serve import app, gpu, metrics
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.gpu import Gpu, Gpus
from shipworthy.serve.letters import Tally

ONE = Gpu("GPU-1", 0.37, 2 << 30, 80 << 30, 71.5, 700.0, 34)


def not_supported() -> pynvml.NVMLError:
    return pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


class Driver(ModuleType):
    """Two GPUs, of which the second tells little. Calls that nvidia-ml-py would not take are errors."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.inits = 0
        self.broken: Exception | None = None
        for name, answer in {
            "nvmlInit": self.init,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": self.handle,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetUtilizationRates": self.tells(pynvml.c_nvmlUtilization_t(gpu=37, memory=5)),
            "nvmlDeviceGetMemoryInfo": lambda _: pynvml.c_nvmlMemory_t(total=80 << 30, free=78 << 30, used=2 << 30),
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


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    gpu._driver.cache_clear()
    yield
    gpu._driver.cache_clear()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_each_gpu_tells_what_it_can_in_our_units(driver: Driver) -> None:
    assert gpu.read_all() == (ONE, Gpu("GPU-2", None, 2 << 30, 80 << 30, None, None, 34))
    gpu.read_all()
    assert driver.inits == 1


@pytest.mark.parametrize("error", [not_supported(), OSError("gone")], ids=["the driver's", "another"])
def test_gpus_that_are_lost_are_not_shown_and_come_back(
    driver: Driver, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    driver.broken = error
    assert gpu.read_all() == ()
    assert "the GPUs cannot be read" in caplog.text
    driver.broken = None
    assert len(gpu.read_all()) == 2


def test_without_the_package_or_a_driver_there_are_none_and_nobody_looks_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # so an import of it fails
    assert gpu.read_all() == ()
    gpu._driver.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", driver)

    def init() -> None:
        driver.inits += 1
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    driver.nvmlInit = init
    assert gpu.read_all() == gpu.read_all() == ()
    assert driver.inits == 1


def samples(gpus: tuple[Gpu, ...]) -> dict[tuple[str, str], float]:
    text = metrics.exposition([], Tally({}, 1, 0, {}), "1", gpus)
    families = list(text_string_to_metric_families(text))
    assert all(one.documentation and one.type == "gauge" for one in families if "gpu" in one.name)
    return {(one.name, one.labels["gpu_uuid"]): one.value for all_of in families for one in all_of.samples if "gpu" in one.name}


def test_they_are_shown_by_uuid_under_our_names_and_tritons(driver: Driver) -> None:
    found = samples(gpu.read_all())
    assert {name: number for (name, uuid), number in found.items() if uuid == "GPU-1"} == {
        "shipworthy_gpu_utilization_ratio": 0.37,
        "nv_gpu_utilization": 0.37,
        "shipworthy_gpu_memory_used_bytes": 2 << 30,
        "nv_gpu_memory_used_bytes": 2 << 30,
        "shipworthy_gpu_memory_total_bytes": 80 << 30,
        "nv_gpu_memory_total_bytes": 80 << 30,
        "shipworthy_gpu_power_watts": 71.5,
        "nv_gpu_power_usage": 71.5,
        "shipworthy_gpu_power_limit_watts": 700,
        "nv_gpu_power_limit": 700,
        "shipworthy_gpu_temperature_celsius": 34,
    }
    assert {name for name, uuid in found if uuid == "GPU-2"} == {
        name for name, _ in found if "memory" in name or "temperature" in name
    }


def test_where_there_is_none_nothing_is_said_of_them() -> None:
    assert samples(()) == {}
    assert "gpu" not in metrics.exposition([], Tally({}, 1, 0, {}), "1")


def test_the_driver_is_asked_once_a_second_and_apart_from_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    clock = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])

    def read() -> tuple[Gpu, ...]:
        threads.append(threading.get_ident())
        return (ONE,)

    async def scrapes() -> None:
        gpus = Gpus(read)
        for second in (10.0, 10.9, 11.0, 11.5, 12.1):
            clock[0] = second
            assert await asyncio.gather(*(gpus.now() for _ in range(20))) == [(ONE,)] * 20

    asyncio.run(scrapes())
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_a_driver_that_hangs_holds_one_thread_and_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(gpu, "FRESH_SECONDS", 0.0)
    wakes = threading.Event()
    reads: list[bool] = []

    def read() -> tuple[Gpu, ...]:
        reads.append(wakes.wait(20))
        return (ONE,)

    async def scrapes() -> None:
        gpus = Gpus(read)
        began = time.monotonic()
        for _ in range(5):
            assert await gpus.now() == ()
        assert time.monotonic() - began < 5
        monkeypatch.setattr(gpu, "PATIENCE_SECONDS", 10)
        asyncio.get_running_loop().call_later(0.05, wakes.set)
        assert await gpus.now() == (ONE,)

    asyncio.run(scrapes())
    assert reads == [True], "all waited for the one that hung"


def test_the_route_shows_them() -> None:
    class Fleet:
        async def measured(self) -> tuple[list[Any], Tally]:
            return [], Tally({}, 1, 0, {})

    endpoints = app.Endpoints(Catalog(), Fleet(), 1, 0, lambda: True)
    endpoints._gpus = Gpus(lambda: (ONE,))
    answer = asyncio.run(endpoints.metrics(Request({"type": "http", "headers": []})))
    assert b'nv_gpu_power_usage{gpu_uuid="GPU-1"} 71.5\n' in answer.body
    assert answer.status_code == 200
