"""What is kept of one request: out of it the access log and the spans are written."""

from __future__ import annotations

import time
from contextvars import ContextVar

from shipworthy.serve import tracing
from shipworthy.serve.catalog import Live
from shipworthy.serve.order import Order

SUCCESS, REFUSED, UNAVAILABLE, FAILED, CANCELLED = "success", "refused", "unavailable", "failed", "cancelled"
"""How a request may have ended, by whose fault: the caller's, nobody's (too much was asked), ours; or its caller has gone."""


class Note:
    """One request. Times are of ``time.monotonic_ns``, but for ``ended_at_ns`` (since 1970).

    ``protocol`` is one of ``statistics.PROTOCOLS``, or ``http`` or ``grpc`` where no model is asked; ``caller`` the header
    ``authorization``; ``status`` is HTTP's or gRPC's. ``trace_id`` and ``span_id`` are ours, or empty; ``parent_id`` the
    caller's. What the model's queue says (``arrived_ns`` and further) is 0 where the request did not come so far.
    """

    live: Live | None = None
    job: Order | None = None
    model = bundle = outcome = ""
    trace_id = span_id = parent_id = state = ""
    traced = False
    version = rows = status = bytes_in = bytes_out = 0
    arrived_ns = started_ns = took_ns = ended_ns = ended_at_ns = 0

    def __init__(self, protocol: str, method: str, path: str, caller: bytes) -> None:
        self.began_ns = time.monotonic_ns()
        self.protocol = protocol
        self.method = method
        self.path = path
        self.caller = caller

    def asked(self, live: Live, job: Order) -> None:
        """The request asks this model, in this order."""
        self.live = live
        self.job = job

    @property
    def traceresponse(self) -> str:
        """What the answer says of the trace; empty: it belongs to none."""
        return tracing.response(self.trace_id, self.span_id, sampled=self.traced) if self.span_id else ""

    def settle(self) -> None:
        """Keep what there is to say of model and order, and let them go: the note may wait longer than they should."""
        live, job = self.live, self.job
        if live is not None:
            self.model, self.version, self.bundle = live.name, live.version, live.bundle
        if job is not None:
            self.rows, self.arrived_ns = job.rows, job.arrived_ns
            if job.run is not None:
                self.started_ns, self.took_ns = job.run
        self.live = self.job = None


NOTE: ContextVar[Note | None] = ContextVar("note", default=None)
"""The note of the request that the application is answering."""
