"""Models changed in a running server of two workers: nobody is turned away, all workers agree, what was counted stays."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest

Start = Callable[..., AbstractContextManager[str]]
INFER = "/v2/models/m/infer"
BODY = {"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]} for name in "ab"]}


def workers(url: str) -> list[int]:
    """The workers of the server that this process started last."""
    mine = [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    *_, server = (one for one in mine if b"serve_script" in Path(f"/proc/{one}/cmdline").read_bytes())
    assert url
    return [int(one) for one in Path(f"/proc/{server}/task/{server}/children").read_text().split()]


class Asking:
    """A kept connection; closed when the test is over."""

    every: ClassVar[list[Asking]] = []

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        self.every.append(self)

    def __call__(self, method: str, path: str, plain: Any = None) -> tuple[int, Any]:
        self.connection.request(method, path, None if plain is None else json.dumps(plain))
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while Asking.every:
        Asking.every.pop().connection.close()


def several(url: str, count: int = 8) -> list[Asking]:
    """Connections that lie in both workers."""
    asking = [Asking(url) for _ in range(count)]
    for one in asking:
        assert one("GET", "/v2/health/ready")[0] == 200
    return asking


@contextmanager
def load(url: str, seen: list[tuple[int, Any]]) -> Iterator[None]:
    """Constant load from four connections; every answer is kept."""
    stop = threading.Event()

    def ask() -> None:
        asking = Asking(url)
        while not stop.is_set():
            seen.append(asking("POST", INFER, BODY))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def path(tmp_path: Path, models: dict[str, Path]) -> Path:
    """A model that adds its inputs; the file may be changed."""
    return Path(shutil.copy(models["two"], tmp_path / "m.onnx"))


@pytest.fixture
def product(tmp_path: Path, models: dict[str, Path]) -> Path:
    """The same signature, but the inputs are multiplied."""
    model = onnx.load(models["two"])
    model.graph.node[0].op_type = "Mul"
    made = tmp_path / "product.onnx"
    onnx.save(model, made)
    return made


@pytest.mark.slow
def test_a_model_is_replaced_twenty_times_under_load_and_nobody_is_turned_away(
    path: Path, product: Path, start: Start, models: dict[str, Path]
) -> None:
    seen: list[tuple[int, Any]] = []
    with start(("m", 1, path), workers=2) as url:
        operator = Asking(url)
        with load(url, seen):
            for turn in range(20):
                time.sleep(0.1)
                fresh = path.with_suffix(".new")
                shutil.copy(product if turn % 2 == 0 else models["two"], fresh)
                fresh.rename(path)
                assert operator("POST", "/v2/repository/models/m/load") == (200, {})
                wanted = 1 if turn % 2 == 0 else 2  # 1 x 1, and 1 + 1
                for asking in several(url):
                    status, answer = asking("POST", INFER, BODY)
                    assert (status, answer["outputs"][0]["data"]) == (200, [wanted] * 3)
    assert {status for status, _ in seen} == {200}
    assert {tuple(answer["outputs"][0]["data"]) for _, answer in seen} == {(1, 1, 1), (2, 2, 2)}


def test_a_model_that_does_not_load_leaves_the_old_one_and_says_why(path: Path, start: Start) -> None:
    with start(("m", 1, path), workers=2) as url:
        path.write_bytes(b"no model")
        operator = Asking(url)
        status, answer = operator("POST", "/v2/repository/models/m/load")
        assert status == 400
        assert "does not load" in answer["error"]
        for asking in several(url):
            assert asking("POST", INFER, BODY)[0] == 200
        assert operator("POST", "/v2/repository/models/m/unload") == (200, {})
        for asking in several(url):
            assert asking("POST", INFER, BODY)[0] == 404
        assert operator("POST", "/v2/repository/models/m/load")[0] == 400
        for asking in several(url):
            (row,) = asking("POST", "/v2/repository/index")[1]
            assert (row["name"], row["version"], row["state"]) == ("m", "1", "UNAVAILABLE")
            assert "does not load" in row["reason"]
            assert "does not load" in asking("POST", INFER, BODY)[1]["error"]
        assert operator("POST", "/v2/repository/models/x/load")[0] == 404
        assert operator("POST", "/v2/repository/models/x/unload")[0] == 404


def successes(asking: Asking) -> int:
    _, answer = asking("GET", "/v2/models/m/stats")
    (one,) = answer["model_stats"]
    return int(one["inference_stats"]["success"]["count"])


def test_counts_are_of_all_workers_and_outlive_them(path: Path, start: Start) -> None:
    with start(("m", 1, path), workers=2) as url:
        asking = several(url)
        for turn in range(100):
            assert asking[turn % 8]("POST", INFER, BODY)[0] == 200
        assert [successes(one) for one in asking] == [100] * 8
        everything = asking[0]("GET", "/v2/models/stats")[1]["model_stats"]
        assert [(one["name"], one["inference_count"]) for one in everything] == [("m", 100)]
        time.sleep(1.5)  # a worker tells what it counted once a second
        before = workers(url)
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 5
        while len(workers(url)) < 2 or workers(url) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        assert successes(Asking(url)) == 100


def successors(url: str, killed: list[int]) -> None:
    """Wait until others are in the place of the workers that were killed."""
    deadline = time.monotonic() + 10
    while len(set(workers(url)) - set(killed)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_starts_later_serves_what_was_changed_since(path: Path, start: Start, models: dict[str, Path]) -> None:
    with start(("m", 1, path), ("n", 1, models["two"]), workers=2) as url:
        assert Asking(url)("POST", "/v2/repository/models/n/unload") == (200, {})
        killed = workers(url)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        shutil.copy(models["linear"], path)  # and this is what they find
        successors(url, killed)
        for asking in several(url):
            assert asking("GET", "/v2/models")[1] == {"models": ["m"]}
            assert [one["name"] for one in asking("GET", "/v2/models/m")[1]["inputs"]] == ["x"]


def test_a_worker_that_dies_during_a_change_does_not_hold_it_up(path: Path, product: Path, start: Start) -> None:
    with start(("m", 1, path), workers=2) as url:
        time.sleep(0.5)  # both are ready
        operator = Asking(url)
        operator("GET", "/v2")  # the first connection lies in the first worker
        _, other = before = workers(url)
        os.kill(other, signal.SIGSTOP)
        shutil.copy(product, path)
        said: list[Any] = []
        thread = threading.Thread(target=lambda: said.append(operator("POST", "/v2/repository/models/m/load")))
        thread.start()
        time.sleep(0.3)
        assert not said, "it waits for the other worker"
        os.kill(other, signal.SIGKILL)
        thread.join(10)
        assert said == [(200, {})]
        successors(url, [other])
        assert before[0] in workers(url)
        for asking in several(url):
            assert asking("POST", INFER, BODY)[1]["outputs"][0]["data"] == [1, 1, 1]


def test_changes_at_the_same_time_are_made_one_after_the_other(path: Path, start: Start, models: dict[str, Path]) -> None:
    with start(("m", 1, path), ("n", 1, models["two"]), workers=2) as url:
        said: list[int] = []

        def change(turn: int) -> None:
            said.append(Asking(url)("POST", f"/v2/repository/models/{'mn'[turn % 2]}/{'unload' if turn % 3 else 'load'}")[0])

        threads = [threading.Thread(target=change, args=(turn,)) for turn in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(said) <= {200, 503}
        assert said.count(200) >= 16
        for name in "mn":
            assert Asking(url)("POST", f"/v2/repository/models/{name}/load") == (200, {})
        states = [asking("POST", "/v2/repository/index")[1] for asking in several(url)]
        assert all(row["state"] == "READY" for rows in states for row in rows)
