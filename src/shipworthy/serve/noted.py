"""The lanes with notes: each a subclass or a wrapper, so that a server that keeps none pays nothing for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from shipworthy.serve import tracing
from shipworthy.serve.calls import Status
from shipworthy.serve.cohort import Cohort
from shipworthy.serve.fast import Cycle, FastProtocol
from shipworthy.serve.http2 import replies
from shipworthy.serve.http2.heads import Head as GrpcHead
from shipworthy.serve.http2.stream import Connection, Stream
from shipworthy.serve.lane import HEAD_END, FastLane, Head
from shipworthy.serve.note import CANCELLED, FAILED, NOTE, REFUSED, SUCCESS, UNAVAILABLE, Note
from shipworthy.serve.notes import Notes
from shipworthy.serve.statistics import PROTOCOLS, TFS_GRPC, TFS_REST, V2_GRPC, V2_REST

_REST = {"/v1/": PROTOCOLS[TFS_REST], "/V1/": PROTOCOLS[TFS_REST], "/v2/": PROTOCOLS[V2_REST]}
_GRPC = {"/tens": PROTOCOLS[TFS_GRPC], "/infe": PROTOCOLS[V2_GRPC]}
_GRPC_OUTCOMES: Mapping[int, str] = {
    Status.OK: SUCCESS,
    Status.CANCELLED: CANCELLED,
    Status.DEADLINE_EXCEEDED: UNAVAILABLE,
    Status.UNAVAILABLE: UNAVAILABLE,
    Status.INTERNAL: FAILED,
}
_BAD, _WRONG, _BUSY = 400, 500, 503


def _outcome(status: int) -> str:
    """How a request over HTTP has ended with this status."""
    if status < _BAD:
        return SUCCESS
    return UNAVAILABLE if status == _BUSY else FAILED if status >= _WRONG else REFUSED


class NotedCycle(Cycle):
    """A request in the fast lane, and its note."""

    __slots__ = ("note",)

    def __init__(self, protocol: NotedProtocol, head: Head) -> None:
        super().__init__(protocol, head)
        self.run = None
        self.rows = self.arrived_ns = 0
        fields, protocol.context = protocol.context, []
        self.note = note = Note(PROTOCOLS[self.wire], "POST", head.path, head.caller)
        protocol.notes.begin(note, tracing.find(fields))
        note.asked(head.live, self)
        response = note.traceresponse
        self.extra = b"traceresponse: %b\r\n" % response.encode() if response else b""


class NotedProtocol(FastProtocol):
    """A connection whose requests in the fast lane are noted; the others are noted by the application."""

    __slots__ = ("notes",)

    def __init__(self, notes: Notes, lane: FastLane, config: Config, state: ServerState, loop: Any) -> None:
        super().__init__(lane, config, state, loop)
        self.notes = notes
        self.cycle_of = NotedCycle
        self.joins = False  # each has a note of its own

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone."""
        cycle = self.cycle
        super().connection_lost(exc)
        if isinstance(cycle, NotedCycle):
            self.notes.end(cycle.note, 0, CANCELLED, cycle.head.body_bytes, 0)

    def answered(self, data: bytes, cycle: Cycle | Cohort) -> None:
        """Write the answer, and note it."""
        super().answered(data, cycle)
        if isinstance(cycle, NotedCycle):
            status = int(data[9:12])
            body_bytes = len(data) - data.index(HEAD_END) - len(HEAD_END)
            self.notes.end(cycle.note, status, _outcome(status), cycle.head.body_bytes, body_bytes)


class NotedStream(Stream):
    """A call over gRPC, and its note."""

    __slots__ = ("_notes", "_sent", "fields", "note")

    def __init__(
        self, notes: Notes, connection: Connection, number: int, head: GrpcHead, send_window: int, receive_window: int
    ) -> None:
        super().__init__(connection, number, head, send_window, receive_window)
        said = head.metadata
        self._notes = notes
        self._sent = 0
        self.note: Note = Note(
            _GRPC.get(head.path[:5], "grpc"), "POST", head.path, said.get("authorization", "").encode("latin-1")
        )
        parent = said.get("traceparent")
        notes.begin(self.note, tracing.parse(parent, said.get("tracestate", "")) if parent else None)
        response = self.note.traceresponse
        self.fields = replies.literal(b"traceresponse", response.encode()) if response else b""

    def send(self, message: bytes) -> None:
        """Send one message, and count it."""
        self._sent += len(message)
        super().send(message)

    def finish(self, message: bytes | None = None, status: Status = Status.OK, text: str = "") -> None:
        """End the call, and note how."""
        sent = self._sent + (0 if message is None else len(message))
        super().finish(message, status, text)
        self._notes.end(self.note, status, _GRPC_OUTCOMES.get(status, REFUSED), self.received, sent)

    def cancel(self) -> None:
        """The client has gone."""
        super().cancel()
        self._notes.end(self.note, Status.CANCELLED, CANCELLED, self.received, self._sent)


class NotedApplication:
    """The application of ASGI, and a note for each request to it."""

    def __init__(self, notes: Notes, application: ASGIApp) -> None:
        self._notes = notes
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and note it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        fields = scope["headers"]
        caller = next((value for name, value in fields if name == b"authorization"), b"")
        path = scope["raw_path"].decode("latin-1")
        note = Note(_REST.get(path[:4], "http"), scope["method"], path, caller)
        self._notes.begin(note, tracing.find(fields))
        one = _Exchange(note, receive, send)
        token = NOTE.set(note)
        try:
            await self._application(scope, one.receive, one.send)
        finally:
            NOTE.reset(token)
            note.model = note.model or str(scope.get("path_params", {}).get("name", ""))
            outcome = CANCELLED if one.gone or not one.status else _outcome(one.status)
            self._notes.end(note, one.status, outcome, one.bytes_in, one.bytes_out)


class _Exchange:
    """Counts what passes between a caller and the application."""

    def __init__(self, note: Note, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._response = note.traceresponse.encode()
        self._complete = False
        self.gone = False
        self.status = self.bytes_in = self.bytes_out = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        self.gone = self.gone or (message["type"] == "http.disconnect" and not self._complete)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._response:
                message["headers"] = [*message.get("headers", []), (b"traceresponse", self._response)]
        else:
            self.bytes_out += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        await self._send(message)
