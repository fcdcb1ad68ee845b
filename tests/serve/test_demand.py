"""More models than memory: they are loaded when they are asked for, and make room for each other, in a real server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy.errors import Failed, Refused, Unavailable
from shipworthy.records import Target
from shipworthy.serve import process
from shipworthy.serve.demand import LOOK_SECONDS, Demand
from shipworthy.serve.letters import Commit, Prepare, Tally
from shipworthy.serve.rounds import Lost
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.serve.stock import Stock

if TYPE_CHECKING:
    from shipworthy.serve.crew import Crew

Start = Callable[..., AbstractContextManager[str]]
SIDE = 1500
NAMES = "abcdef"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]})
# Two workers, each of which needs at least the 9 MB of the file for a model: two models fit, three do not.
LIMIT_MB = 54.0


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with 9 MB of weights; the first multiplies by 1, the next by 2, and so on."""
    folder = tmp_path_factory.mktemp("large")
    made = {}
    for times, name in enumerate(NAMES, 1):
        weights = {
            "left": np.ones((1, SIDE), np.float32),
            "middle": np.full((SIDE, SIDE), times / SIDE, np.float32),
            "right": np.full((SIDE, 1), 1 / SIDE, np.float32),
        }
        nodes = [
            helper.make_node("MatMul", ["x", "left"], ["wide"]),
            helper.make_node("MatMul", ["wide", "middle"], ["mixed"]),
            helper.make_node("MatMul", ["mixed", "right"], ["y"]),
        ]
        values = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [None, 1]) for one in "xy"]
        tensors = [numpy_helper.from_array(array, key) for key, array in weights.items()]
        graph = helper.make_graph(nodes, name, values[:1], values[1:], tensors)
        made[name] = folder / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), made[name])
    return made


def served(paths: dict[str, Path]) -> list[tuple[str, int, Path]]:
    return [(name, 1, path) for name, path in paths.items()]


