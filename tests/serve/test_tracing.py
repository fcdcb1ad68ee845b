"""W3C Trace Context: what is followed, what is not, and heads without it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipworthy.serve import tracing
from shipworthy.serve.tracing import Context

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


@given(hexadecimal(2), hexadecimal(32), hexadecimal(16), hexadecimal(2), st.sampled_from(["", "-", "-more", "more"]))
@example("00", "0" * 32, PARENT, "01", "")
@example("00", TRACE, "0" * 16, "01", "")
@example("00", TRACE, PARENT, "03", "-")
@example("ff", TRACE, PARENT, "01", "")
@example("01", TRACE, PARENT, "02", "-more")
def test_what_has_the_form_is_read_as_the_standard_has_it(version: str, trace: str, parent: str, flags: str, more: str) -> None:
    found = tracing.parse(f"{version}-{trace}-{parent}-{flags}{more}")
    right = version != "ff" and int(trace, 16) and int(parent, 16) and (more == "" or (version != "00" and more[0] == "-"))
    assert found == (Context(trace, parent, int(flags, 16) % 2 == 1) if right else None)


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-fA-F-]{50,60}", fullmatch=True)))
def test_whatever_else_comes_is_none_and_raises_nothing(text: str) -> None:
    found = tracing.parse(text)
    assert found is None or re.match(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        " " + GOOD,
        f"{GOOD},{GOOD}",
        GOOD.replace("-", "_"),
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0g",
        "",
    ],
    ids=["upper case", "short", "long", "a line", "a space", "two", "dashes", "short version", "no digit", "nothing"],
)
def test_a_malformed_parent_is_ignored(text: str) -> None:
    assert tracing.parse(text) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [("a=1,b=2", "a=1,b=2"), ("x" * 512, "x" * 512), ("x" * 513, ""), ("ä", ""), ("a\nb", "")],
    ids=["usual", "longest", "too long", "not ascii", "a line"],
)
def test_a_state_is_kept_as_it_is_or_left_out(state: str, kept: str) -> None:
    found = tracing.parse(GOOD, state)
    assert found is not None
    assert found.state == kept


def test_fields_that_come_several_times_are_joined() -> None:
    state = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    parent = (b"traceparent", GOOD.encode())
    assert tracing.find([(b"host", b"x"), parent, *state]) == Context(TRACE, PARENT, sampled=True, state="a=1,b=2")
    assert tracing.find([parent, parent]) is None
    assert tracing.find(state) is None


def test_our_own_ids_are_of_the_form_and_differ() -> None:
    made = {(tracing.new_trace_id(), tracing.new_span_id()) for _ in range(100)}
    assert len(made) == 100
    for trace, span in made:
        assert tracing.parse(tracing.response(trace, span, sampled=True)) == Context(trace, span, sampled=True)
    assert tracing.response(TRACE, PARENT, sampled=False).endswith("-00")


# ---------------------------------------------------------------- heads


LINES = st.sampled_from(
    [
        b"Host: x",
        b"content-length: 3",
        b"x-race: 1",
        b"traceparent: " + GOOD.encode(),
        b"Traceparent: 1",
        b"tracestate: a=1, b=2",
        b"TRACEPARENT: 2",
        b"traceparent:3",
        b"traceparents: 4",
        b"traceparent: ",
        b" folded",
        b"\tfolded",
    ]
)


@given(st.lists(LINES, max_size=8))
def test_lifting_takes_whole_lines_of_the_context_and_nothing_else(lines: list[bytes]) -> None:
    head = b"\r\n".join([b"POST / HTTP/1.1", *lines]) + b"\r\n\r\n"
    left, fields = tracing.lift(head)
    kept = left.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    taken = [name + b": " + value for name, value in fields]
    assert sorted(line.lower() for line in kept + taken) == sorted(line.lower() for line in lines)
    for name, _ in fields:
        assert name in tracing.FIELDS
    for before, after in itertools.pairwise(lines):
        if after[:1] in {b" ", b"\t"}:  # it belongs to the line before: neither goes without the other
            assert before in kept
    if not any(line.lower().startswith((b"traceparent:", b"tracestate:")) for line in lines):
        assert left == head
    assert tracing.is_lifted(left) == (not any(line.lower().startswith((b"traceparent", b"tracestate")) for line in kept))


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"", b"x", b" \r\n"], ids=repr)
def test_the_first_line_is_never_lifted(before: bytes) -> None:
    head = before + b"traceparent: 1\r\nHost: x\r\n\r\n"
    assert tracing.lift(head) == (head, [])
