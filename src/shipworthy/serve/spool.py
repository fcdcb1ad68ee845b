"""From the loop to a thread: a bounded queue. Whoever puts something in never waits; what does not fit is counted."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

TURN_SECONDS = 0.25

Item = TypeVar("Item")
Take = Callable[[list[Item], int], None]

log = logging.getLogger(__name__)


class Spool(Generic[Item]):
    """Hands what was put in to ``take``, in a thread of its own, with how many were left out before."""

    def __init__(self, name: str, take: Take[Item], most: int) -> None:
        """Store them; ``most`` may wait."""
        self._take = take
        self._most = most
        self._waiting: deque[Item] = deque()
        self._left_out = 0
        self._told = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to hand on."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take one more, unless too many wait."""
        if len(self._waiting) < self._most:
            self._waiting.append(item)
        else:
            self._left_out += 1

    def leave_out(self) -> None:
        """Count one that is not even put in."""
        self._left_out += 1

    def close(self, seconds: float) -> None:
        """Hand on what waits, for so long at most; the thread, should it hang, ends with the process."""
        self._closing.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(TURN_SECONDS)
            try:
                self._drain()
            except Exception:  # whatever it was, requests go on, and so does this thread
                log.exception("%s: what was to be written is lost", self._thread.name)

    def _drain(self) -> None:
        items = [self._waiting.popleft() for _ in range(len(self._waiting))]
        left_out = self._left_out
        missing, self._told = left_out - self._told, left_out
        if items or missing:
            self._take(items, missing)
