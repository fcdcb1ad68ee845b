"""Models into a worker and out of it: loaded and warmed beside what is served, then switched in one turn of the loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from shipworthy import machine
from shipworthy.backends.runners import load
from shipworthy.data import made_up
from shipworthy.errors import ShipworthyError
from shipworthy.protocols import Runner
from shipworthy.serve import memory
from shipworthy.serve.batcher import Batcher
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.letters import Change
from shipworthy.serve.plan import plan, tune
from shipworthy.serve.source import ServedModel
from shipworthy.serve.statistics import Statistics, edges
from shipworthy.settings import ServeSettings

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Loaded:
    """A model in memory, not served yet; ``stamp`` tells whether its files have changed since, ``took_ns`` what it took."""

    model: ServedModel
    runner: Runner
    stamp: Stamp
    took_ns: int


class Loader:
    """Loads what one worker serves. One change at a time: ``prepare``, then ``commit`` or ``abort``."""

    def __init__(self, catalog: Catalog, switched: Callable[[str], None], settings: ServeSettings) -> None:
        """``switched`` is called with each name that changed."""
        self._catalog = catalog
        self._switched = switched
        self._settings = settings
        self._prepared: dict[tuple[str, int], Loaded] = {}
        self._served: dict[tuple[str, int], Loaded] = {}
        self.cores = 1
        self.alone = False

    def prepare(self, change: Change) -> Change:
        """Load and warm what the change brings; in any thread. What is served already, and has not changed, is kept.

        Returns:
            The change, with what each run costs.

        Raises:
            Refused, Failed: a model cannot be loaded; then nothing of the change is kept.
        """
        prepared: dict[tuple[str, int], Loaded] = {}
        offers = []
        for offer in change.offers:
            versions = []
            for model in offer.versions:
                key = (model.name, model.version)
                kept = self._served.get(key)
                if kept is None or not _is_same(kept, model):
                    kept = prepared[key] = self._load(model)
                versions.append(kept.model)
            offers.append(replace(offer, versions=tuple(versions)))
        self._prepared = prepared
        return replace(change, offers=tuple(offers))

    def commit(self, change: Change) -> None:
        """Serve what was prepared; in the loop's thread.

        What is replaced or goes is not closed: whoever has a request in it holds it, and the last one lets it go.
        """
        names = (*change.gone, *(offer.name for offer in (*change.offers, *change.resting)))
        for name in names:
            wanted = {model.version for offer in change.offers if offer.name == name for model in offer.versions}
            for key in [key for key in self._served if key[0] == name and key[1] not in wanted]:
                del self._served[key]
        for offer in change.offers:
            lives = []
            for model in offer.versions:
                loaded = self._prepared.get((model.name, model.version))
                if loaded is None:
                    lives.append(self._catalog.find(model.name, str(model.version)))
                else:
                    self._served[model.name, model.version] = loaded
                    lives.append(self._live(loaded))
            self._catalog.serve(lives, offer.default, offer.labels)
        for name in change.gone:
            self._catalog.drop(name)
        for offer in change.resting:
            self._catalog.rest(offer)
        # Others may be put to rest between the two steps of a change.
        self._prepared = {key: loaded for key, loaded in self._prepared.items() if key[0] not in names}
        for name in names:
            self._switched(name)

    def abort(self, reasons: dict[str, str]) -> None:
        """Forget what was prepared; the catalog remembers why, for each model named."""
        self._prepared = {}
        for name, reason in reasons.items():
            self._catalog.failures[name] = reason

    def _load(self, model: ServedModel) -> Loaded:
        began = time.monotonic_ns()
        stamp = _stamp(model)
        before = self._own_bytes()
        runner = load(model.path, model.target)
        with contextlib.suppress(ShipworthyError):  # made-up values may be outside what the model takes
            runner.run(made_up(runner.signature, 1).inputs)
        cost = model.cost or (tune(runner) if self._settings.tune else None)
        model = replace(model, cost=cost, since=model.since or time.time_ns())
        if self._settings.memory_mb:
            grown = self._own_bytes() - before
            model = replace(model, memory_bytes=model.memory_bytes or max(grown, file_bytes(model)))
        return Loaded(model, runner, stamp, time.monotonic_ns() - began)

    def _own_bytes(self) -> int:
        """What this process takes, free memory given back; 0 where nobody needs to know."""
        if not self._settings.memory_mb:
            return 0
        machine.trim()
        return memory.own_bytes()

    def _live(self, loaded: Loaded) -> Live:
        model = loaded.model
        statistics = Statistics(model.since, edges(self._settings.slo_ms))
        statistics.load_ns = loaded.took_ns
        made = plan(model.cost, self.cores, alone=self.alone)
        queue_bytes = int(self._settings.queue_mb * 1e6)
        made = replace(made, queue_bytes=queue_bytes, max_wait_ms=self._settings.max_wait_ms)
        if model.most_rows is not None:
            made = replace(made, max_rows=min(made.max_rows, model.most_rows))
        batcher = Batcher(loaded.runner, made, statistics)
        return Live(
            model.name, model.version, model.bundle, loaded.runner, batcher, statistics, model.target, model.memory_bytes
        )


def _is_same(kept: Loaded, model: ServedModel) -> bool:
    asked = replace(kept.model, cost=model.cost, since=model.since, memory_bytes=model.memory_bytes)
    return asked == model and kept.stamp == _stamp(model)


def file_bytes(model: ServedModel) -> int:
    """The size of a model's file, with weights beside it that are named after it."""
    return sum(size for _, _, size, _ in _stamp(model))


def _stamp(model: ServedModel) -> Stamp:
    """What tells the model's files, with weights beside it that are named after it, from later ones of the same names."""
    found = []
    for path in sorted(model.path.parent.glob(f"{model.path.name}*")):
        with contextlib.suppress(OSError):  # it has gone meanwhile
            state = path.stat()
            found.append((path.name, state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found)
