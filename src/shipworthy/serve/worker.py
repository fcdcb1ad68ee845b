"""One worker: an event loop with all models, answering the connections that the supervisor hands it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

import uvicorn
import uvloop
from uvicorn.server import ServerState

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import made_up
from shipworthy.errors import ShipworthyError
from shipworthy.serve import app, http2
from shipworthy.serve.batcher import Batcher
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.fast import FastProtocol, Gate
from shipworthy.serve.grpc.services import services
from shipworthy.serve.plan import Cost, plan, tune
from shipworthy.serve.source import ServedModel
from shipworthy.serve.statistics import Statistics
from shipworthy.settings import ServeSettings

# Longer than the minute for which load balancers keep idle connections: who reuses one must not find it closed.
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 30
TICK_SECONDS = 1.0
MESSAGE_BYTES = 65536
MOST_FDS = 1

READY, FAILED, CLOSED = b"r", b"f", b"c"
HTTP, GRPC = b"h", b"g"


@dataclass(frozen=True)
class Work:
    """What every worker does: the models and the settings.

    ``alone``: this worker is the only one; ``None``: that is so when a model is heavy.
    """

    models: Sequence[ServedModel]
    settings: ServeSettings
    cores: int
    alone: bool | None = None


class Worker:
    """One process of the server, between the fork and its end."""

    def __init__(self, work: Work, control: socket.socket) -> None:
        self._work = work
        self._control = control
        self._closed = 0
        self._state = ServerState()
        self._catalog = Catalog()
        self._gate = Gate(int(work.settings.body_limit_mb * 1e6))
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._config: uvicorn.Config
        self._grpc: http2.Lane
        self._lanes: dict[bytes, Callable[[], asyncio.Protocol]]

    def run(self) -> None:
        """Load, say so, answer until told to stop."""
        try:
            light = self._load()
        except ShipworthyError as error:
            self._control.send(FAILED + pickle.dumps(error))
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(light=light))

    def _load(self) -> bool:
        """Load and warm every model; whether all of them are light."""
        work = self._work
        loaded: list[tuple[ServedModel, OnnxRuntimeRunner, Cost | None]] = []
        for model in work.models:
            runner = OnnxRuntimeRunner(model.path, model.target)
            with contextlib.suppress(ShipworthyError):  # made-up values may be outside what the model takes
                runner.run(made_up(runner.signature, 1).inputs)
            loaded.append((model, runner, model.cost or (tune(runner) if work.settings.tune else None)))
        light = all(cost is not None and cost.light for _, _, cost in loaded)
        alone = not light if work.alone is None else work.alone
        for model, runner, cost in loaded:
            statistics = Statistics()
            batcher = Batcher(runner, plan(cost, work.cores, alone=alone), statistics)
            self._catalog.put(Live(model.name, model.version, model.bundle, runner, batcher, statistics))
        for name in self._catalog.names():
            newest = self._catalog.find(name)
            for live in self._catalog.versions(name):
                self._gate.open(live, newest=live is newest)
        return light

    async def _serve(self, *, light: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._config = uvicorn.Config(
            app.build(self._catalog, self._gate.body_limit_bytes),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self._gate.closed = self._one_closed
        limits = http2.Limits(message_bytes=self._gate.body_limit_bytes)
        self._grpc = http2.lane(services(self._catalog, lambda: not self._stop.is_set()), limits, self._one_closed)
        self._lanes = {HTTP: self._protocol, GRPC: self._grpc}
        self._tick()
        self._loop.add_reader(self._control, self._take)
        self._control.send(READY + (b"1" if light else b"0"))
        await self._stop.wait()
        await self._drain()

    def _take(self) -> None:
        """Take what the supervisor sends: a connection; its end is ours."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, MOST_FDS)
        except BlockingIOError:
            return
        if not message:
            self._loop.remove_reader(self._control)
            self._stop.set()
        for fd in fds:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            self._loop.create_task(self._accept(self._lanes[message], connection))

    async def _accept(self, lane: Callable[[], asyncio.Protocol], connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lane, connection)
        except OSError:  # it has gone in the meantime
            connection.close()
            self._one_closed()

    def _protocol(self) -> FastProtocol:
        return FastProtocol(self._gate, self._config, self._state, self._loop)

    def _one_closed(self) -> None:
        self._closed += 1
        self._tell_closed()

    def _tell_closed(self) -> None:
        """Say how many connections have closed; what cannot be said now is said with the next."""
        with contextlib.suppress(OSError):
            self._control.send(CLOSED + str(self._closed).encode())
            self._closed = 0

    def _tick(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._gate.date = b"date: " + date + b"\r\n"
        self._state.default_headers = [(b"date", date)]
        before = self._loop.time() - KEEP_ALIVE_SECONDS
        for connection in list(self._state.connections):
            if isinstance(connection, FastProtocol):
                connection.close_if_idle(before)
        if self._closed:
            self._tell_closed()
        self._loop.call_later(TICK_SECONDS, self._tick)

    async def _drain(self) -> None:
        """Let what was asked be answered, for a bounded time."""
        self._loop.remove_reader(self._control)
        for connection in list(self._state.connections):
            connection.shutdown()
        self._grpc.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._state.connections or self._state.tasks or self._grpc.connections:  # noqa: ASYNC110  uvicorn keeps sets, not events
                    await asyncio.sleep(0.01)
        self._catalog.close()


def run(work: Work, control: socket.socket) -> None:
    """What a forked process does; it never returns."""
    code = 1
    try:
        control.setblocking(False)
        Worker(work, control).run()
        code = 0
    finally:
        os._exit(code)
