"""Questions to several workers at once, and what is done in several of them one after the other.

A piece of work is a generator: it yields a ``Round``, is resumed with the replies of everybody who was asked, and returns
its result. Nothing here waits: the supervisor says what has arrived, who has died and what time it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shipworthy.errors import Unavailable


class Asked(Protocol):
    """A worker that can be asked."""

    def ask(self, number: int, body: Any) -> None:
        """Send a question; the reply comes under the same number.

        Raises:
            OSError: it has died, or takes nothing now.
        """
        ...


class Lost(Unavailable):
    """A worker that died before it replied, or took too long."""


@dataclass(frozen=True)
class Round:
    """One question to some workers, to be answered in so many seconds."""

    to: tuple[Any, ...]
    body: Any
    seconds: float


Replies = Mapping[Any, Any]
"""What each worker replied: a value, or the error that it met; ``Lost`` for who did not reply."""

Steps = Generator[Round, Replies, Any]


@dataclass
class _Work:
    steps: Steps
    done: Callable[[Any], None]
    deadline: float = 0.0
    waiting: dict[int, Asked] = field(default_factory=dict)
    replies: dict[Asked, Any] = field(default_factory=dict)


class Rounds:
    """All work that is under way."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._under_way: list[_Work] = []

    def begin(self, steps: Steps, done: Callable[[Any], None], now: float) -> None:
        """Take up a piece of work; ``done`` gets its result."""
        work = _Work(steps, done)
        self._under_way.append(work)
        self._go_on(work, None, now)

    def heard(self, number: int, reply: Any, now: float) -> None:
        """A worker has replied; a reply that nobody waits for any more is dropped."""
        for work in self._under_way:
            if number in work.waiting:
                self._settle(work, number, reply, now)
                return

    def lost(self, worker: Asked, now: float) -> None:
        """A worker has died."""
        for work in list(self._under_way):
            for number in [number for number, asked in work.waiting.items() if asked is worker]:
                self._settle(work, number, Lost("the worker died before it replied"), now)

    def expire(self, now: float) -> None:
        """Give up on who has not replied in time."""
        for work in list(self._under_way):
            if work.deadline <= now:
                for number in list(work.waiting):
                    self._settle(work, number, Lost("the worker did not reply in time"), now)

    def next_deadline(self) -> float | None:
        """When ``expire`` is to be called; ``None``: nothing is under way."""
        return min((work.deadline for work in self._under_way), default=None)

    def _settle(self, work: _Work, number: int, reply: Any, now: float) -> None:
        work.replies[work.waiting.pop(number)] = reply
        if not work.waiting:
            self._go_on(work, work.replies, now)

    def _go_on(self, work: _Work, replies: Replies | None, now: float) -> None:
        while True:
            try:
                turn = work.steps.send(replies)  # type: ignore[arg-type]  # a generator begins with None
            except StopIteration as end:
                self._under_way.remove(work)
                work.done(end.value)
                return
            work.replies, work.deadline = {}, now + turn.seconds
            for worker in turn.to:
                number = next(self._numbers)
                try:
                    worker.ask(number, turn.body)
                except OSError:
                    work.replies[worker] = Lost("the worker could not be asked")
                else:
                    work.waiting[number] = worker
            if work.waiting:
                return
            replies = work.replies
