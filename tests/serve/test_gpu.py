"""GPUs in /metrics, with a driver that only pretends."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from shipworthy.backends.nvml import Gpu, read_all
from shipworthy.serve import app, gpu, metrics
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.gpu import Gpus
from shipworthy.serve.letters import Tally

ONE = Gpu("GPU-1", 0.37, 2 << 30, 80 << 30, 71.5, 700.0, 34)
LITTLE = Gpu("GPU-2", None, 2 << 30, 80 << 30, None, None, 34)


def samples(gpus: tuple[Gpu, ...]) -> dict[tuple[str, str], float]:
    text = metrics.exposition([], Tally({}, 1, 0, {}), "1", gpus)
    families = list(text_string_to_metric_families(text))
    assert all(one.documentation and one.type == "gauge" for one in families if "gpu" in one.name)
    return {(one.name, one.labels["gpu_uuid"]): one.value for all_of in families for one in all_of.samples if "gpu" in one.name}


def test_they_are_shown_by_uuid_under_our_names_and_tritons() -> None:
    found = samples((ONE, LITTLE))
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


def test_what_the_driver_shows_is_what_is_read(nvidia: Any) -> None:
    assert asyncio.run(Gpus().now()) == read_all() == (ONE, LITTLE)


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
