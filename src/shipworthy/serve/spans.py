"""Spans of OpenTelemetry out of notes, sent by OTLP over HTTP: one of the server a request, with its wait and its run.

Needs the extra ``otel``: imported only where spans are asked for. Headers, timeout, certificate and compression are set by the
standard variables ``OTEL_EXPORTER_OTLP_…``, the service's name and further attributes by those of the resource.
"""

from __future__ import annotations

import logging
import re
import urllib.parse

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from shipworthy.errors import Refused
from shipworthy.serve.calls import Status
from shipworthy.serve.note import Note

# Requests in one message: to encode more at once would hold the loop's thread up.
MOST_TOGETHER = 32
LONGEST_TEXT = 300

_PLACE = re.compile(r"(/v[12]/models/)[^/:]+(?:/(versions|labels)/[^/:]+)?(.*)", re.IGNORECASE)
_WRONG = {Status.DEADLINE_EXCEEDED, Status.UNIMPLEMENTED, Status.INTERNAL, Status.UNAVAILABLE}
_WORST_HTTP = 500

Attributes = dict[str, str | int]

log = logging.getLogger(__name__)


class Spans:
    """Makes spans and sends them, in a thread of its own."""

    def __init__(self, endpoint: str, version: str, scheme: str) -> None:
        """Store them: the collector's address, and this server's version and scheme of HTTP."""
        self._scheme = scheme
        self._endpoint = endpoint
        self._version = version
        self._ids = _Ids()
        self._ended = _Ended()
        self._lost = 0
        self._exporter: OTLPSpanExporter
        self._tracer: trace.Tracer

    def open(self) -> None:
        """Get ready to send; nothing is sent yet.

        Raises:
            Refused: the address is none.
        """
        parts = urllib.parse.urlsplit(self._endpoint)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise Refused(
                "otlp_endpoint in [serve] is no address",
                found=self._endpoint[:200],
                expected="where a collector takes OTLP over HTTP, as http://127.0.0.1:4318",
            )
        self._exporter = OTLPSpanExporter(self._endpoint.removesuffix("/").removesuffix("/v1/traces") + "/v1/traces")
        named = {"service.name": "shipworthy", "service.version": self._version}
        resource = Resource.create(named).merge(OTELResourceDetector().detect())
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("shipworthy", self._version)
        # It would say the same of each message, with a traceback; once is enough, and we say it.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)

    def write(self, notes: list[Note], left_out: int) -> None:
        """Send the spans of these requests; those that nobody takes are lost, which the log says once."""
        self._lost += left_out
        for start in range(0, len(notes), MOST_TOGETHER):
            together = notes[start : start + MOST_TOGETHER]
            for note in together:
                self._make(note)
            spans, self._ended.spans = self._ended.spans, []
            if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
                if not self._lost:
                    log.warning("spans are lost: %s does not take them", self._endpoint)
                self._lost += len(together)
            elif self._lost:
                log.warning("spans are sent again; those of %d requests are lost", self._lost)
                self._lost = 0

    def _make(self, note: Note) -> None:
        """The span of a request, and those within it."""
        to_wall_ns = note.ended_at_ns - note.ended_ns
        name, attributes = _of_grpc(note) if note.protocol.endswith("grpc") else _of_http(note, self._scheme)
        self._ids.next = int(note.trace_id, 16), int(note.span_id, 16)
        span = self._tracer.start_span(
            name, _parent(note), SpanKind.SERVER, attributes | _of_model(note), start_time=note.began_ns + to_wall_ns
        )
        within = trace.set_span_in_context(span)
        began_ns, ended_ns = note.arrived_ns, note.started_ns or note.ended_ns
        if began_ns:
            self._tracer.start_span("queue", within, start_time=began_ns + to_wall_ns).end(ended_ns + to_wall_ns)
        if note.started_ns:
            compute = self._tracer.start_span("compute", within, start_time=note.started_ns + to_wall_ns)
            compute.end(note.started_ns + note.took_ns + to_wall_ns)
        if "error.type" in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(note.ended_at_ns)


class _Ids(IdGenerator):
    """Gives the ids that the request's answer and its line have to its span, and made-up ones to the spans within."""

    def __init__(self) -> None:
        self.next = 0, 0
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        own, self.next = self.next[1], (self.next[0], 0)
        return own or self._random.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return True


class _Ended(SpanProcessor):
    """Keeps the spans that have ended until they are sent."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _parent(note: Note) -> Context:
    if not note.parent_id:
        return Context()
    state = TraceState.from_header([note.state]) if note.state else None
    parent = SpanContext(int(note.trace_id, 16), int(note.parent_id, 16), True, TraceFlags(TraceFlags.SAMPLED), state)
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _of_http(note: Note, scheme: str) -> tuple[str, Attributes]:
    """Name and attributes by the semantic conventions of HTTP; the route only where it is one of ours."""
    attributes: Attributes = {
        "http.request.method": note.method,
        "url.scheme": scheme,
        "url.path": note.path[:LONGEST_TEXT],
        "http.response.status_code": note.status,
        "http.request.body.size": note.bytes_in,
        "http.response.body.size": note.bytes_out,
    }
    if note.status >= _WORST_HTTP:
        attributes["error.type"] = str(note.status)
    found = _PLACE.fullmatch(note.path) if note.model else None
    if found is None:
        return note.method, attributes
    prefix, kind, rest = found.groups()
    attributes["http.route"] = f"{prefix}{{model}}{f'/{kind}/{{version}}' if kind else ''}{rest}"
    return f"{note.method} {attributes['http.route']}", attributes


def _of_grpc(note: Note) -> tuple[str, Attributes]:
    """Name and attributes by the semantic conventions of RPC."""
    status = Status(note.status)
    known = status is not Status.UNIMPLEMENTED  # names must not grow with what callers make up
    method = note.path.removeprefix("/") if known else "_OTHER"
    attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": status.name}
    if not known:
        attributes["rpc.method_original"] = note.path[:LONGEST_TEXT]
    if status in _WRONG:
        attributes["error.type"] = status.name
    return method if known else "grpc", attributes


def _of_model(note: Note) -> Attributes:
    """What is ours to say, where it is known."""
    said: Attributes = {
        "shipworthy.model.name": note.model,
        "shipworthy.model.version": note.version,
        "shipworthy.bundle": note.bundle,
        "shipworthy.rows": note.rows,
    }
    return {name: value for name, value in said.items() if value}
