"""Models loaded because somebody asks for them, and others put to rest for that: what the supervisor does by its stock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shipworthy.errors import Refused, ShipworthyError, Unavailable
from shipworthy.serve import changes
from shipworthy.serve.changes import Adopt
from shipworthy.serve.crew import Child, Crew
from shipworthy.serve.letters import Change, Tally
from shipworthy.serve.rounds import Steps
from shipworthy.serve.stock import Stock

# How often to look whether there is room for a model that is asked for, while there is none.
LOOK_SECONDS = 0.1

log = logging.getLogger(__name__)


class Demand:
    """What is asked for, over the workers that can load it."""

    def __init__(
        self,
        crew: Crew,
        stock: Stock,
        processes: Callable[[], int],
        adopt: Adopt,
        begin: Callable[[Steps, Callable[[Any], None]], None],
    ) -> None:
        """Store what is needed.

        Args:
            crew: the workers.
            stock: what is served, and what rests.
            processes: how many workers there are to be.
            adopt: called when a change is decided.
            begin: makes a change when those before it are made; its second argument hears of the result.
        """
        self._crew = crew
        self._stock = stock
        self._processes = processes
        self._adopt = adopt
        self._begin = begin
        # Whether one is being loaded, and when to look next for another.
        self._loading = False
        self._look_at = 0.0

    def count(self) -> Steps:
        """The steps of counting; their result is the ``Tally``."""
        return changes.count(self._crew.ready(), Child.has_counted, self._tally)

    def room(self, change: Change) -> Steps:
        """The steps of putting models to rest until a change fits; their result is what of it does, or an error."""
        if not self._stock.limit:
            return change
        tally = yield from self.count()
        made = self._stock.room(change, tally.counts, self._processes())
        if isinstance(made, ShipworthyError):
            return made
        fit, evicted = made
        if evicted:
            yield from changes.switch(Change(resting=evicted), self._crew.ready(), self._adopt)
        return fit

    def next_look(self) -> float | None:
        """When ``look`` is to be called; ``None``: nobody is waited for, or one is being loaded."""
        return self._look_at if self._stock.is_waited_for() and not self._loading else None

    def look(self, now: float) -> None:
        """Load a model that is asked for, if it is time to look and one can be; one is loaded at a time."""
        at = self.next_look()
        if at is None or now < at:
            return
        self._loading = True

        def done(loaded: Any) -> None:
            self._loading = False
            self._look_at = time.monotonic() + (0.0 if loaded is True else LOOK_SECONDS)

        self._begin(self._load(), done)

    def _load(self) -> Steps:
        """The steps of loading one model that is asked for; their result is whether it came to an end, good or bad.

        One that cannot be loaded is not known any more. While a worker starts, nothing is changed: it would begin with what is
        not so any more, and have to start again.
        """
        if not self._crew.ready() or self._crew.is_starting():
            return False
        tally = yield from self.count()
        offer, ready = self._stock.next(tally.counts, self._processes()), self._crew.ready()
        if offer is None or not ready:
            return False
        error = yield from changes.change(ready[0], Change((offer,)), self._crew.ready, self._adopt, self.room)
        self._stock.ended(offer.name, error)
        if isinstance(error, Unavailable):
            return False
        if error:
            log.error("model '%s' was asked for and is not loaded: %s", offer.name, error)
        if isinstance(error, Refused):
            yield from changes.switch(Change(gone=(offer.name,)), self._crew.ready(), self._adopt)
        return True

    def _tally(self) -> Tally:
        return replace(self._crew.tally(), loaded=self._stock.loaded, evicted=self._stock.evicted)
