"""What the server has loaded and what rests: the supervisor's account of memory, where that is bounded.

It decides and remembers; the supervisor does. A model's size is what a worker grew by when it was loaded, times the workers;
before that it is estimated from its files.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from shipworthy.errors import Refused, ShipworthyError, Unavailable
from shipworthy.serve import budget
from shipworthy.serve.budget import Held
from shipworthy.serve.letters import Change
from shipworthy.serve.loader import file_bytes
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.serve.statistics import Counts

# What a model takes of a process, before that was measured: so many times its files, and a session. Seen with matrices,
# convolutions and embeddings of 16 to 64 MB: 1.0 to 1.1 with onnxruntime, 1.1 to 2.2 with OpenVINO.
TIMES_FILES = 1.1
TIMES_FILES_ELSEWHERE = 2.2
SESSION_BYTES = 2_000_000
# How long a model stays after it was loaded: who was told to ask again in a second is to find it there.
HOLD_SECONDS = 2.0
# Who has not been asked for in this time is not waited for any more.
PATIENCE_SECONDS = 5.0
# After a load that failed the next is tried after this; after each further one, after twice as long.
LEAST_WAIT_SECONDS = 1.0
MOST_WAIT_SECONDS = 300.0


class Stock:
    """The models that are served, and those that rest until somebody asks for them; by name."""

    def __init__(self, offers: Iterable[Offer], memory_mb: float) -> None:
        """``memory_mb`` is what all that is served may take over all workers; 0: any, and nothing ever rests."""
        self.served = {offer.name: offer for offer in offers}
        self.resting: dict[str, Offer] = {}
        self.limit = int(memory_mb * 1e6)
        self.loaded = 0
        """Models that were loaded because somebody asked for them."""
        self.evicted = 0
        """Models that were put to rest for others."""
        self._loaded_at: dict[str, float] = {}
        # Who is waited for, in the order in which that began, and when each was asked for last.
        self._waiting: dict[str, float] = {}
        self._again: dict[str, tuple[float, float]] = {}

    def settle(self, processes: int) -> tuple[Offer, ...]:
        """At the start, put to rest what does not fit into so many processes; in the order of the source, the others stay."""
        if not self.limit:
            return ()
        fit = budget.fitting([(name, processes * self._bytes(offer)) for name, offer in self.served.items()], self.limit)
        rest = tuple(offer for name, offer in self.served.items() if name not in fit)
        for offer in rest:
            del self.served[offer.name]
            self.resting[offer.name] = _at_rest(offer)
        return rest

    def adopt(self, change: Change) -> None:
        """This is what is served, and what rests, from now on."""
        self.evicted += sum(offer.name in self.served for offer in change.resting)
        now = time.monotonic()
        loaded_at = {
            offer.name: self._loaded_at.get(offer.name, 0.0 if offer.name in self.served else now) for offer in change.offers
        }
        for name in (*change.gone, *(offer.name for offer in (*change.offers, *change.resting))):
            for names in (self.served, self.resting, self._loaded_at, self._waiting, self._again):
                names.pop(name, None)
        for offer in change.offers:
            self.served[offer.name] = offer
        self._loaded_at |= loaded_at
        for offer in change.resting:
            self.resting[offer.name] = _at_rest(offer)

    def found(self, change: Change) -> Change:
        """Of a change that brings all there is: what is not served now rests."""
        if not self.limit:
            return change
        offers = tuple(offer for offer in change.offers if offer.name in self.served)
        return replace(change, offers=offers, resting=tuple(one for one in change.offers if one.name not in self.served))

    def room(self, change: Change, counts: Counts, processes: int) -> tuple[Change, tuple[Offer, ...]] | ShipworthyError:
        """What of a change fits, and what has to rest for it first.

        Args:
            change: what is to be served; of several models those that do not fit together rest as well.
            counts: what was done with each model, and is under way.
            processes: that load what is served.

        Returns:
            The change and the offers; ``Refused`` when a model is larger than the limit, ``Unavailable`` when those that
            would have to go are in use.
        """
        if not change.offers:
            return change, ()
        for offer in change.offers:
            least = processes * sum(model.memory_bytes or file_bytes(model) for model in offer.versions)
            if least > self.limit:
                return _too_large(offer, least, self.limit, processes)
        sizes = {offer.name: min(self.limit, processes * self._bytes(offer)) for offer in change.offers}
        fit = budget.fitting(sizes.items(), self.limit)
        others = [offer for name, offer in self.served.items() if name not in sizes and name not in change.gone]
        held = [self._held(offer, counts, processes) for offer in others]
        go = budget.leaving(held, sum(sizes[name] for name in fit), self.limit)
        if go is None:
            return Unavailable("there is no memory for the model now", found="those loaded are in use", next="try again")
        late = [offer for offer in change.offers if offer.name not in fit]
        evicted = (*(offer for offer in others if offer.name in go), *late)
        return replace(change, offers=tuple(offer for offer in change.offers if offer.name in fit)), evicted

    def asked(self, name: str) -> None:
        """Somebody asks for a model."""
        if name in self.resting:
            self._waiting[name] = time.monotonic()

    def is_waited_for(self) -> bool:
        """Whether somebody has asked for a model that rests, lately as ``next`` knows."""
        return bool(self._waiting)

    def next(self, counts: Counts, processes: int) -> Offer | None:
        """The model to load now: who has been waited for longest, of those for which there can be room.

        Those whose loads failed lately are left out. ``counts`` and ``processes`` as for ``room``.
        """
        now = time.monotonic()
        self._waiting = {name: at for name, at in self._waiting.items() if now - at < PATIENCE_SECONDS}
        for name in self._waiting:
            offer = self.resting[name]
            if self._again.get(name, (0.0, 0.0))[0] > now:
                continue
            if not isinstance(self.room(Change((offer,)), counts, processes), Unavailable):
                return offer
        return None

    def ended(self, name: str, error: ShipworthyError | None) -> None:
        """A load on demand has come to its end; one that failed is not tried again for a while."""
        if error is None:
            self.loaded += 1
        elif name in self.resting and not isinstance(error, Unavailable):
            wait = min(MOST_WAIT_SECONDS, 2 * self._again.get(name, (0.0, LEAST_WAIT_SECONDS / 2))[1])
            self._again[name] = (time.monotonic() + wait, wait)

    def _held(self, offer: Offer, counts: Counts, processes: int) -> Held:
        done = [counts[offer.name, model.version] for model in offer.versions if (offer.name, model.version) in counts]
        just_loaded = time.monotonic() - self._loaded_at.get(offer.name, 0.0) < HOLD_SECONDS
        return Held(
            offer.name,
            processes * self._bytes(offer),
            max((one.last_ms for one in done), default=0),
            stays=just_loaded or any(one.in_flight or one.waiting for one in done),
        )

    def _bytes(self, offer: Offer) -> int:
        """What a model takes of a process: as measured, now or when this version was loaded last; else an estimate."""
        old = self.served.get(offer.name) or self.resting.get(offer.name)
        known = {model.version: model.memory_bytes for model in old.versions} if old else {}
        return sum(model.memory_bytes or known.get(model.version) or _estimate(model) for model in offer.versions)


def _estimate(model: ServedModel) -> int:
    times = TIMES_FILES if model.target.runtime == "onnxruntime" else TIMES_FILES_ELSEWHERE
    return int(times * file_bytes(model)) + SESSION_BYTES


def _at_rest(offer: Offer) -> Offer:
    """The offer as it is kept: when it is loaded again, that is a new loading."""
    return replace(offer, versions=tuple(replace(model, since=0) for model in offer.versions))


def _too_large(offer: Offer, size: int, limit: int, processes: int) -> Refused:
    return Refused(
        f"model '{offer.name}' is larger than all the memory that models may take",
        found=f"{size / 1e6:.1f} MB in {processes} workers",
        expected=f"at most {limit / 1e6:g} MB",
        next="raise memory_mb in [serve], or serve with fewer workers",
    )
