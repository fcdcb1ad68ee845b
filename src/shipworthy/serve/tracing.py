"""W3C Trace Context (level 1): whose trace a request belongs to, and what its answer says of that. Pure rules."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

FIELDS = frozenset({b"traceparent", b"tracestate"})
"""The headers of a caller's trace context."""
LONGEST_STATE = 512

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rf"[ -~]{{0,{LONGEST_STATE}}}")
# The rest of a head's line with one of the fields; one that goes on in the next line is none.
_VALUE = re.compile(rb"race(?:parent|state): ([!-~][ -~]{0,511})(?=\r\n[^ \t])")
_SPACE = 0x20
_BEFORE = {b"\r\nt", b"\r\nT"}
_LEFT = re.compile(rb"\r\ntrace(?:parent|state)", re.IGNORECASE)


class Context(NamedTuple):
    """Where a caller stands in its trace: ids in hexadecimal digits, whether it records, and the state of its vendors."""

    trace_id: str
    parent_id: str
    sampled: bool
    state: str = ""


def parse(parent: str, state: str = "") -> Context | None:
    """What the headers ``traceparent`` and ``tracestate`` say; ``None``: nothing that can be followed.

    A state that is too long or not ASCII is left out; it says nothing about the parent. Headers that came twice are given
    joined with commas, so two parents are none.
    """
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return Context(trace_id, parent_id, bool(int(flags, 16) & 1), state if _STATE.fullmatch(state) else "")


def find(fields: list[tuple[bytes, bytes]]) -> Context | None:
    """The context among header fields, whose names are in lower case."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in FIELDS:
            found[name] = found[name] + b"," + value if name in found else value
    parent = found.get(b"traceparent")
    if parent is None:
        return None
    return parse(parent.strip().decode("latin-1"), found.get(b"tracestate", b"").strip().decode("latin-1"))


def lift(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The head of a request over HTTP/1.1 without its trace context, and those fields; it says the same but for them.

    Callers that trace send other ids with each request: what stands in all of them can be remembered.
    """
    fields = []
    for word, name in ((b"raceparent: ", b"traceparent"), (b"racestate: ", b"tracestate")):
        at = head.find(word)
        # The line before ends with a word of its own: the first line of all is not lifted.
        if head[at - 3 : at] in _BEFORE and head[at - 4] > _SPACE and (found := _VALUE.match(head, at)):
            fields.append((name, found[1]))
            head = head[: at - 3] + head[found.end() :]
    return head, fields


def is_lifted(head: bytes) -> bool:
    """Whether no trace context is left in a head."""
    return _LEFT.search(head) is None


def new_trace_id() -> str:
    """A trace of our own."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """A span of our own."""
    return f"{random.getrandbits(64) or 1:016x}"


def response(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """What the header ``traceresponse`` says (W3C Trace Context, level 2, draft): our span in the trace."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
