"""A request on its way to the runtime and back: what the queue knows of it, whichever protocol it came by."""

from __future__ import annotations

import time
from collections.abc import Callable

from shipworthy.errors import ShipworthyError
from shipworthy.protocols import Array
from shipworthy.serve.runs import Answer, Share
from shipworthy.serve.statistics import V2_REST, Statistics, outcome_of

Done = Callable[[Share | None, ShipworthyError | None], int | None]
Key = tuple[tuple[int, ...], ...]


class Ended:
    """How the requests of one run end; those that were answered, each by itself, are counted together."""

    __slots__ = ("_queues", "_wholes", "_wires", "run", "statistics")

    def __init__(self, statistics: Statistics, start_ns: int, took_ns: int) -> None:
        self.statistics = statistics
        self.run = (start_ns, took_ns)
        self._wholes: list[int] = []
        self._queues: list[int] = []
        self._wires: list[int] = []

    def answered(self, began_ns: int, arrived_ns: int, wire: int) -> None:
        """One request has its answer."""
        self._wholes.append(time.monotonic_ns() - began_ns)
        self._queues.append(self.run[0] - arrived_ns)
        self._wires.append(wire)

    def all_answered(self, count: int, began_ns: int, wire: int) -> None:
        """So many requests, which waited together, have their answers."""
        start, took = self.run
        self.statistics.succeeded_together(count, time.monotonic_ns() - began_ns, start - began_ns, took, wire)

    def count(self) -> None:
        """Count those that were answered."""
        if self._wires:
            self.statistics.succeeded(self._wholes, self._queues, self.run[1], self._wires)


class Order:
    """One request on its way to the runtime, or several that go it together (``cohort``).

    ``inputs`` are checked arrays of the signature's dtypes, rows along the first axis; ``done`` is called once, in the
    loop's thread, with the outputs by name or with an error. ``deadline_ns`` is of ``time.monotonic_ns`` (0: none);
    ``priority`` 1 is served first, 0 means the default, after all others. Set ``cancelled`` when the caller has gone.
    ``wire`` is the protocol that it came by, a place in ``statistics.PROTOCOLS``; ``began_ns`` when it was there to be read.
    ``taken`` is the batcher's: how many batches it had taken out of the queue when the order came into it.
    When it is answered, ``run`` says when its run began and how long that took (ns); ``None``: there was none.
    """

    __slots__ = (
        "arrived_ns", "began_ns", "bytes", "cancelled", "deadline_ns", "inputs", "key", "priority", "rows", "run",
        "taken", "wire",
    )  # fmt: skip

    def __init__(
        self,
        inputs: dict[str, Array],
        rows: int,
        deadline_ns: int = 0,
        priority: int = 0,
        wire: int = V2_REST,
        began_ns: int = 0,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.cancelled = False
        self.wire = wire
        self.began_ns = began_ns or time.monotonic_ns()
        self.arrived_ns = 0
        self.bytes = 0
        self.taken = 0
        self.key: Key = ()
        self.run: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """Requests that it stands for."""
        return 1

    def done(self, outputs: Share | None, error: ShipworthyError | None) -> int | None:
        """Take the answer. Where it cannot be written: how the request has ended so, ``REFUSED`` or ``FAILED``."""
        raise NotImplementedError

    def end(self, answer: Answer, ended: Ended) -> None:
        """Take the answer of a run, and count how the request has ended."""
        self.run = ended.run
        if isinstance(answer, ShipworthyError):
            self.done(None, answer)
            ended.statistics.failed(time.monotonic_ns() - self.began_ns, self.wire, outcome_of(answer))
        elif (unsaid := self.done(answer, None)) is not None:
            ended.statistics.dropped(unsaid, self.wire)
        else:
            ended.answered(self.began_ns, self.arrived_ns, self.wire)


class Job(Order):
    """An order whose answer goes to a function."""

    __slots__ = ("_done",)

    def __init__(
        self,
        inputs: dict[str, Array],
        rows: int,
        done: Done,
        deadline_ns: int = 0,
        priority: int = 0,
        wire: int = V2_REST,
        began_ns: int = 0,
    ) -> None:
        super().__init__(inputs, rows, deadline_ns, priority, wire, began_ns)
        self._done = done

    def done(self, outputs: Share | None, error: ShipworthyError | None) -> int | None:
        """Hand it on."""
        return self._done(outputs, error)
