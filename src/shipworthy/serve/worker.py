"""One worker: an event loop with all models, answering the connections that the supervisor hands it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from shipworthy import machine
from shipworthy.errors import ShipworthyError
from shipworthy.serve import app, http2, letters, security
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.fast import FastProtocol
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.grpc.services import Methods, services
from shipworthy.serve.guard import Guard, Portion, Shown
from shipworthy.serve.http2.stream import Stream, StreamOf
from shipworthy.serve.keys import Rights
from shipworthy.serve.lane import FastLane
from shipworthy.serve.letters import CLOSED, COUNTED, FAILED, GO, LEAVING, READY, WANTED, Abort, Change, Commit, Find, Prepare
from shipworthy.serve.line import Line
from shipworthy.serve.loader import Loader
from shipworthy.serve.noted import NotedApplication, NotedProtocol, NotedStream
from shipworthy.serve.notes import Notes, open_notes
from shipworthy.serve.security import Security
from shipworthy.serve.source import Offer, Source
from shipworthy.serve.statistics import Statistics
from shipworthy.settings import ServeSettings

# Longer than the minute for which load balancers keep idle connections: who reuses one must not find it closed.
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 30
HANDSHAKE_SECONDS = 10.0
# How long a connection on which nothing is asked is kept while this process ends.
LINGER_SECONDS = 2.0
TICK_SECONDS = 1.0
GARBAGE_THRESHOLD = 50_000
TRIM_AGAIN_SECONDS = 10.0
# How often the supervisor is told that a model that rests is asked for.
WANTED_SECONDS = 0.5

HTTP, GRPC = b"h", b"g"


@dataclass(frozen=True)
class Work:
    """What every worker does: the models, where more of them lie, and the settings.

    ``alone``: this worker is the only one; ``None``: that is so when a model is heavy. ``grpc_port`` is told to readers
    of /docs. ``resting`` are models that are known and not loaded before somebody asks for them.
    """

    offers: Sequence[Offer]
    source: Source
    settings: ServeSettings
    cores: int
    grpc_port: int = 0
    alone: bool | None = None
    security: Security = field(default_factory=Security)
    resting: Sequence[Offer] = ()


class Worker:
    """One process of the server, between the fork and its end."""

    def __init__(self, work: Work, control: socket.socket) -> None:
        self._work = work
        self._control = control
        self._closed = 0
        self._ended = 0
        self._arriving = 0
        self._ready = True
        self._state = ServerState()
        self._catalog = Catalog(self._want)
        self._wanted: dict[str, float] = {}
        self._lane = FastLane(int(work.settings.body_limit_mb * 1e6))
        self._loader = Loader(self._catalog, self._show, work.settings)
        self._line: Line
        self._services: Methods
        self._guard: Guard | None = None
        self._notes: Notes | None = None
        self._tls: dict[bytes, ssl.SSLContext] = {}
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._config: uvicorn.Config
        self._grpc: http2.Lane
        self._lanes: dict[bytes, Callable[[], asyncio.Protocol]]

    def run(self) -> None:
        """Load, say so, answer until told to stop."""
        try:
            self._notes = open_notes(self._work.settings, app.VERSION)
            offers = self._load()
        except ShipworthyError as error:
            letters.post(self._control, FAILED, 0, error)
            return
        # Requests leave no cycles behind, and their lists would set off a collection every few requests: 7 % of the CPU of a
        # JSON request (decision 8).
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(offers))

    def _load(self) -> tuple[Offer, ...]:
        """Load and warm every model; what is served, with what each run costs."""
        loaded = self._loader.prepare(Change(tuple(self._work.offers), resting=tuple(self._work.resting)))
        self._loader.cores = self._work.cores
        self._loader.alone = not _are_light(loaded.offers) if self._work.alone is None else self._work.alone
        self._loader.commit(loaded)
        return loaded.offers

    def _show(self, name: str) -> None:
        """Let the fast lane answer what is served of a model now."""
        served = name in self._catalog.names()
        self._lane.show(name, self._catalog.versions(name) if served else (), self._catalog.find(name) if served else None)

    async def _serve(self, offers: Sequence[Offer]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        self._line = Line(self._control, self._take, self._reply, self._told, self._stop.set)
        application, self._services = self._answers(self._catalog, Fleet(self._line.ask, self._work.source, self._catalog))
        if keys := self._work.security.keys:
            self._guard = Guard(keys, application, self._services, self._answers_for)
            self._lane.allows = self._guard.allows
        answers: ASGIApp = self._guard or application
        stream_of: StreamOf = Stream
        if self._notes:
            self._notes.start()
            answers = NotedApplication(self._notes, answers)
            stream_of = partial(NotedStream, self._notes)
        self._secure(self._work.security)
        self._config = uvicorn.Config(
            answers,
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
        self._lane.closed = self._one_closed
        limits = http2.Limits(message_bytes=self._lane.body_limit_bytes)
        self._grpc = http2.lane(self._guard or self._services, limits, self._one_closed, stream_of)
        self._lanes = {HTTP: self._protocol, GRPC: self._grpc}
        self._tick()
        self._line.open()
        self._line.tell(READY, int(_are_light(offers)), offers)
        await self._stop.wait()
        await self._drain()

    def _answers(self, catalog: Catalog, fleet: Fleet) -> tuple[ASGIApp, Methods]:
        """What answers over HTTP and gRPC, out of a catalog and a fleet."""
        limit, port = self._lane.body_limit_bytes, self._work.grpc_port
        return app.build(catalog, fleet, limit, port, lambda: self._ready), services(catalog, fleet, lambda: self._ready)

    def _answers_for(self, rights: Rights) -> tuple[ASGIApp, Methods]:
        """What answers somebody with these rights."""
        shown = Shown(self._catalog, rights)
        return self._answers(shown, Portion(self._line.ask, self._work.source, shown, rights))

    def _secure(self, secured: Security) -> None:
        """Ask for these keys, and show this certificate, from now on."""
        if self._guard and secured.keys:
            self._guard.change(secured.keys)
            self._lane.forget()
            if self._notes:
                self._notes.know(secured.keys)
        if tls := secured.tls:
            alpn = {HTTP: security.HTTP_ALPN, GRPC: security.GRPC_ALPN}
            self._tls = {lane: security.context(tls, protocol) for lane, protocol in alpn.items()}

    def _take(self, lane: bytes, descriptor: int) -> None:
        """Take a connection from the supervisor; it is ours from now on."""
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        self._arriving += 1
        self._line.begin(self._accept(lane, connection))

    def _leave(self) -> None:
        """Told to end by somebody else than the supervisor: it first puts another in this one's place.

        Where the supervisor ends, too, its GO lies behind the connections that it has handed over: it is not run ahead of.
        """
        self._line.tell(LEAVING)

    def _told(self, kind: bytes) -> None:
        self._ready = False
        self._services.health.changed()
        if kind == GO:
            self._stop.set()

    async def _reply(self, body: Any) -> Any:
        """Do what the supervisor asks."""
        if isinstance(body, Find):
            return await asyncio.to_thread(self._find, {*self._catalog.names(), *self._catalog.resting})
        if isinstance(body, Prepare):
            return await asyncio.to_thread(self._loader.prepare, body.change)
        if isinstance(body, Commit):
            self._loader.commit(body.change)
            # What nobody holds any more is free now; what requests under way still hold, in a while.
            self._loop.call_later(TRIM_AGAIN_SECONDS, lambda: self._loop.run_in_executor(None, machine.trim))
            return await asyncio.to_thread(machine.trim)
        if isinstance(body, Abort):
            return self._loader.abort(body.reasons)
        if isinstance(body, Security):
            return self._secure(body)
        return self._counts()

    def _want(self, name: str) -> None:
        """Somebody asks for a model that rests: tell the supervisor, unless it heard of that just now."""
        now = self._loop.time()
        if now >= self._wanted.get(name, 0.0) and self._line.tell(WANTED, 0, name):
            self._wanted[name] = now + WANTED_SECONDS

    def _find(self, known: set[str]) -> Change:
        """What leads from what is known to what there is; in a thread."""
        source = self._work.source
        offers = tuple(source.find(name) for name in source.names())
        return Change(offers, tuple(known - {offer.name for offer in offers}))

    def _counts(self) -> dict[tuple[str, int], Statistics]:
        catalog = self._catalog
        lives = [live for name in catalog.names() for live in catalog.versions(name)]
        for live in lives:
            live.statistics.waiting, live.statistics.waiting_rows = live.batcher.waiting, live.batcher.waiting_rows
        return {(live.name, live.version): live.statistics for live in lives}

    async def _accept(self, lane: bytes, connection: socket.socket) -> None:
        context = self._tls.get(lane)
        patience = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": LINGER_SECONDS} if context else {}
        try:
            await self._loop.connect_accepted_socket(self._lanes[lane], connection, ssl=context, **patience)
        except OSError:  # it has gone in the meantime, or does not speak TLS as we do
            connection.close()
            self._one_closed()
        finally:
            self._arriving -= 1

    def _protocol(self) -> FastProtocol:
        if self._notes:
            return NotedProtocol(self._notes, self._lane, self._config, self._state, self._loop)
        return FastProtocol(self._lane, self._config, self._state, self._loop)

    def _one_closed(self) -> None:
        self._closed += 1
        self._tell_closed()

    def _tell_closed(self) -> None:
        """Say how many connections have closed; what cannot be said now is said with the next."""
        if self._line.tell(CLOSED, self._closed):
            self._closed = 0

    def _tick(self) -> None:
        self._date()
        before = self._loop.time() - KEEP_ALIVE_SECONDS
        for connection in self._connections():
            connection.close_if_idle(before)
            connection.look()
        if self._closed:
            self._tell_closed()
        counts = self._counts()
        ended = sum(counted.ended for counted in counts.values())
        if ended != self._ended:  # so that it is not lost with this process
            self._ended = ended
            self._line.tell(COUNTED, 0, counts)
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _date(self) -> None:
        """The headers that every answer has."""
        date = formatdate(time.time(), usegmt=True).encode()
        self._lane.date = b"date: " + date + b"\r\n"
        self._state.default_headers = [(b"date", date), *([(b"connection", b"close")] if self._lane.leaving else [])]

    async def _drain(self) -> None:
        """Answer what is asked still, and end; in a bounded time.

        A connection closes with its next answer, which says so: a caller that is just sending loses nothing. Who asks
        nothing for a while is hung up on.
        """
        self._lane.leave()
        self._date()
        for connection in self._connections():
            connection.leave()
        self._grpc.shutdown()
        began = self._loop.time()
        while self._arriving or self._state.connections or self._state.tasks or self._grpc.connections:
            waited = self._loop.time() - began
            if waited > STOP_SECONDS:
                break
            if waited > LINGER_SECONDS:
                for connection in self._connections():
                    connection.shutdown()
                self._grpc.shutdown()
            await asyncio.sleep(0.01)
        self._line.tell(COUNTED, 0, self._counts())
        if self._notes:
            await asyncio.to_thread(self._notes.close)

    def _connections(self) -> list[FastProtocol]:
        return [one for one in self._state.connections if isinstance(one, FastProtocol)]


def _are_light(offers: Sequence[Offer]) -> bool:
    return all(model.cost is not None and model.cost.light for offer in offers for model in offer.versions)


def run(work: Work, control: socket.socket) -> None:
    """What a forked process does; it never returns."""
    code = 1
    try:
        control.setblocking(False)
        Worker(work, control).run()
        code = 0
    finally:
        os._exit(code)
