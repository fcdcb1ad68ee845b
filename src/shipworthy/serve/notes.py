"""Which requests are written down: notes begun and ended by the lanes (``noted``), handed on to the threads that write."""

from __future__ import annotations

import random
import time

from shipworthy.errors import Refused
from shipworthy.serve import tracing
from shipworthy.serve.access import Lines
from shipworthy.serve.keys import Keys
from shipworthy.serve.note import SUCCESS, Note
from shipworthy.serve.spool import Spool, Take
from shipworthy.serve.tracing import Context
from shipworthy.settings import ServeSettings

# What may wait for its thread: about a second of every request.
MOST_WAITING = 32_768
# Lines about what was not answered, a second and process: who is refused in a loop must not fill the disk.
MOST_FAILURES = 100
CLOSE_SECONDS = 3.0
_SECOND_NS = 1_000_000_000


class Notes:
    """Begins and ends the notes of one process, and decides which are kept; in the loop's thread."""

    def __init__(self, lines: Lines | None, spans: Take[Note] | None, log_sample: float, trace_sample: float) -> None:
        """Store where notes go: to ``lines``, and to what sends ``spans``; and the shares of requests that do."""
        self._lines = lines
        self._log_sample = log_sample
        self._trace_sample = trace_sample if spans else 0.0
        self._logged = Spool("access-log", lines.write, MOST_WAITING) if lines else None
        self._traced = Spool("spans", spans, MOST_WAITING) if spans else None
        self._second = 0
        self._failures = 0

    def start(self) -> None:
        """Begin to write; in the process that does."""
        for spool in (self._logged, self._traced):
            if spool:
                spool.start()

    def know(self, keys: Keys) -> None:
        """Name callers as these keys do, from now on."""
        if self._lines:
            self._lines.keys = keys

    def close(self) -> None:
        """Write what waits, for a bounded time."""
        until = time.monotonic() + CLOSE_SECONDS
        for spool in (self._logged, self._traced):
            if spool:
                spool.close(max(0.0, until - time.monotonic()))

    def begin(self, note: Note, context: Context | None) -> None:
        """Give the request its place in a trace: the caller's, or, of some, one of its own."""
        if context is not None:
            note.trace_id, note.parent_id, note.state = context.trace_id, context.parent_id, context.state
            note.traced = context.sampled and self._traced is not None
        elif self._trace_sample and random.random() < self._trace_sample:  # noqa: S311  a sample, no secret
            note.trace_id = tracing.new_trace_id()
            note.traced = True
        else:
            return
        note.span_id = tracing.new_span_id()

    def end(self, note: Note, status: int, outcome: str, bytes_in: int, bytes_out: int) -> None:
        """The request has ended, the first time that this is said."""
        if note.ended_ns:
            return
        note.ended_ns = time.monotonic_ns()
        lines = self._logged
        logged = lines is not None and (
            self._may_fail(note.ended_ns) if outcome != SUCCESS else random.random() < self._log_sample  # noqa: S311  a sample, no secret
        )
        if logged or note.traced:
            note.ended_at_ns = time.time_ns()
            note.status, note.outcome, note.bytes_in, note.bytes_out = status, outcome, bytes_in, bytes_out
            note.settle()
            if logged and lines is not None:
                lines.put(note)
            if note.traced and self._traced is not None:
                self._traced.put(note)
        note.live = note.job = None

    def _may_fail(self, now_ns: int) -> bool:
        """Whether there is room for one more line about a failure in this second; else it is counted."""
        second = now_ns // _SECOND_NS
        if second != self._second:
            self._second, self._failures = second, 0
        self._failures += 1
        if self._failures > MOST_FAILURES and self._logged:
            self._logged.leave_out()
        return self._failures <= MOST_FAILURES


def open_notes(settings: ServeSettings, version: str) -> Notes | None:
    """What the settings ask for; ``None``: nothing is kept of single requests.

    Raises:
        Refused: the file cannot be written, the address is none, or the extra ``otel`` is not installed.
    """
    if not settings.access_log and not settings.otlp_endpoint:
        return None
    lines = Lines(settings.access_log) if settings.access_log else None
    if lines:
        lines.open()
    spans = _spans(settings, version) if settings.otlp_endpoint else None
    return Notes(lines, spans, settings.access_log_sample, settings.trace_sample)


def _spans(settings: ServeSettings, version: str) -> Take[Note]:
    try:
        from shipworthy.serve.spans import Spans  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise Refused(
            "spans cannot be sent without OpenTelemetry",
            found=str(error),
            next="pip install 'shipworthy[otel]', or leave otlp_endpoint in [serve] empty",
        ) from None
    spans = Spans(settings.otlp_endpoint, version, "https" if settings.tls_cert else "http")
    spans.open()
    return spans.write