class Caller:
    """A connection that is opened anew when it was closed."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self.connection = http.client.HTTPConnection(*self._address, timeout=20)

    def close(self) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any, str]:
        """Status, answer and Retry-After."""
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        text = answer.read()
        plain = json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
        return answer.status, plain, answer.headers.get("retry-after", "")

    def infer(self, name: str) -> tuple[int, Any, str]:
        return self.ask("POST", f"/v2/models/{name}/infer", BODY)

    def index(self) -> dict[str, tuple[str, str]]:
        rows = self.ask("POST", "/v2/repository/index")[1]
        return {row["name"]: (row["state"], row["reason"]) for row in rows}

    def until(self, wanted: int, name: str) -> Any:
        """Ask until the answer has this status; meanwhile it is 503."""
        for _ in range(200):
            status, answer, after = self.infer(name)
            if status == wanted:
                return answer
            assert (status, after) == (503, "1"), answer
            time.sleep(0.05)
        raise AssertionError(f"{name} never answered {wanted}")


@pytest.fixture
def call() -> Iterator[Callable[[str], Caller]]:
    made: list[Caller] = []

    def begin(url: str) -> Caller:
        made.append(Caller(url))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def server() -> int:
    """The server that this process started last."""
    *_, pid = (one for one in children(os.getpid()) if b"serve_script" in Path(f"/proc/{one}/cmdline").read_bytes())
    return pid


def resident_mb() -> float:
    lines = [line for one in children(server()) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if "VmRSS" in line) / 1000


def two_workers() -> None:
    deadline = time.monotonic() + 20
    while len(children(server())) != 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)


def ready(index: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (state, _) in index.items() if state == "READY"]


Seen = tuple[str, int, Any, str]


@contextmanager
def four_callers(url: str, seen: list[Seen], lost: list[str]) -> Iterator[None]:
    """Each asks all models in turn; every answer is kept, and whom a reset connection was asked for."""
    stop = threading.Event()

    def ask_all() -> None:
        with closing(Caller(url)) as caller:
            while not stop.is_set():
                for name in NAMES:
                    try:
                        seen.append((name, *caller.infer(name)))
                    except (http.client.HTTPException, ConnectionError):
                        lost.append(name)
                        caller.close()
                        time.sleep(0.1)
                    time.sleep(0.005)

    threads = [threading.Thread(target=ask_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_six_models_take_turns_in_memory_for_two_while_a_worker_is_killed(
    paths: dict[str, Path], start: Start, call: Callable[[str], Caller]
) -> None:
    seen: list[Seen] = []
    lost: list[str] = []

    def answered() -> set[str]:
        return {name for name, status, *_ in list(seen) if status == 200}

    with start(*served(paths), memory_mb=LIMIT_MB, workers=2, tune=False) as url:
        two_workers()
        before = resident_mb()
        operator = call(url)
        assert ready(operator.index()) == ["a", "b"]
        with four_callers(url, seen, lost):
            end, killed, most = time.monotonic() + 40, False, 0
            while time.monotonic() < end and (not killed or len(answered()) < 6):
                if not killed and len(answered()) >= 3:
                    killed = True
                    os.kill(children(server())[-1], signal.SIGKILL)
                    time.sleep(0.1)
                    operator.close()
                most = max(most, len(ready(operator.index())))
                assert operator.ask("GET", "/v2/health/ready")[0] == 200
                time.sleep(0.1)
        two_workers()
        after = resident_mb()
        metrics = operator.ask("GET", "/metrics")[1].splitlines()
    assert (killed, answered()) == (True, set(NAMES))
    assert len(lost) <= 4, "at most what was in flight in the worker that was killed"
    assert {(status, after) for _, status, _, after in seen} == {(200, ""), (503, "1")}
    for name, status, answer, _ in seen:
        if status == 200:
            assert answer["outputs"][0]["data"] == [pytest.approx(1 + NAMES.index(name), rel=1e-3)]
    assert most == 2
    assert after < before + 50, "four more models are above 70 MB in two workers"
    for what in ("loaded_on_demand", "evicted"):
        (line,) = [line for line in metrics if line.startswith(f"shipworthy_models_{what}_total ")]
        assert float(line.split()[1]) >= 4
    sizes = [float(line.split()[1]) for line in metrics if line.startswith("shipworthy_model_memory_bytes{")]
    assert 1 <= len(sizes) <= 2
    assert all(9e6 <= size <= 20e6 for size in sizes), sizes


def test_what_cannot_be_loaded_says_why_and_costs_the_others_nothing(
    paths: dict[str, Path], tmp_path: Path, start: Start, call: Callable[[str], Caller]
) -> None:
    broken, huge = tmp_path / "broken.onnx", tmp_path / "huge.onnx"
    broken.write_bytes(b"no model")
    with huge.open("wb") as file:
        file.truncate(int(LIMIT_MB * 1e6))
    models = [("huge", 1, huge), *served(paths)[:3], ("broken", 1, broken)]
    with start(*models, memory_mb=LIMIT_MB, workers=2, tune=False) as url:
        two_workers()
        caller = call(url)
        rests = ("UNAVAILABLE", "loads when it is asked for")
        assert caller.index() == dict.fromkeys("ab", ("READY", "")) | dict.fromkeys(("huge", "c", "broken"), rests)
        assert "does not load" in caller.until(404, "broken")["error"]
        said = caller.until(404, "huge")["error"]
        assert "larger than all the memory" in said
        assert "expected: at most 54 MB" in said
        assert "memory_mb" in said
        index = caller.index()
        assert ready(index) == ["a", "b"], "what cannot be loaded puts nobody to rest"
        assert "does not load" in index["broken"][1]
        assert "larger than all the memory" in index["huge"][1]
        status, answer, _ = caller.ask("POST", "/v2/repository/models/huge/load")
        assert (status, "larger than" in answer["error"]) == (400, True)
        assert caller.ask("POST", "/v2/repository/models/broken/load")[0] == 400


@pytest.mark.slow
def test_loads_and_unloads_keep_to_the_limit_and_only_asking_wakes(
    paths: dict[str, Path], start: Start, call: Callable[[str], Caller]
) -> None:
    with start(*served(paths)[:4], memory_mb=LIMIT_MB, workers=2, tune=False) as url:
        two_workers()
        caller = call(url)
        assert caller.infer("a")[0] == 200
        assert caller.ask("GET", "/v2/models/c/ready")[:2] == (503, {"name": "c", "ready": False})
        assert caller.ask("GET", "/v2/models/c/stats")[0] == 503
        status = caller.ask("GET", "/v1/models/c")[1]["model_version_status"]
        assert [(one["version"], one["state"]) for one in status] == [("1", "START")]
        assert caller.ask("POST", "/v2/models/c/versions/7/infer", BODY)[0] == 404
        os.kill(server(), signal.SIGHUP)
        time.sleep(1)
        assert ready(caller.index()) == ["a", "b"], "nobody has asked for a prediction of another"

        assert caller.ask("POST", "/v2/repository/models/c/load")[0] == 200
        assert sorted(ready(caller.index())) == ["a", "c"], "b was asked for longest ago: never"
        assert caller.ask("GET", "/v2/models/c/ready")[0] == 200
        assert caller.ask("POST", "/v2/repository/models/b/unload")[0] == 200
        assert caller.index()["b"] == ("UNAVAILABLE", "unloaded")
        assert caller.infer("b")[0] == 404, "who unloads a model does not want it back"
        assert caller.ask("GET", "/v1/models/b")[0] == 404

        assert caller.ask("GET", "/v2/models/d")[::2] == (503, "1")
        assert caller.until(200, "d")["outputs"][0]["data"] == [pytest.approx(4, rel=1e-3)]
        assert caller.ask("POST", "/v1/models/d:predict", json.dumps({"inputs": [[2.0]]}))[0] == 200
        before = sorted(ready(caller.index()))
        assert len(before) == 2
        assert before != ["a", "b"]
        os.kill(server(), signal.SIGHUP)
        time.sleep(1)
        index = caller.index()
        assert sorted(ready(index)) == before, "what is loaded is loaded anew, and nothing else"
        assert index["b"] == ("UNAVAILABLE", "loads when it is asked for"), "it is known again"


def test_a_model_that_rests_and_is_taken_away_is_known_no_more(
    paths: dict[str, Path], tmp_path: Path, call: Callable[[str], Caller]
) -> None:
    for name in "abc":
        (tmp_path / name / "1").mkdir(parents=True)
        shutil.copy(paths[name], tmp_path / name / "1" / "model.onnx")
    settings = ["serve.memory_mb=30", "serve.workers=1", "serve.tune=false", "serve.grpc_port=0"]
    sets = [part for one in settings for part in ("--set", one)]
    with process.running(
        [sys.executable, "-m", "shipworthy", "serve", str(tmp_path), "--port", "0", "--json", *sets], 30
    ) as url:
        caller = call(url)
        assert ready(caller.index()) == ["a", "b"]
        shutil.rmtree(tmp_path / "c")
        os.kill(children(os.getpid())[-1], signal.SIGHUP)
        time.sleep(1)
        assert caller.infer("c")[0] == 404
        assert caller.infer("b")[0] == 200


@pytest.fixture
def swelling(tmp_path: Path) -> Path:
    """A model whose file is small and whose run takes 40 MB, which the runtime keeps."""
    nodes = [helper.make_node("Expand", ["x", "shape"], ["wide"]), helper.make_node("ReduceMax", ["wide"], ["y"], axes=[1])]
    values = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [None, 1]) for one in "xy"]
    shape = numpy_helper.from_array(np.array([1, 10_000_000]), "shape")
    graph = helper.make_graph(nodes, "swelling", values[:1], values[1:], [shape])
    path = tmp_path / "swelling.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_was_estimated_too_low_is_put_right_when_it_is_measured(
    paths: dict[str, Path], models: dict[str, Path], swelling: Path, tmp_path: Path, start: Start, call: Callable[[str], Caller]
) -> None:
    later = Path(shutil.copy(models["two"], tmp_path / "later.onnx"))
    names = [("a", 1, paths["a"]), ("later", 1, later), ("swelling", 1, swelling)]
    with start(*names, memory_mb=45.0, workers=1, tune=False) as url:
        caller = call(url)
        assert ready(caller.index()) == ["a", "later"], "all were loaded, then the last did not fit"
        shutil.copy(swelling, later)
        assert caller.ask("POST", "/v2/repository/models/later/load")[0] == 200
        assert ready(caller.index()) == ["later"], "a went when the size was known"
        assert [one["name"] for one in caller.ask("GET", "/v2/models/later")[1]["inputs"]] == ["x"]
        assert caller.until(200, "swelling")["outputs"][0]["data"] == [1]
        assert ready(caller.index()) == ["swelling"]


# ---------------------------------------------------------------- without a server


class Workers:
    """A crew of one worker that loads what it is told, or replies with an error; keeps what it is told."""

    def __init__(self) -> None:
        self.starting = False
        self.error: Exception | None = None
        self.told: list[Any] = []

    def ready(self) -> tuple[str, ...]:
        return ("worker",)

    def is_starting(self) -> bool:
        return self.starting

    def tally(self) -> Tally:
        return Tally({})

    def make(self, steps: Any, done: Callable[[Any], None]) -> None:
        """Make a change at once."""
        replies: Any = None
        while True:
            try:
                turn = steps.send(replies)
            except StopIteration as end:
                done(end.value)
                return
            self.told.append(turn.body)
            reply = (self.error or turn.body.change) if isinstance(turn.body, Prepare) else Lost("nothing to say")
            replies = dict.fromkeys(turn.to, reply)

    def commits(self) -> list[tuple[str, ...]]:
        """What was served, rested and went with each change."""
        found = []
        for change in (body.change for body in self.told if isinstance(body, Commit)):
            served, resting = ([one.name for one in offers] for offers in (change.offers, change.resting))
            found.append((*served, *(f"{name} rests" for name in resting), *(f"{name} goes" for name in change.gone)))
        return found


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def stock() -> Stock:
    """In memory for two there are a and b; c, d and e rest."""
    sized = [ServedModel(name, 1, Path("none"), Target(), memory_bytes=10_000_000) for name in "abcde"]
    made = Stock([Offer((model,), 1) for model in sized], 25)
    made.settle(1)
    return made


@pytest.fixture
def demand(workers: Workers, stock: Stock) -> Demand:
    return Demand(cast("Crew", workers), stock, lambda: 1, lambda change, _: stock.adopt(change), workers.make)


def test_one_model_is_loaded_at_a_time_and_the_next_at_once(workers: Workers, stock: Stock, demand: Demand) -> None:
    assert demand.next_look() is None, "nobody asks"
    for name in "ced":
        stock.asked(name)
    began = time.monotonic()
    for _ in range(10):
        demand.look(time.monotonic())
    assert workers.commits() == [("a rests",), ("c",), ("b rests",), ("e",)], "d has to wait: both were loaded just now"
    looked = len(workers.told)
    at = demand.next_look()
    assert at is not None
    assert at >= began + LOOK_SECONDS
    demand.look(at - 0.001)
    assert len(workers.told) == looked
    demand.look(at)
    assert len(workers.told) == looked + 1, "whether there is room now"


def test_while_a_change_waits_for_others_or_a_worker_starts_nothing_is_begun(workers: Workers, stock: Stock) -> None:
    queue: list[Any] = []
    demand = Demand(cast("Crew", workers), stock, lambda: 1, lambda *_: None, lambda *change: queue.append(change))
    stock.asked("c")
    demand.look(time.monotonic())
    demand.look(time.monotonic())
    assert (len(queue), demand.next_look()) == (1, None)
    workers.starting = True
    workers.make(*queue.pop())
    assert workers.told == []
    at = demand.next_look()
    assert at is not None
    assert at > time.monotonic() - LOOK_SECONDS


@pytest.mark.parametrize(
    ("error", "commits", "known"),
    [
        (Refused("no model"), [("a rests",), ("c goes",)], False),
        (Failed("the disk"), [("a rests",)], True),
        (Unavailable("not now"), [("a rests",)], True),
    ],
    ids=["refused", "failed", "unavailable"],
)
def test_what_cannot_be_loaded_is_known_no_more_and_what_was_not_now_still_is(
    workers: Workers, stock: Stock, demand: Demand, error: Exception, commits: list[tuple[str, ...]], known: bool
) -> None:
    workers.error = error
    stock.asked("c")
    demand.look(time.monotonic())
    assert workers.commits() == commits
    assert ("c" in stock.resting) is known
    assert stock.loaded == 0
