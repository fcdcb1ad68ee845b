"""Requests of one kind that come from several connections in one turn of the loop wait, run and are answered as one order.

What Python costs a request is mostly the same for all of them, so it is done once: one array is read, one text is written. Only
the common request is taken; whatever is uncommon about one of them, in what is asked or in what is answered, each of them
goes its own way again, as if there had been no cohort.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.protocols import Array
from shipworthy.serve.compression import WORTH_BYTES
from shipworthy.serve.kinds import Kind
from shipworthy.serve.lane import FastLane, Head
from shipworthy.serve.order import Ended, Order
from shipworthy.serve.runs import Answer, Share, Unforeseen
from shipworthy.serve.statistics import outcome_of
from shipworthy.serve.texts import SMALL_BYTES


class Caller(Protocol):
    """A connection in the lane."""

    cycle: Any
    lane: FastLane
    transport: Any

    def own(self, head: Head) -> Any:
        """A cycle of its own for a request."""
        ...

    def answered(self, data: bytes, cycle: Any) -> None:
        """Write an answer."""
        ...


class NoEvent:
    """Stands where uvicorn keeps the event that wakes an application: here none waits."""

    def set(self) -> None:
        """Nothing waits."""


class Cohort(Order):
    """Requests of one kind; each connection has it for its cycle, as uvicorn sees it.

    The time of all counts from when the first of them was there: the others came with it, or while the loop was busy.
    """

    __slots__ = ("_arrays", "_lane", "_members", "_pieces", "disconnected", "keep_alive", "kind", "squeezes")

    message_event = NoEvent()
    response_started = False
    response_complete = False  # the protocol lets go of a cycle that is answered

    def __init__(self, lane: FastLane, kind: Kind, wire: int) -> None:
        self.began_ns = time.monotonic_ns()
        self.rows = kind.rows
        self.bytes = kind.nbytes
        self.priority = self.deadline_ns = 0
        self.cancelled = False
        self.key = ()
        self.wire = wire
        self.kind = kind
        self.keep_alive = True
        self.squeezes = False
        """Whether somebody takes compressed answers."""
        self._lane = lane
        self._arrays: dict[str, Array] | None = None
        self._members: list[tuple[Caller, Head, bytes]] = []
        self._pieces: list[bytes] = []

    @property
    def count(self) -> int:
        """Requests that it stands for."""
        return len(self._members)

    @property
    def inputs(self) -> dict[str, Array]:
        """The inputs of all.

        Raises:
            Refused: one of them is not what it seemed.
        """
        if self._arrays is None:
            self._arrays = self.kind.arrays(self._pieces)
        return self._arrays

    @inputs.setter
    def inputs(self, arrays: dict[str, Array]) -> None:
        """Take them as they were read again."""
        self._arrays = arrays

    def add(self, caller: Caller, head: Head, data: bytes, at: int) -> None:
        """Take one more: its body begins in ``data`` at ``at``."""
        kind = self.kind
        self._pieces.append(data[at + kind.start : len(data) - kind.end])
        self._members.append((caller, head, data))
        if head.accept:
            self.squeezes = True
        caller.cycle = self

    def leave(self, caller: Caller) -> None:
        """One of the callers has gone."""
        batcher = self._members[0][1].batcher
        place = next(place for place, member in enumerate(self._members) if member[0] is caller)
        if batcher.narrow(self, self.kind.rows, self.kind.nbytes):
            del self._members[place], self._pieces[place]
        if not self._members:
            self._close()

    def done(self, _outputs: Share | None, error: ShipworthyError | None) -> None:
        """Tell all that they will not be answered."""
        self._close()
        data = self._lane.failure(error or Failed("the model gave no answer"), keep_alive=self.keep_alive)
        for caller, _, _ in self._members:
            caller.answered(data, self)

    def end(self, answer: Answer, ended: Ended) -> None:
        """Answer all."""
        self._close()
        if isinstance(answer, ShipworthyError):
            self._fail(answer, ended)
            return
        messages = self._messages(answer)
        if messages is None:
            for place in range(len(self._members)):
                cycle = self._alone(place)
                cycle.request = self.kind.request
                cycle.began_ns = cycle.arrived_ns = self.began_ns
                cycle.end(answer.part(place, self.kind.rows), ended)
            return
        for (caller, _, _), message in zip(self._members, messages, strict=True):
            caller.answered(message, self)
        ended.all_answered(len(messages), self.began_ns, self.wire)

    def _messages(self, answer: Share) -> list[bytes] | None:
        """The answers as they are sent; ``None``: each is to be made by itself, which also says what is wrong with it."""
        count = len(self._members)
        try:
            written = self.kind.write(self.kind.request, answer, count)
            if written is None or (self.squeezes and max(map(len, written.bodies())) >= WORTH_BYTES):
                return None
            messages = written.messages(self._lane.start(written.json_bytes, keep_alive=self.keep_alive))
        except Exception:  # noqa: BLE001  of what a model gave: whatever is wrong with it, every caller gets an answer
            return None
        return messages if len(messages) == count else None

    def _fail(self, error: ShipworthyError, ended: Ended) -> None:
        """There is no answer to all of them. That may be the fault of one: then each is asked by itself."""
        statistics, members = ended.statistics, self._members
        if self._arrays is not None and (len(members) == 1 or isinstance(error, Unforeseen)):
            self.done(None, error)
            for _ in members:
                statistics.failed(time.monotonic_ns() - self.began_ns, self.wire, outcome_of(error))
            return
        statistics.in_flight -= len(members)
        for place, (_, head, data) in enumerate(members):
            self._alone(place).begin(data[len(data) - head.body_bytes :], self.began_ns)

    def _alone(self, place: int) -> Any:
        """One of the requests as a cycle of its own, as if it had been that from the start."""
        caller, head, _ = self._members[place]
        cycle = caller.own(head)
        cycle.keep_alive = self.keep_alive
        cycle.cancelled = caller.transport.is_closing()
        if caller.cycle is self:  # not so where another request has come behind it
            caller.cycle = cycle
        return cycle

    def _close(self) -> None:
        """Gather no more; an idle connection's kind must not keep what was asked in memory."""
        if self.kind.cohort is self:
            self.kind.cohort = None


def join(caller: Caller, head: Head, data: bytes, at: int) -> bool:
    """Let a request wait with others of its kind, if it is a common one; its body, of known length, begins at ``at``."""
    kind = head.kind
    if kind is None or not data.startswith(kind.before, at):
        kind = head.kind = head.reader.kind(data, at, head.json_bytes) if head.body_bytes <= SMALL_BYTES else None
        if kind is None:
            return False
    if not data.endswith(kind.tail):
        return False
    batcher = head.batcher
    cohort = kind.cohort
    if cohort is not None and batcher.widen(cohort, kind.rows, kind.nbytes):
        cohort.add(caller, head, data, at)
        return True
    if not batcher.groups:
        return False
    kind.cohort = cohort = Cohort(caller.lane, kind, head.wire)
    cohort.add(caller, head, data, at)
    batcher.submit(cohort)
    return True
