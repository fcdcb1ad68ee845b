"""The process that owns the sockets: it accepts, hands each connection to the least loaded worker, and keeps workers alive.

Workers are forked, so that they share what was imported. The listening socket outlives every worker: while one is
replaced, connections wait in the kernel's queue or go to the others.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.serve import worker
from shipworthy.serve.worker import CLOSED, FAILED, MESSAGE_BYTES, READY, STOP_SECONDS, Work

ACCEPTS_A_TURN = 64
SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE_SECONDS = 5.0
LEAST_WAIT_SECONDS = 0.05
MOST_WAIT_SECONDS = 10.0
QUICK_DEATH_SECONDS = 10.0

log = logging.getLogger(__name__)


class Child:
    """A worker as the supervisor sees it."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.connections = 0
        self.ready = False
        self.born = time.monotonic()


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
                    message = self._hear(child)
                    if message[:1] == READY:
                        light = message[1:] == b"1"
                        self._work = replace(self._work, alone=self._count(light=light) == 1)
                        return light
                    raise self._why(message)
                if key.fileobj == sys.stdin.fileno() and not os.read(sys.stdin.fileno(), 4096):
                    self._stopping = True
        return True

    def _why(self, message: bytes) -> ShipworthyError:
        if message[:1] == FAILED:
            error = pickle.loads(message[1:])  # noqa: S301  our own child wrote it
            if isinstance(error, ShipworthyError):
                return error
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
        child = self._children[ours] = Child(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ)
        return child

    def _turn(self, woken: socket.socket) -> None:
        now = time.monotonic()
        due = [at for at in self._restart_at if at <= now]
        for at in due:
            self._restart_at.remove(at)
            self._start()
        self._accept_if_anybody_is_ready()
        timeout = max(0.0, min(self._restart_at) - now) if self._restart_at else None
        for key, _ in self._selector.select(timeout):
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

    def _hear(self, child: Child) -> bytes:
        """One message of a worker; without one it has died, and is replaced."""
        try:
            message = child.control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            message = b""
        if message[:1] == READY:
            child.ready = True
        elif message[:1] == CLOSED:
            child.connections -= int(message[1:])
        elif not message:
            self._bury(child)
        return message

    def _bury(self, child: Child) -> None:
        self._selector.unregister(child.control)
        child.control.close()
        del self._children[child.control]
        _, status = os.waitpid(child.pid, 0)
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
