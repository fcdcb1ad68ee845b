"""An open loop: requests are sent when they are due, whether or not those before them were answered.

A process of its own, with nothing but the standard library. The one argument is a JSON object with the fields of ``Order``;
what was seen is printed as JSON. Times count from the moment a request was due: what waits here, for want of a free
connection or of this process's own time, is waiting all the same (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

SWEEP_SECONDS = 0.02
HEAD_END = b"\r\n\r\n"
GAVE_UP, BROKEN = 0, -1


@dataclass(frozen=True)
class Order:
    """What to send to 127.0.0.1: ``rate`` requests a second, at random times, for so many seconds.

    ``patience_seconds`` after it was due nobody waits for a request any more, and its connection is closed. There are
    ``connections`` at most; each carries one request at a time.
    """

    port: int
    path: str
    body: str
    rate: float
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    patience_seconds: float = 5.0
    connections: int = 1000


@dataclass
class Request:
    """When it was due (loop time), how it ended (HTTP status, ``GAVE_UP``, ``BROKEN``), and when."""

    due: float
    status: int | None = None
    took: float = 0.0
    retry_after: str = ""
    by: Connection | None = None


class Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._seen = b""
        self.request: Request | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open: take whoever waits longest."""
        self.transport = transport  # type: ignore[assignment]
        self._crowd.free(self)

    def ask(self, request: Request) -> None:
        """Send."""
        self.request, request.by, self._seen = request, self, b""
        self.transport.write(self._crowd.message)

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is whole."""
        self._seen += data
        head, end, body = self._seen.partition(HEAD_END)
        if not end or self.request is None:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if len(body) < int(headers.get("content-length", 0)):
            return
        request, self.request = self.request, None
        request.retry_after = headers.get("retry-after", "")
        self._crowd.ended(request, int(lines[0].split()[1]))
        if headers.get("connection", "").lower() == "close":
            self.transport.close()
        else:
            self._crowd.free(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The server, or we, closed it."""
        request, self.request = self.request, None
        if request is not None:
            self._crowd.ended(request, BROKEN)
        self._crowd.lost(self)


class Crowd:
    """All callers."""

    def __init__(self, order: Order) -> None:
        self._order = order
        body = Path(order.body).read_bytes()
        heads = {"Host": "127.0.0.1", "Content-Length": str(len(body))} | order.headers
        lines = [f"POST {order.path} HTTP/1.1", *(f"{name}: {value}" for name, value in heads.items())]
        self.message = "\r\n".join(lines).encode() + HEAD_END + body
        self._idle: list[Connection] = []
        self._open = 0
        self._waiting: deque[Request] = deque()
        self._under_way: deque[Request] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, object]:
        """Send all, wait until each has ended, and say how; ``start`` is on the clock of ``time.monotonic``."""
        order, loop = self._order, asyncio.get_running_loop()
        chance = random.Random(1)  # noqa: S311  the same times for every server
        start = loop.time() + 0.1
        dues = []
        due = start + chance.expovariate(order.rate)
        while due < start + order.seconds:
            dues.append(due)
            due += chance.expovariate(order.rate)
        requests = [Request(due) for due in dues]
        cpu, lag = time.process_time(), 0.0
        for request in requests:
            while (early := request.due - loop.time()) > 0:
                self._sweep()
                await asyncio.sleep(min(early, SWEEP_SECONDS))
            lag = max(lag, -early)
            self._send(request)
        while any(request.status is None for request in self._under_way):
            self._sweep()
            await asyncio.sleep(SWEEP_SECONDS)
        ended = [[one.due - start, 1000 * one.took, one.status, one.retry_after] for one in requests]
        return {"start": start, "requests": ended, "lag_ms": 1000 * lag, "cpu_seconds": time.process_time() - cpu}

    def free(self, connection: Connection) -> None:
        """A connection has nothing to do."""
        while self._waiting:
            request = self._waiting.popleft()
            if request.status is None:
                connection.ask(request)
                return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed; another takes its place when somebody waits."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._connect()

    def ended(self, request: Request, status: int) -> None:
        """A request has its answer, or will have none."""
        if request.status is None:
            request.status, request.by = status, None
            request.took = asyncio.get_running_loop().time() - request.due

    def _send(self, request: Request) -> None:
        self._under_way.append(request)
        if self._idle:
            self._idle.pop().ask(request)
            return
        self._waiting.append(request)
        self._connect()

    def _connect(self) -> None:
        if self._open < self._order.connections:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._begin())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self._order.port)
        except OSError:
            self._open -= 1
            if self._waiting:
                self.ended(self._waiting.popleft(), BROKEN)

    def _sweep(self) -> None:
        """Give up on whoever has waited too long; requests are in the order in which they were due."""
        before = asyncio.get_running_loop().time() - self._order.patience_seconds
        while self._under_way and (self._under_way[0].status is not None or self._under_way[0].due < before):
            request = self._under_way.popleft()
            if request.status is None:
                connection = request.by
                self.ended(request, GAVE_UP)
                if connection is not None:
                    connection.request = None
                    connection.transport.abort()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Crowd(Order(**json.loads(sys.argv[1]))).run())))
