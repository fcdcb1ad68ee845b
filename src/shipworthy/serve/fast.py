"""The HTTP fast lane: predictions are answered inside uvicorn's httptools protocol, before ASGI is begun.

Only the common case is taken: POST to an exact URL of a loaded model, HTTP/1.1, a body of known length within the limit,
not compressed, nothing pending on the connection. Everything else (other routes, chunked bodies, pipelined requests,
``Expect``…) goes the ordinary way through uvicorn and the application, which answers the same.

Both ways have the same bounds: on the size of a head, and on how long a caller may take to send and to read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from shipworthy.errors import Failed, Refused, ShipworthyError, Unavailable
from shipworthy.serve.bounds import Bounded
from shipworthy.serve.cohort import Cohort, NoEvent, join
from shipworthy.serve.compression import compress
from shipworthy.serve.lane import HEAD_END, FastLane, Head
from shipworthy.serve.oip import LENGTH_HEADER, read_length
from shipworthy.serve.order import Order
from shipworthy.serve.runs import Share
from shipworthy.serve.statistics import outcome_of
from shipworthy.serve.tracing import FIELDS, is_lifted, lift

# A header that makes a request uncommon: the ordinary way reads it.
UNCOMMON = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}
HEAD_LENGTH = LENGTH_HEADER.lower().encode()
# Bodies above this are not read when the model is overloaded, unless they name a priority.
LARGE = 16_384
PRIORITY = b'"priority"'
log = logging.getLogger(__name__)


class Cycle(Order):
    """One request in the fast lane, from its head to its answer; uvicorn sees a cycle of its own kind."""

    # What is asked of each request stands in slots: to look up what its class has costs CPython 3.11 three times as much.
    __slots__ = ("disconnected", "extra", "head", "keep_alive", "protocol", "request")

    message_event = NoEvent()
    response_started = False
    response_complete = False  # the protocol lets go of a cycle that is answered

    def __init__(self, protocol: FastProtocol, head: Head) -> None:
        self.protocol = protocol
        self.head = head
        self.keep_alive = True
        self.extra = b""
        """Headers of the answer beside the usual ones, with their ends of line."""
        self.cancelled = False
        self.key = ()
        self.wire = head.wire

    def begin(self, body: bytes, since_ns: int = 0) -> None:
        """The body is whole, since then (of ``time.monotonic_ns``) or just now: read it and queue it."""
        head = self.head
        self.began_ns = since_ns or time.monotonic_ns()
        if len(body) > LARGE and (refusal := self._refusal(body)):
            self.done(None, refusal)
            return
        try:
            self.request = request = head.reader.parse(body, head.json_bytes)
        except Exception as error:  # noqa: BLE001  whatever it was, the caller gets an answer
            head.statistics.turned_away(outcome_of(error), self.wire)
            self.done(None, _told(error))
            return
        self.inputs = request.inputs
        self.rows = request.rows
        self.bytes = request.nbytes
        self.priority = request.priority
        self.deadline_ns = request.deadline_ns() if request.timeout_us else 0
        head.batcher.submit(self)

    def _refusal(self, body: bytes) -> Unavailable | None:
        """Why a large text is not even read: that takes ms, and its place in the queue is known without."""
        head = self.head
        return None if head.json_bytes is not None or PRIORITY in body else head.batcher.overloaded(self.wire)

    def done(self, outputs: Share | None, error: ShipworthyError | None) -> int | None:
        """Answer."""
        head, protocol = self.head, self.protocol
        unsaid = None
        extra = self.extra
        try:
            body, json_bytes = (b"", None) if outputs is None else head.reader.answer(self.request, outputs)
        except Exception as failure:  # noqa: BLE001  whatever it was, the caller gets an answer
            outputs, error, unsaid = None, _told(failure), outcome_of(failure)
        if outputs is None:
            error = error or Failed("the model gave no answer")
            protocol.answered(protocol.lane.failure(error, extra, keep_alive=self.keep_alive), self)
            return unsaid
        if head.accept:
            body, encoding = compress(body, head.accept)
            if encoding:
                extra += b"content-encoding: %b\r\nvary: accept-encoding\r\n" % encoding.encode()
        start = protocol.lane.start(json_bytes, extra, keep_alive=self.keep_alive)
        protocol.answered(b"%b%d\r\n\r\n%b" % (start, len(body), body), self)
        return None


def _told(error: Exception) -> ShipworthyError:
    """The error as the caller is told it; one that nobody foresaw is in the log."""
    if isinstance(error, ShipworthyError):
        return error
    log.error("a request could not be answered", exc_info=error)
    return Failed("internal error: the server's log says more")


class FastProtocol(Bounded):
    """uvicorn's protocol with the lane in front."""

    __slots__ = ("_body", "context", "cycle_of", "idle_since", "joins", "lane")

    cycle: Any

    def __init__(self, lane: FastLane, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        self.lane = lane
        self.cycle_of: Callable[[Any, Head], Cycle] = Cycle
        self.joins = True
        """Whether requests may wait together with those of other connections."""
        self.context: list[tuple[bytes, bytes]] = []  # of the caller's trace, as the last head that had one says
        self.idle_since = loop.time()
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Answer a whole request whose head is known by its bytes without the parser; all else goes through that.

        What the parser says of a head depends on its bytes alone, as long as it stands between two messages; a head is
        remembered when it was all of what came, but for the body that it announces. Saves 3 µs a request. The context of a
        caller's trace, which is another in each request, stands in no head that is remembered.
        """
        cycle = self.cycle
        if self._within or not (cycle is None or cycle.response_complete):
            self._feed(data)
            return
        found = self.lane.last
        if found is None or not data.startswith(found[0]):
            found, self.context = self.lane.find(data)
        if found is not None:
            text, head = found
            if len(data) == len(text) + head.body_bytes:
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                if not self.joins or not join(self, head, data, len(text)):
                    self.cycle = cycle = self.own(head)
                    cycle.begin(data[len(text) :])
                return
        self._feed(data)
        self.context = []
        cycle = self.cycle
        if not isinstance(cycle, Cycle) or not cycle.keep_alive or self._within:
            return
        text = data[: data.find(HEAD_END) + 4]
        rest, _ = lift(text)
        if len(data) == len(text) + cycle.head.body_bytes and is_lifted(rest):
            self.lane.remember(rest, cycle.head)

    def own(self, head: Head) -> Cycle:
        """A cycle of its own for a request."""
        cycle_of = self.cycle_of
        return cycle_of(self, head)

    def on_message_begin(self) -> None:
        """Start a request; what only the ordinary way needs is made there."""
        self._begin_head()
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the lane."""
        self._end_head()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            head = self._common() if self.url in self.lane.urls else None
            if head is not None:
                self.cycle = self.own(head)
                self.cycle.keep_alive = self.parser.should_keep_alive() and not self.lane.leaving
                return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        self.headers = []  # trailers are read by nobody: they must not end up among the headers

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._moved = True
        self._waited = 0
        if isinstance(self.cycle, Cycle):
            self._body.append(body)  # its length is announced and within the limit
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._within = self._bodiless = False
        if isinstance(self.cycle, Cycle):
            pieces, self._body = self._body, []
            self.cycle.begin(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone: a batch need not hold its rows."""
        if isinstance(self.cycle, Cycle):
            self.cycle.cancelled = True
        elif isinstance(self.cycle, Cohort):
            self.cycle.leave(self)
        super().connection_lost(exc)
        self.lane.closed()

    def answered(self, data: bytes, cycle: Cycle | Cohort) -> None:
        """Write an answer of the fast lane, unless the caller has gone, and let the connection go on."""
        if self.cycle is cycle:
            self.cycle = None
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(data)
        if not cycle.keep_alive:
            transport.close()
        elif self.pipeline or self._last:
            self.on_response_complete()
        else:
            self.idle_since = self.loop.time()
            if self.flow.write_paused:
                self.flow.pause_reading()  # who does not read answers gets no more of them

    def say(self, error: ShipworthyError) -> None:
        """Write that something is wrong, as the last answer."""
        data = self.lane.failure(error, keep_alive=False)
        self.transport.write(data[: data.index(HEAD_END) + len(HEAD_END)] if self._bodiless else data)

    def leave(self) -> None:
        """Close the connection with the answer that is being made; one where nothing is asked stays open for now."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def close_if_idle(self, before: float) -> None:
        """Close the connection when nothing has been asked since ``before`` (loop time) and nothing is pending."""
        cycle = self.cycle
        if self.idle_since < before and self.timeout_keep_alive_task is None and (cycle is None or cycle.response_complete):
            self.transport.close()

    def _common(self) -> Head | None:
        """What the head says, when nothing about it is uncommon."""
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        length = head_length = None
        accept = ""
        keys: list[bytes] = []
        context: list[tuple[bytes, bytes]] = []
        for name, value in self.headers:
            if name in UNCOMMON:
                return None
            if name == b"content-length":
                length = value
            elif name == HEAD_LENGTH:
                head_length = value.decode("latin-1")
            elif name == b"accept-encoding":
                accept = value.decode("latin-1")
            elif name == b"authorization":
                keys.append(value)
            elif name in FIELDS:
                context.append((name, value))
        if length is None or not length.isdigit() or int(length) > self.lane.body_limit_bytes:
            return None
        try:
            json_bytes = read_length(head_length, int(length))
        except Refused:
            return None
        live, reader = self.lane.urls[self.url]
        allows = self.lane.allows
        if allows is not None and not allows(live.name, keys):
            return None  # the ordinary way says why
        self.context = context
        return Head(self.url.decode("latin-1"), live, reader, int(length), json_bytes, accept, b"".join(keys[:1]))
