"""What the supervisor and its workers say to each other, beside the connections that are handed over.

A letter is a kind, a number and a body. The body travels as a file in memory beside the letter, so that it may be of any
size and the socket never fills with it. Both ends are ours, one forked from the other.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shipworthy.serve.source import Offer
from shipworthy.serve.statistics import Counts
from shipworthy.serve.usage import Usage

# A letter itself is a byte and a number; a connection is a byte alone. Either brings at most one descriptor.
LETTER_BYTES = 64
MOST_FDS = 1

# From a worker: it answers requests; why it does not; so many connections have closed; what it has counted so far; it was
# told to end, and asks for one in its place; somebody asks for a model that rests.
READY, FAILED, CLOSED, COUNTED, LEAVING, WANTED = b"r", b"f", b"c", b"n", b"l", b"w"
# To a worker: say that you are not ready, and serve on; finish what you have, and end: nothing comes after this.
UNREADY, GO = b"u", b"g"
# Both ways: a question, and the answer under the same number.
ASK, REPLY = b"a", b"y"


@dataclass(frozen=True)
class Change:
    """Models that are to be served as offered, in place of what is served under their names; and names to be served no more.

    ``resting`` are models that are known and not loaded before somebody asks for them.
    """

    offers: tuple[Offer, ...] = ()
    gone: tuple[str, ...] = ()
    resting: tuple[Offer, ...] = ()


@dataclass(frozen=True)
class Prepare:
    """Load what the change brings, beside what is served. Answer: the change, with the costs that were measured."""

    change: Change


@dataclass(frozen=True)
class Commit:
    """Serve what was prepared. Answer: nothing."""

    change: Change


@dataclass(frozen=True)
class Abort:
    """Forget what was prepared, and remember why for each model named. Answer: nothing."""

    reasons: dict[str, str]


@dataclass(frozen=True)
class Find:
    """Look at what there is to serve. Answer: the change that leads there."""


@dataclass(frozen=True)
class Count:
    """Say what was counted. Answer: ``Statistics`` by name and version; a ``Tally`` over all workers, when a worker asks."""


@dataclass(frozen=True)
class Tally:
    """What all workers have done, and the processes that do it.

    ``workers`` answer requests now; ``restarts`` counts those that ended unasked and were replaced; ``usage`` is by kind of
    process: ``supervisor``, ``workers``. Where memory is bounded, ``loaded`` models were loaded because somebody asked for
    them, ``evicted`` were put to rest for others.
    """

    counts: Counts
    workers: int = 0
    restarts: int = 0
    usage: Mapping[str, Usage] = field(default_factory=dict)
    loaded: int = 0
    evicted: int = 0


@dataclass(frozen=True)
class Letter:
    """A letter as it arrived."""

    kind: bytes
    number: int = 0
    body: Any = None


def post(control: socket.socket, kind: bytes, number: int = 0, body: Any = None) -> None:
    """Send a letter.

    Raises:
        OSError: the other end has gone, or takes nothing now.
    """
    head = b"%b%d" % (kind, number)
    if body is None:
        control.send(head)
        return
    memory = os.memfd_create("letter")
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            pickle.dump(body, file)
        socket.send_fds(control, [head], [memory])
    finally:
        os.close(memory)


def read(head: bytes, descriptors: list[int]) -> Letter:
    """The letter that arrived with these descriptors, which are closed."""
    body = None
    for memory in descriptors:
        with os.fdopen(memory, "rb") as file:
            file.seek(0)
            body = pickle.load(file)  # noqa: S301  a process of ours wrote it
    return Letter(head[:1], int(head[1:]), body)


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next message: its bytes, empty when the other end has gone, and the descriptors that came with it.

    Raises:
        BlockingIOError: there is none now.
    """
    for _ in range(2):
        try:
            message, descriptors, _, _ = socket.recv_fds(control, LETTER_BYTES, MOST_FDS)
        except ConnectionResetError:
            # The other end closed before it had read all of ours. That is said first, and once; what it sent is still there.
            continue
        except BlockingIOError:
            raise
        except OSError:
            break
        return message, list(descriptors)
    return b"", []
