"""The process that owns the sockets: it accepts, hands each connection to the least loaded worker, and keeps workers alive.

Workers are forked, so that they share what was imported. The listening socket outlives every worker: while one is
replaced, connections wait in the kernel's queue or go to the others. What concerns all workers (models loaded and
unloaded, what was counted) goes through here as well: a worker asks, all reply.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shipworthy.errors import Failed, ShipworthyError, Unavailable
from shipworthy.serve import changes, letters, worker
from shipworthy.serve.letters import ASK, CLOSED, COUNTED, READY, REPLY, Change, Letter
from shipworthy.serve.rounds import Rounds
from shipworthy.serve.statistics import Counts, total
from shipworthy.serve.worker import STOP_SECONDS, Work

ACCEPTS_A_TURN = 64
SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE_SECONDS = 5.0
LEAST_WAIT_SECONDS = 0.05
MOST_WAIT_SECONDS = 10.0
QUICK_DEATH_SECONDS = 10.0
MOST_CHANGES = 16

log = logging.getLogger(__name__)


class Child:
    """A worker as the supervisor sees it."""

    def __init__(self, pid: int, control: socket.socket, generation: int) -> None:
        self.pid = pid
        self.control = control
        self.generation = generation
        self.connections = 0
        self.ready = False
        self.born = time.monotonic()
        self.counted: Counts = {}

    def ask(self, number: int, body: Any) -> None:
        """Send a question; see ``rounds.Asked``."""
        letters.post(self.control, ASK, number, body)


class Supervisor:
    """Runs workers over the listening sockets, each with the tag of its lane, until SIGTERM or SIGINT."""

    def __init__(self, work: Work, listeners: Mapping[bytes, socket.socket], announce: Callable[[], None]) -> None:
        self._work = work
        self._listeners = listeners
        self._tags = {listener: tag for tag, listener in listeners.items()}
        self._announce = announce
        self._children: dict[socket.socket, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._accepting = False
        self._stopping = False
        self._wait = LEAST_WAIT_SECONDS
        self._restart_at: list[float] = []
        self._rounds = Rounds()
        # The change under way is the first; each with the worker that asked, and the number of its question.
        self._changes: deque[tuple[Child, int, Change]] = deque()
        self._generation = 0
        self._counted: Counts = {}

    def run(self, *, stop_on_eof: bool = False) -> None:
        """Serve; returns after a signal, when all that was asked is answered.

        Raises:
            Refused: a model cannot be loaded.
            Failed: the first worker died before it answered.
        """
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        old = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        old_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ)
        if stop_on_eof:
            with contextlib.suppress(PermissionError):  # a file or /dev/null: it tells nothing of a parent
                self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        try:
            light = self._start_first()
            if not self._stopping:
                for _ in range(self._count(light=light) - 1):
                    self._start()
                self._announce()
            while not self._stopping:
                self._turn(woken)
        finally:
            self._end()
            signal.set_wakeup_fd(old_waker)
            for number, handler in old.items():
                signal.signal(number, handler)
            self._selector.close()
            woken.close()
            waker.close()

    def _count(self, *, light: bool) -> int:
        return self._work.settings.workers or (self._work.cores if light else 1)

    def _on_signal(self, *_: object) -> None:
        self._stopping = True

    def _start_first(self) -> bool:
        """Start a worker and wait for it: it says whether the models are light, or why they cannot be loaded."""
        gc.collect()
        gc.freeze()  # what is imported is for ever: a collection in a worker need not copy those pages
        workers = self._work.settings.workers
        self._work = replace(self._work, alone=workers == 1 if workers else None)
        child = self._start()
        while not self._stopping:
            for key, _ in self._selector.select(1.0):
                if key.fileobj is child.control:
                    letter = self._hear(child)
                    if letter and letter.kind == READY:
                        light = letter.number == 1
                        self._work = replace(self._work, offers=letter.body, alone=self._count(light=light) == 1)
                        return light
                    raise self._why(letter)
                if key.fileobj == sys.stdin.fileno() and not os.read(sys.stdin.fileno(), 4096):
                    self._stopping = True
        return True

    def _why(self, letter: Letter | None) -> ShipworthyError:
        if letter and isinstance(letter.body, ShipworthyError):
            return letter.body
        return Failed("the server's worker died before it answered", next="run it again with --debug; the log says more")

    def _start(self) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A signal between the fork and the child's own handlers would be taken for the supervisor's, and lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for listener in self._tags:
                listener.close()
            ours.close()
            for other in self._children:
                other.close()
            worker.run(self._work, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        ours.setblocking(False)
        child = self._children[ours] = Child(pid, ours, self._generation)
        self._selector.register(ours, selectors.EVENT_READ)
        return child

    def _turn(self, woken: socket.socket) -> None:
        now = time.monotonic()
        due = [at for at in self._restart_at if at <= now]
        for at in due:
            self._restart_at.remove(at)
            self._start()
        self._rounds.expire(now)
        self._accept_if_anybody_is_ready()
        due = [*self._restart_at, *filter(None, [self._rounds.next_deadline()])]
        for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
            if key.fileobj in self._tags:
                self._accept(key.fileobj)
            elif key.fileobj is woken:
                woken.recv(4096)
            elif isinstance(key.fileobj, int):
                self._stopping = not os.read(key.fileobj, 4096)
            elif key.fileobj in self._children:
                self._hear(self._children[key.fileobj])

    def _accept_if_anybody_is_ready(self) -> None:
        """While no worker is, connections wait in the kernel's queue."""
        ready = any(child.ready for child in self._children.values())
        if ready != self._accepting:
            self._accepting = ready
            for listener in self._tags:
                if ready:
                    self._selector.register(listener, selectors.EVENT_READ)
                else:
                    self._selector.unregister(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept what waits; each connection goes to the worker with the fewest."""
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody waits any more, or there are too many open files: the kernel keeps the others
                return
            with connection:
                for child in sorted(self._children.values(), key=lambda one: one.connections):
                    if not child.ready:
                        continue
                    try:
                        socket.send_fds(child.control, [self._tags[listener]], [connection.fileno()])
                    except OSError:
                        continue
                    child.connections += 1
                    break

    def _hear(self, child: Child) -> Letter | None:
        """One letter of a worker; at its end the worker has died, and is replaced."""
        try:
            message, descriptors = letters.receive(child.control)
        except BlockingIOError:
            return None
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._bury(child)
            return None
        letter = letters.read(message, descriptors)
        if letter.kind == CLOSED:
            child.connections -= letter.number
        elif letter.kind == READY:
            child.ready = child.generation == self._generation
            if not child.ready:  # models were changed while it started
                self._replace(child)
        elif letter.kind == COUNTED:
            child.counted = letter.body
        elif letter.kind == REPLY:
            self._rounds.heard(letter.number, letter.body, time.monotonic())
        elif letter.kind == ASK:
            self._asked(child, letter)
        return letter

    def _asked(self, child: Child, letter: Letter) -> None:
        """A worker asks for what concerns all."""
        if not isinstance(letter.body, Change):
            steps = changes.count(self._ready(), lambda one: one.counted, self._counted)
            self._rounds.begin(steps, lambda counts: self._reply(child, letter.number, counts), time.monotonic())
        elif len(self._changes) > MOST_CHANGES:
            busy = f"{MOST_CHANGES} requests to load or unload models wait"
            self._reply(child, letter.number, Unavailable("the server is busy", found=busy, next="try again"))
        else:
            self._changes.append((child, letter.number, letter.body))
            if len(self._changes) == 1:
                self._change()

    def _change(self) -> None:
        """Begin the change that is first in the queue."""
        child, number, wanted = self._changes[0]

        def done(error: ShipworthyError | None) -> None:
            self._reply(child, number, error)
            self._changes.popleft()
            if self._changes:
                self._change()

        self._rounds.begin(changes.change(child, wanted, self._ready, self._adopt), done, time.monotonic())

    def _adopt(self, change: Change, able: tuple[Child, ...]) -> None:
        """From now on this is what is served; workers that have not loaded it are replaced."""
        new = {offer.name: offer for offer in change.offers}
        kept = [offer for offer in self._work.offers if offer.name not in new and offer.name not in change.gone]
        self._work = replace(self._work, offers=(*kept, *new.values()))
        self._counted = {key: value for key, value in self._counted.items() if key[0] not in change.gone}
        self._generation += 1
        for child in list(self._children.values()):
            if child in able:
                child.generation = self._generation
            elif child.ready:
                self._replace(child)

    def _ready(self) -> tuple[Child, ...]:
        return tuple(child for child in self._children.values() if child.ready)

    def _reply(self, child: Child, number: int, body: Any) -> None:
        with contextlib.suppress(OSError):  # who asked has died
            letters.post(child.control, REPLY, number, body)

    def _replace(self, child: Child) -> None:
        """Let a worker finish what it has, and end; another starts when it has."""
        child.ready = False
        os.kill(child.pid, signal.SIGTERM)

    def _bury(self, child: Child) -> None:
        self._selector.unregister(child.control)
        child.control.close()
        del self._children[child.control]
        _, status = os.waitpid(child.pid, 0)
        self._rounds.lost(child, time.monotonic())
        self._counted = total([self._counted, child.counted])
        if self._stopping:
            return
        lived = time.monotonic() - child.born
        self._wait = min(MOST_WAIT_SECONDS, 2 * self._wait) if lived < QUICK_DEATH_SECONDS else LEAST_WAIT_SECONDS
        log.warning("worker %d ended (%s); another starts in %.2f s", child.pid, _how(status), self._wait)
        self._restart_at.append(time.monotonic() + self._wait)

    def _end(self) -> None:
        """Stop accepting, let the workers finish, and see them off."""
        for listener in self._tags:
            listener.close()
        for child in self._children.values():
            os.kill(child.pid, signal.SIGTERM)
            child.control.close()
        deadline = time.monotonic() + STOP_SECONDS + PATIENCE_SECONDS
        for child in self._children.values():
            while os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.005)


def _how(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
