"""The workers as the supervisor has them: forked, replaced, seen off.

A worker is replaced by one that is ready before it goes, so that somebody answers all the time; only who dies leaves a gap,
and who keeps dying is started again after ever longer waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from shipworthy.serve import letters, usage
from shipworthy.serve.letters import ASK, GO, Tally
from shipworthy.serve.statistics import Counts, total

LEAST_WAIT_SECONDS = 0.05
MOST_WAIT_SECONDS = 10.0
QUICK_DEATH_SECONDS = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

log = logging.getLogger(__name__)


class Child:
    """A worker as the supervisor sees it; ``replaces`` is whom it follows, once it is ready."""

    def __init__(self, pid: int, control: socket.socket, generation: int, replaces: Child | None) -> None:
        self.pid = pid
        self.control = control
        self.generation = generation
        self.replaces = replaces
        self.connections = 0
        self.ready = False
        self.leaving = False
        self.dead = False
        self.born = time.monotonic()
        self.counted: Counts = {}

    def has_counted(self, counts: Counts) -> None:
        """Remember what it says."""
        self.counted = counts

    def ask(self, number: int, body: Any) -> None:
        """Send a question; see ``rounds.Asked``."""
        letters.post(self.control, ASK, number, body)

    def tell(self, kind: bytes, number: int = 0, body: Any = None) -> None:
        """Send a letter; one who has died, or takes nothing, is left alone."""
        with contextlib.suppress(OSError):
            letters.post(self.control, kind, number, body)


class Crew:
    """All workers."""

    def __init__(self, selector: selectors.BaseSelector, run: Callable[[socket.socket], Any]) -> None:
        """``run`` is what a forked process does with its end of the socket; it never returns."""
        self._selector = selector
        self._run = run
        self._children: dict[socket.socket, Child] = {}
        self._wait = LEAST_WAIT_SECONDS
        self._due: list[tuple[float, Child | None]] = []
        self.generation = 0
        self.counted: Counts = {}
        """What those that are no more had counted."""
        self.restarts = 0

    def start(self, replaces: Child | None = None) -> Child:
        """Fork a worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A signal between the fork and the child's own handlers would be taken for the supervisor's, and lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:  # Ctrl-C goes to all processes at once: the supervisor says what comes of it
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for control in (ours, *self._children):
                control.close()
            self._run(theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        ours.setblocking(False)
        child = self._children[ours] = Child(pid, ours, self.generation, replaces)
        self._selector.register(ours, selectors.EVENT_READ)
        return child

    def by_control(self, control: Any) -> Child | None:
        """Whose end of a socket this is."""
        return self._children.get(control)

    def ready(self) -> tuple[Child, ...]:
        """Those that take connections."""
        return tuple(child for child in self._children.values() if child.ready)

    def is_ready(self, child: Child) -> None:
        """A worker answers requests: it takes connections, and whom it replaces goes. One that began too long ago goes."""
        if child.generation != self.generation:  # models were changed while it started
            self.start(child.replaces)
            self.see_off(child)
            return
        child.ready = True
        if child.replaces:
            self.see_off(child.replaces)

    def is_starting(self) -> bool:
        """Whether a worker has been started that does not answer yet."""
        return any(not child.ready and not child.leaving for child in self._children.values())

    def replace(self, child: Child) -> None:
        """Start another in the place of a worker, which goes when that one is ready."""
        if not child.leaving and not self._has_heir(child):
            self.start(child)

    def see_off(self, child: Child) -> None:
        """Let a worker finish what it has, and end; nothing is handed to it any more."""
        child.ready, child.leaving = False, True
        child.tell(GO)

    def bury(self, child: Child) -> None:
        """A worker has ended: unless it was to, another is started, at once or after a while."""
        self._selector.unregister(child.control)
        child.control.close()
        child.dead = True
        del self._children[child.control]
        _, status = os.waitpid(child.pid, 0)
        for counted in child.counted.values():
            counted.rest()
        self.counted = total([self.counted, child.counted])
        if child.leaving or self._has_heir(child):
            return
        self.restarts += 1
        lived = time.monotonic() - child.born
        self._wait = min(MOST_WAIT_SECONDS, 2 * self._wait) if lived < QUICK_DEATH_SECONDS else LEAST_WAIT_SECONDS
        log.warning("worker %d ended (%s); another starts in %.2f s", child.pid, _how(status), self._wait)
        self._due.append((time.monotonic() + self._wait, child.replaces))

    def start_those_due(self, now: float) -> None:
        """Start the workers whose time has come."""
        due = [one for one in self._due if one[0] <= now]
        self._due = [one for one in self._due if one[0] > now]
        for _, replaces in due:
            self.start(replaces)

    def next_due(self) -> float | None:
        """When ``start_those_due`` is to be called; ``None``: nobody waits."""
        return min((at for at, _ in self._due), default=None)

    def adopt(self, able: Iterable[Child]) -> None:
        """Other models are served from now on: ``able`` have them, the others that are ready are replaced."""
        self.generation += 1
        for child in able:
            child.generation = self.generation
        for child in list(self._children.values()):
            if child.ready and child.generation != self.generation:
                self.replace(child)

    def tally(self) -> Tally:
        """What all have told that they have done, those included that are no more; and what their processes take."""
        counts = total([self.counted, *(child.counted for child in self._children.values())])
        used = {"supervisor": usage.mine(), "workers": usage.of_children([child.pid for child in self._children.values()])}
        return Tally(counts, len(self.ready()), self.restarts, used)

    def forget(self, names: Iterable[str]) -> None:
        """Drop what was counted of models that are served no more."""
        gone = set(names)
        self.counted = {key: counted for key, counted in self.counted.items() if key[0] not in gone}

    def everybody(self) -> list[Child]:
        """All that have not been buried."""
        return list(self._children.values())

    def _has_heir(self, child: Child) -> bool:
        heirs = [one.replaces for one in self._children.values()] + [replaces for _, replaces in self._due]
        return child in heirs


def _how(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
