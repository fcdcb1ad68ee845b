"""A law of a protocol as a case: what is asked of a server, and what its answers must be. Pure.

A case says by an exception what it found: ``Broken``, ``NotOffered`` (the server does not have the optional part) or
``NotTried`` (this model, or this run, has nothing to try it on). Without one the law is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shipworthy.testing.conformance.subject import NotTried, Subject

Level = Literal["specification", "client", "extension"]
State = Literal["held", "broken", "not offered", "not tried"]

LONGEST = 300  # characters of what is said of one answer


class Broken(Exception):
    """An answer is not what the law says."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


class NotOffered(Exception):
    """The server does not have this optional part of the protocol; the text says how it said so."""


@dataclass(frozen=True)
class Ask:
    """One HTTP request; ``chunked``: its body goes in chunks and without its length."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False

    def __str__(self) -> str:
        headers = "".join(f" {name}: {value};" for name, value in self.headers.items())
        return f"{self.method} {self.path}{headers} {shown(self.body)}".rstrip()


@dataclass(frozen=True)
class Call:
    """One gRPC call. ``answers``: it is a stream, of which so many messages are waited for; 0: it is none."""

    path: str
    messages: tuple[bytes, ...] = (b"",)
    answers: int = 0

    def __str__(self) -> str:
        return f"{self.path} {' '.join(map(shown, self.messages))}".rstrip()


@dataclass(frozen=True)
class Answer:
    """What came back.

    ``status`` is that of HTTP or of gRPC; ``headers`` have lower-case names. ``body`` is that of HTTP, or the text of a
    gRPC status; ``messages`` are those of gRPC. ``failure`` says why there is no answer at all; empty: there is one.
    ``reopened``: the server had closed the connection without a word, so that the request was sent again on another.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    messages: tuple[bytes, ...] = ()
    failure: str = ""
    reopened: bool = False

    def __str__(self) -> str:
        return self.failure or f"status {self.status} {shown(self.body or b''.join(self.messages))}".rstrip()


Step = Ask | Call | tuple[Ask | Call, ...]
"""One request, or several that are sent at once, each on a connection of its own."""


@dataclass(frozen=True)
class Case:
    """One law. ``steps`` are asked in order on one connection; ``holds`` is handed the answers in the same order."""

    id: str
    law: str
    source: str
    level: Level
    steps: Callable[[Subject], Sequence[Step]]
    holds: Callable[[Subject, Sequence[Answer]], None]


@dataclass(frozen=True)
class Group:
    """The laws of one part of a protocol. Where the first is not offered, none is; ``grpc`` says over what they are asked."""

    key: str
    title: str
    cases: tuple[Case, ...]
    grpc: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a law: with what was expected and what was found when it is broken, why when it was not judged."""

    state: State
    expected: str = ""
    found: str = ""


def judge(case: Case, subject: Subject, answers: Sequence[Answer]) -> Verdict:
    """Whether the answers keep the law; whatever a server sends, this gives a verdict."""
    failure = next((answer.failure for answer in answers if answer.failure), "")
    if failure:
        return Verdict("broken", "an answer", failure)
    try:
        case.holds(subject, answers)
    except Broken as broken:
        return Verdict("broken", broken.expected[:LONGEST], broken.found[:LONGEST] or "nothing")
    except NotOffered as reason:
        return Verdict("not offered", found=str(reason)[:LONGEST])
    except NotTried as reason:
        return Verdict("not tried", found=str(reason)[:LONGEST])
    return Verdict("held")


def shown(data: bytes, longest: int = 160) -> str:
    """Bytes as a reader may see them: one line, cut."""
    text = data[:longest].decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return text + ("…" if len(data) > longest else "")
