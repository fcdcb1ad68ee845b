"""The HTTP fast lane: predictions are answered inside uvicorn's httptools protocol, before ASGI is begun.

Only the common case is taken: POST to an exact URL of a loaded model, HTTP/1.1, a body of known length within the limit,
not compressed, nothing pending on the connection. Everything else (other routes, chunked bodies, pipelined requests,
``Expect``…) goes the ordinary way through uvicorn and the application, which answers the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.protocols import Array
from shipworthy.serve.batcher import Job
from shipworthy.serve.catalog import Live
from shipworthy.serve.oip import LENGTH_HEADER, Request, read_length
from shipworthy.serve.wording import error_body, error_headers

# A header that makes a request uncommon: the ordinary way reads it.
UNCOMMON = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}
HEAD_LENGTH = LENGTH_HEADER.lower().encode()
LINES = {
    200: b"HTTP/1.1 200 OK\r\n",
    400: b"HTTP/1.1 400 Bad Request\r\n",
    404: b"HTTP/1.1 404 Not Found\r\n",
    500: b"HTTP/1.1 500 Internal Server Error\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\n",
}
JSON = b"content-type: application/json\r\ncontent-length: "
OCTETS = b"content-type: application/octet-stream\r\n" + HEAD_LENGTH + b": "


class Gate:
    """What all connections of one worker share: the URLs that are answered fast, the body limit, the ``date`` header."""

    def __init__(self, body_limit_bytes: int) -> None:
        self.body_limit_bytes = body_limit_bytes
        self.urls: dict[bytes, Live] = {}
        self.date = b""
        self.closed: Callable[[], None] = lambda: None

    def open(self, live: Live, *, newest: bool) -> None:
        """Answer the URLs of a loaded model version; those without a version, too, when it is the newest."""
        name = live.name.encode()
        self.urls[b"/v2/models/%b/versions/%d/infer" % (name, live.version)] = live
        if newest:
            self.urls[b"/v2/models/%b/infer" % name] = live


class NoEvent:
    """Stands where uvicorn keeps the event that wakes an application: here none waits."""

    def set(self) -> None:
        """Nothing waits."""


class Cycle:
    """One request in the fast lane, from its headers to its answer; uvicorn sees a cycle of its own kind."""

    __slots__ = (
        *("_body", "_head_length", "_job", "_live", "_protocol", "_request"),
        *("disconnected", "keep_alive", "response_complete"),
    )

    message_event = NoEvent()

    def __init__(self, protocol: FastProtocol, live: Live, head_length: str | None, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self._live = live
        self._head_length = head_length
        self._body: bytes | bytearray = b""
        self._job: Job | None = None
        self._request: Request
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    def take(self, chunk: bytes) -> None:
        """One more piece of the body; its length is announced and within the limit."""
        if not self._body:
            self._body = chunk
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body) + chunk
        else:
            self._body += chunk

    def begin(self) -> None:
        """The body is whole: read it and queue it."""
        body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        self._body = b""
        try:
            head_length = None if self._head_length is None else read_length(self._head_length, len(body))
            self._request = request = self._live.quick.parse(body, head_length)
            job = Job(request.inputs, request.rows, self.done, request.deadline_ns(), request.priority)
        except ShipworthyError as error:
            self.done(None, error)
            return
        self._job = job
        self._live.submit(job)

    def cancel(self) -> None:
        """The caller has gone: a batch need not hold its rows."""
        self.disconnected = True
        if self._job is not None:
            self._job.cancelled = True

    def done(self, outputs: dict[str, Array] | None, error: ShipworthyError | None) -> None:
        """Answer."""
        if self.response_complete or self.disconnected:
            return
        status, extra = 200, b""
        try:
            if outputs is None:
                raise error or Failed("the model gave no answer")
            body, json_bytes = self._live.quick.answer(self._request, outputs)
        except ShipworthyError as failure:
            status, body, json_bytes = failure.http_status, error_body(failure), None
            extra = error_headers(failure)
        self.response_complete = True
        kind = JSON if json_bytes is None else b"%b%d\r\ncontent-length: " % (OCTETS, json_bytes)
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        line = LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        self._protocol.answered(b"%b%b%b%b%d\r\n\r\n%b" % (line, self._protocol.gate.date, extra, kind, len(body), body), self)


class FastProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the lane in front."""

    cycle: Any

    def __init__(self, gate: Gate, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        self.gate = gate
        self.idle_since = loop.time()

    def on_message_begin(self) -> None:
        """Start a request; what only the ordinary way needs is made there."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the lane."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            live = self.gate.urls.get(self.url)
            if live is not None and self.parser.get_method() == b"POST":
                fast = self._fast(live)
                if fast is not None:
                    self.cycle = fast  # it has what uvicorn reads of a cycle
                    return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if type(self.cycle) is Cycle:
            self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if type(self.cycle) is Cycle:
            self.cycle.begin()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone."""
        if type(self.cycle) is Cycle and not self.cycle.response_complete:
            self.cycle.cancel()
        super().connection_lost(exc)
        self.gate.closed()

    def answered(self, data: bytes, cycle: Cycle) -> None:
        """Write an answer of the fast lane, and let the connection go on."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(data)
        self.server_state.total_requests += 1
        if not cycle.keep_alive:
            transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self.idle_since = self.loop.time()

    def close_if_idle(self, before: float) -> None:
        """Close the connection when nothing has been asked since ``before`` (loop time) and nothing is pending."""
        cycle = self.cycle
        if self.idle_since < before and self.timeout_keep_alive_task is None and (cycle is None or cycle.response_complete):
            self.transport.close()

    def _fast(self, live: Live) -> Cycle | None:
        """The request's cycle in the fast lane; ``None`` when something about it is not common."""
        if self.parser.get_http_version() != "1.1":
            return None
        length = head_length = None
        for name, value in self.headers:
            if name in UNCOMMON:
                return None
            if name == b"content-length":
                length = value
            elif name == HEAD_LENGTH:
                head_length = value.decode("latin-1")
        if length is None or not length.isdigit() or int(length) > self.gate.body_limit_bytes:
            return None
        return Cycle(self, live, head_length, keep_alive=self.parser.should_keep_alive())
