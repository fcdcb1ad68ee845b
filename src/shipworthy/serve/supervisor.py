"""The process that owns the sockets: it accepts, hands each connection to the least loaded worker, and keeps workers alive.

Workers are forked, so that they share what was imported. The listening sockets outlive every worker: while one is
replaced, connections wait in the kernel's queue or go to the others. What concerns all workers (models loaded and
unloaded, what was counted) goes through here as well: a worker asks, all reply.

SIGTERM and SIGINT: answer what was asked, and end. SIGHUP: look again at what there is to serve. SIGUSR2: start this
command anew, hand the sockets over, and end when that answers.
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
from shipworthy.serve import changes, letters, security, worker
from shipworthy.serve.crew import SIGNALS, Child, Crew
from shipworthy.serve.demand import Demand
from shipworthy.serve.handover import Successor
from shipworthy.serve.letters import (
    ASK,
    CLOSED,
    COUNTED,
    FAILED,
    LEAVING,
    READY,
    REPLY,
    UNREADY,
    WANTED,
    Change,
    Commit,
    Letter,
)
from shipworthy.serve.rounds import Rounds, Steps
from shipworthy.serve.stock import Stock
from shipworthy.serve.worker import STOP_SECONDS, Work

ACCEPTS_A_TURN = 64
PATIENCE_SECONDS = 5.0
MOST_CHANGES = 16
ENDING = {signal.SIGTERM, signal.SIGINT}

log = logging.getLogger(__name__)


class Supervisor:
    """Runs workers over the listening sockets, each with the tag of its lane, until it is told to end."""

    def __init__(self, work: Work, listeners: Mapping[bytes, socket.socket], announce: Callable[[], None]) -> None:
        self._work = work
        self._listeners = listeners
        self._tags = {listener: tag for tag, listener in listeners.items()}
        self._announce = announce
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(self._selector, self._begin_child)
        self._accepting = False
        self._full = False
        self._stop_at: float | None = None
        # Whether a signal has told it to end: a second one means at once, a first one after the end of standard input does not.
        self._signalled = False
        self._successor: Successor | None = None
        # Accepted when no worker could take it; nothing more is accepted before it is handed over.
        self._homeless: list[tuple[Any, socket.socket]] = []
        self._rounds = Rounds()
        # The change under way is the first; each with what hears of its result.
        self._changes: deque[tuple[Steps, Callable[[Any], None]]] = deque()
        self._stock = Stock(work.offers, work.settings.memory_mb)
        self._demand = Demand(self._crew, self._stock, self._count, self._adopt, self._begin_change)

    def run(self, *, stop_on_eof: bool = False) -> None:
        """Serve; returns after a signal, when all that was asked is answered.

        Raises:
            Refused: a model cannot be loaded.
            Failed: the first worker died before it answered.
        """
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        old = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        old_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ)
        if stop_on_eof:
            with contextlib.suppress(PermissionError):  # a file or /dev/null: it tells nothing of a parent
                self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        try:
            self._start(woken)
            while self._stop_at is None or time.monotonic() < self._stop_at:
                self._turn(woken)
        finally:
            self._end(woken)
            signal.set_wakeup_fd(old_waker)
            for number, handler in old.items():
                signal.signal(number, handler)
            self._selector.close()
            woken.close()
            waker.close()

    def _start(self, woken: socket.socket) -> None:
        """Start a worker and wait for it: it says whether the models are light, or why they cannot be loaded."""
        gc.freeze()  # what is imported is for ever: a collection in a worker need not copy those pages
        workers = self._work.settings.workers
        self._work = replace(self._work, alone=workers == 1 if workers else None)
        self._stock.settle(self._count())
        first = self._crew.start()
        while not first.ready and self._stop_at is None:
            for key, _ in self._selector.select():
                if key.fileobj is first.control:
                    letter = self._hear(first)
                    if letter is None and first.dead:
                        raise Failed("the server's worker died before it answered", next="run it again with --debug")
                    if letter and letter.kind == FAILED:
                        raise letter.body
                    if letter and letter.kind == READY:
                        alone = letter.number == 0 if self._work.alone is None else self._work.alone
                        self._work = replace(self._work, alone=alone)
                        self._stock.served = {offer.name: offer for offer in letter.body}
                        if over := self._stock.settle(self._count()):  # now that their sizes are measured
                            first.ask(0, Commit(Change(resting=over)))  # nobody waits for the reply
                else:
                    self._wake(key.fileobj, woken)
        for _ in range(self._count() - 1 if first.ready else 0):
            self._crew.start()
        if first.ready:
            self._announce()

    def _count(self) -> int:
        return 1 if self._work.alone else self._work.settings.workers or self._work.cores

    def _begin_child(self, control: socket.socket) -> None:
        for listener in self._tags:
            listener.close()
        stock = self._stock
        offers, resting = tuple(stock.served.values()), tuple(stock.resting.values())
        worker.run(replace(self._work, offers=offers, resting=resting), control)

    # ---------------------------------------------------------------- what happens

    def _turn(self, woken: socket.socket) -> None:
        now = time.monotonic()
        if self._stop_at is None:
            self._crew.start_those_due(now)
            self._demand.look(now)
        self._rounds.expire(now)
        self._homeless = [one for one in self._homeless if not self._hand_over(*one)]
        self._accept_if_anybody_is_ready()
        soon = now + 0.01 if self._homeless else None
        starting = (self._crew.next_due(), self._demand.next_look()) if self._stop_at is None else ()
        due = [at for at in (soon, *starting, self._rounds.next_deadline(), self._stop_at) if at is not None]
        for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
            child = self._crew.by_control(key.fileobj)
            if key.fileobj in self._tags:
                self._accept(key.fileobj)
            elif child:
                self._hear(child)
            else:
                self._wake(key.fileobj, woken)

    def _wake(self, woken_by: Any, woken: socket.socket) -> None:
        """A signal has come, standard input has ended, or a successor has said something."""
        if woken_by is woken:
            for number in woken.recv(4096):
                self._on_signal(number)
        elif self._successor and woken_by == self._successor.said:
            self._selector.unregister(woken_by)
            if self._successor.is_ready():
                self._stop()
            else:
                log.error("the new server ended before it answered; this one serves on")
            self._successor = None
        elif isinstance(woken_by, int) and not os.read(woken_by, 4096):
            self._selector.unregister(woken_by)
            self._stop()

    def _on_signal(self, number: int) -> None:
        if number in ENDING:
            self._signalled = True
            self._stop()
        elif number == signal.SIGHUP:
            self._read_security()
            if not self._crew.ready():
                return
            asker = self._crew.ready()[0]
            steps = changes.reload(asker, self._crew.ready, self._adopt, self._demand.room, self._stock.found)
            self._begin_change(steps, _log)
        elif number == signal.SIGUSR2 and self._successor is None and self._stop_at is None:
            try:
                self._successor = Successor(self._listeners)
            except Failed as error:
                log.error("%s", error)  # noqa: TRY400  it says all
            else:
                self._selector.register(self._successor.said, selectors.EVENT_READ)

    def _read_security(self) -> None:
        """Look again at keys and certificates; those that cannot be used change nothing."""
        try:
            secured = security.read(self._work.settings)
        except ShipworthyError as error:
            log.error("keys and certificates stay as they were: %s", error)  # noqa: TRY400  it says all
            return
        self._work = replace(self._work, security=secured)
        for child in self._crew.everybody():
            try:
                child.ask(0, secured)  # nobody waits for the reply
            except OSError:  # it takes nothing: it must not go on with the old keys
                self._crew.replace(child)

    def _stop(self) -> None:
        """Say everywhere that this server is not ready, and end after the drain delay; told twice, end now."""
        delay = self._work.settings.drain_delay_seconds if self._stop_at is None else 0.0
        self._stop_at = time.monotonic() + delay
        for child in self._crew.everybody():
            child.tell(UNREADY)

    # ---------------------------------------------------------------- connections

    def _accept_if_anybody_is_ready(self) -> None:
        """While no worker is, connections wait in the kernel's queue."""
        ready = bool(self._crew.ready())
        if ready != self._accepting:
            self._accepting = ready
            for listener in self._tags:
                if ready:
                    self._selector.register(listener, selectors.EVENT_READ)
                else:
                    self._selector.unregister(listener)

    def _accept(self, listener: Any, most: int = ACCEPTS_A_TURN) -> None:
        """Accept what waits; each connection goes to the worker with the fewest."""
        while most and not self._homeless and self._crew.ready():
            most -= 1
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody waits any more, or there are too many open files: the kernel keeps the others
                return
            if self._is_full():
                connection.close()
                continue
            if not self._hand_over(listener, connection):
                self._homeless.append((listener, connection))

    def _is_full(self) -> bool:
        """Whether there are as many connections as may be; the log says so once, until there are fewer again."""
        full = sum(child.connections for child in self._crew.everybody()) >= self._work.settings.max_connections
        if full and not self._full:
            log.warning("%d connections are open: more are closed at once", self._work.settings.max_connections)
        self._full = full
        return full

    def _hand_over(self, listener: Any, connection: socket.socket) -> bool:
        """Give a connection to a worker; whether one took it."""
        for child in sorted(self._crew.ready(), key=lambda one: one.connections):
            try:
                socket.send_fds(child.control, [self._tags[listener]], [connection.fileno()])
            except OSError:  # it has died, or its socket is full
                continue
            child.connections += 1
            connection.close()
            return True
        return False

    # ---------------------------------------------------------------- letters

    def _hear(self, child: Child) -> Letter | None:
        """One letter of a worker; at its end the worker has died, and is replaced."""
        try:
            message, descriptors = letters.receive(child.control)
        except BlockingIOError:
            return None
        if not message:
            self._crew.bury(child)
            self._rounds.lost(child, time.monotonic())
            return None
        letter = letters.read(message, descriptors)
        if letter.kind == CLOSED:
            child.connections -= letter.number
        elif letter.kind == READY:
            self._crew.is_ready(child)
        elif letter.kind == COUNTED:
            child.has_counted(letter.body)
        elif letter.kind == LEAVING:
            self._crew.replace(child)
        elif letter.kind == WANTED:
            self._stock.asked(letter.body)
        elif letter.kind == REPLY:
            self._rounds.heard(letter.number, letter.body, time.monotonic())
        elif letter.kind == ASK:
            self._asked(child, letter)
        return letter

    def _asked(self, child: Child, letter: Letter) -> None:
        """A worker asks for what concerns all."""
        if isinstance(letter.body, Change):
            steps = changes.change(child, letter.body, self._crew.ready, self._adopt, self._demand.room)
            self._begin_change(steps, lambda error: child.tell(REPLY, letter.number, error))
        else:
            steps = self._demand.count()
            self._rounds.begin(steps, lambda tally: child.tell(REPLY, letter.number, tally), time.monotonic())

    def _begin_change(self, steps: Steps, done: Callable[[Any], None]) -> None:
        """Make a change when those before it are made."""
        if len(self._changes) > MOST_CHANGES:
            done(Unavailable("the server is busy", found=f"{MOST_CHANGES} changes of models wait", next="try again"))
            return
        self._changes.append((steps, done))
        if len(self._changes) == 1:
            self._next_change()

    def _next_change(self) -> None:
        steps, done = self._changes[0]

        def made(result: ShipworthyError | None) -> None:
            done(result)
            self._changes.popleft()
            if self._changes:
                self._next_change()

        self._rounds.begin(steps, made, time.monotonic())

    def _adopt(self, change: Change, able: tuple[Child, ...]) -> None:
        """From now on this is what is served, by workers that start later, too."""
        self._stock.adopt(change)
        self._crew.forget((*change.gone, *(offer.name for offer in change.resting)))
        self._crew.adopt(able)

    # ---------------------------------------------------------------- the end

    def _end(self, woken: socket.socket) -> None:
        """Accept what waits still, let the workers finish, and see them off; told again, or too late, kill them."""
        for listener in self._tags:
            self._accept(listener, most=1 << 16)
            listener.close()
        children = self._crew.everybody()
        for child in children:
            self._crew.see_off(child)
            child.control.close()
            os.kill(child.pid, signal.SIGTERM)  # one that loads models still hears nothing else
        deadline = time.monotonic() + STOP_SECONDS + PATIENCE_SECONDS
        for child in children:
            while os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                told = _told(woken, ENDING)
                if (told and self._signalled) or time.monotonic() > deadline:
                    deadline = 0.0
                    os.kill(child.pid, signal.SIGKILL)
                self._signalled = self._signalled or told
                time.sleep(0.005)


def _log(error: ShipworthyError | None) -> None:
    if error:
        log.error("what is served was not changed: %s", error)


def _told(woken: socket.socket, numbers: set[signal.Signals]) -> bool:
    """Whether one of the signals has come meanwhile."""
    try:
        return any(number in numbers for number in woken.recv(4096))
    except BlockingIOError:
        return False
