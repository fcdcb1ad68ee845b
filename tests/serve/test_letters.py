"""Letters arrive whole, of any size, and leave no descriptor behind."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipworthy.errors import Refused
from shipworthy.serve import letters
from shipworthy.serve.letters import ASK, CLOSED, Change, Letter, Prepare


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, other):
        end.setblocking(False)
    with one, other:
        yield one, other


def received(end: socket.socket) -> Letter:
    return letters.read(*letters.receive(end))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_letters_arrive_in_order_and_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    before = open_descriptors()
    letters.post(ours, CLOSED, 12)
    letters.post(ours, ASK, 7, Prepare(Change(gone=("m",))))
    letters.post(ours, ASK, 8, b"x" * 30_000_000)
    assert received(theirs) == Letter(CLOSED, 12)
    assert received(theirs) == Letter(ASK, 7, Prepare(Change(gone=("m",))))
    assert len(received(theirs).body) == 30_000_000
    with pytest.raises(BlockingIOError):
        letters.receive(theirs)
    assert open_descriptors() == before


def test_an_error_keeps_what_it_says(ends: tuple[socket.socket, socket.socket]) -> None:
    letters.post(ends[0], ASK, 1, Refused("what", found="this", expected="that", next="mend"))
    body = received(ends[1]).body
    assert isinstance(body, Refused)
    assert body.as_dict() == {"error": "what", "found": "this", "expected": "that", "next": "mend"}


def test_who_has_gone_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.close()
    assert letters.receive(theirs) == (b"", [])
    before = open_descriptors()
    with pytest.raises(OSError, match="Broken pipe"):
        letters.post(theirs, ASK, 1, "x")
    assert open_descriptors() == before


def test_what_was_sent_before_the_end_arrives_even_when_ours_was_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    letters.post(theirs, CLOSED, 1)
    letters.post(ours, ASK, 7, "x")
    ours.close()
    assert received(theirs) == Letter(ASK, 7, "x")
    assert letters.receive(theirs) == (b"", [])


def test_an_end_that_takes_nothing_is_told_and_nothing_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    before = open_descriptors()

    def flood() -> None:
        for number in itertools.count():
            letters.post(ends[0], ASK, number, "x")

    with pytest.raises(OSError, match=r"temporarily unavailable|Too many references"):
        flood()
    assert open_descriptors() == before
