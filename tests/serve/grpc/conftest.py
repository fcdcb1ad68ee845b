"""The services over real models, and a call whose other end is a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.records import Target
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.calls import Status
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.grpc import messages
from shipworthy.serve.grpc.services import services
from shipworthy.serve.letters import Count, Tally
from shipworthy.serve.source import Given, ServedModel
from shipworthy.serve.statistics import Statistics

INFERENCE = "/inference.GRPCInferenceService/"


class Fake:
    """A ``calls.Call`` that keeps what is said."""

    note = None

    def __init__(self, deadline_ns: int = 0) -> None:
        self.metadata: dict[str, str] = {}
        self.deadline_ns = deadline_ns
        self.on_cancel = None
        self.sent: list[bytes] = []
        self.status: Status | None = None
        self.text = ""

    def send(self, message: bytes) -> None:
        assert self.status is None, "sent after the end"
        assert type(message) is bytes
        self.sent.append(message)

    def finish(self, message: bytes | None = None, status: Status = Status.OK, text: str = "") -> None:
        assert self.status is None, "ended twice"
        if message is not None:
            assert type(message) is bytes
            self.sent.append(message)
        self.status, self.text = status, text


class Server:
    """The services of some models; ``ready`` is what readiness says."""

    def __init__(self, models: dict[str, Path], plan: Plan = Plan()) -> None:  # noqa: B008
        self.loop = asyncio.new_event_loop()
        self.wanted: list[str] = []
        self.catalog = Catalog(self.wanted.append)
        for name, path in models.items():
            self.put(name, 1, path, plan)
        self.ready = True
        self.asked: list[Any] = []
        given = Given(ServedModel(name, 1, path, Target()) for name, path in models.items())
        self.services = services(self.catalog, Fleet(self.supervise, given, self.catalog), lambda: self.ready)

    async def supervise(self, body: Any) -> Any:
        """What a supervisor would answer that has this one worker."""
        self.asked.append(body)
        if isinstance(body, Count):
            lives = [live for name in self.catalog.names() for live in self.catalog.versions(name)]
            return Tally({(live.name, live.version): live.statistics for live in lives})
        for name in body.gone:
            self.catalog.drop(name)
        return None

    def put(self, name: str, version: int, path: Path, plan: Plan = Plan()) -> Live:  # noqa: B008
        runner, statistics = OnnxRuntimeRunner(path, Target()), Statistics()
        live = Live(name, version, f"digest of {name}", runner, Batcher(runner, plan, statistics), statistics)
        before = self.catalog.versions(name) if name in self.catalog.names() else []
        self.catalog.serve([*before, live])
        return live

    def run(self, call: Fake, count: int = 1) -> Fake:
        """Let the loop turn until the call is over, or has said so many messages."""

        async def wait() -> None:
            async with asyncio.timeout(30):
                while call.status is None and len(call.sent) < count:  # noqa: ASYNC110  a call is no coroutine
                    await asyncio.sleep(0)

        self.loop.run_until_complete(wait())
        return call

    def bytes(self, path: str, message: bytes, deadline_ns: int = 0) -> Fake:
        """What a unary method answers to a message."""
        call = Fake(deadline_ns)

        async def begin() -> None:
            self.services.unary[path](call, message)

        self.loop.run_until_complete(begin())
        return self.run(call)

    def ask(self, path: str, takes: str, gives: str, /, **values: Any) -> Any:
        """The answer of a unary method as a message."""
        package = path[1:].rpartition("/")[0].rpartition(".")[0]
        call = self.bytes(path, new(f"{package}.{takes}", **values).SerializeToString())
        assert call.status is Status.OK, call.text
        return messages.load()[f"{package}.{gives}"].FromString(call.sent[0])

    def inference(self, method: str, /, **values: Any) -> Any:
        return self.ask(INFERENCE + method, method + "Request", method + "Response", **values)

    def stream(self, path: str, *said: bytes, half_close: bool = True) -> Fake:
        """What a streaming method answers to some messages."""
        call = Fake()

        async def begin() -> None:
            streaming = self.services.streaming[path](call)
            for message in said:
                streaming.message(message)
            if half_close:
                streaming.half_closed()

        self.loop.run_until_complete(begin())
        return self.run(call, 1 if not half_close else 1 << 30)


def new(name: str, /, **values: Any) -> Any:
    return messages.load()[name](**values)


def close(server: Server) -> None:
    server.loop.close()


@pytest.fixture(scope="module")
def server(models: dict[str, Path]) -> Iterator[Server]:
    made = Server(models)
    for version in (12, 3):
        made.put("two", version, models["two"])
    yield made
    close(made)


@pytest.fixture
def fresh(models: dict[str, Path]) -> Iterator[Server]:
    made = Server({"linear": models["linear"]})
    yield made
    close(made)
