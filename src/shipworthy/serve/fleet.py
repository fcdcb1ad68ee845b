"""All workers of a server, as one of them sees them: what they have counted, and which models they are to serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shipworthy.errors import NotFound, Refused, ShipworthyError
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.letters import Change, Count, Tally
from shipworthy.serve.source import Offer, Policy, Source
from shipworthy.serve.statistics import Statistics
from shipworthy.serve.wording import sentence

Ask = Callable[[Any], Awaitable[Any]]
"""Asks the supervisor; raises the error that it answers with."""


@dataclass(frozen=True)
class Wish:
    """What a request wants served of a model: which versions (``None``: as its source says), and labels for them."""

    name: str
    policy: Policy | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


class Fleet:
    """Asks that concern all workers; each returns when all have answered."""

    def __init__(self, ask: Ask, source: Source, catalog: Catalog) -> None:
        self._ask = ask
        self._source = source
        self._catalog = catalog

    async def counted(self, name: str = "", version: str = "") -> list[tuple[str, int, Statistics]]:
        """What all workers have done with each version that is served: of all models, of one, or of one version.

        Raises:
            NotFound: no such model or version.
            Unavailable: the model rests, and goes on resting.
        """
        done, _ = await self.measured(name, version)
        return [(live.name, live.version, statistics) for live, statistics in done]

    async def measured(self, name: str = "", version: str = "") -> tuple[list[tuple[Live, Statistics]], Tally]:
        """As ``counted``, each beside its version, and the whole that it was taken from.

        Raises:
            NotFound: no such model or version.
            Unavailable: the model rests, and goes on resting.
        """
        lives = [live for one in ([name] if name else self._catalog.names()) for live in self._catalog.versions(one)]
        if version:
            lives = [self._catalog.find(name, version)]
        tally = await self._ask(Count())
        return [(live, tally.counts.get((live.name, live.version), live.statistics)) for live in lives], tally

    async def load(self, name: str) -> None:
        """Serve a model as its source has it now; a version that has not changed is kept.

        Raises:
            NotFound: no such model.
            Refused, Failed: it cannot be loaded; what was served is served still.
            Unavailable: too many changes wait.
        """
        await self._ask(Change(offers=(await self._find(Wish(name)),)))

    async def unload(self, name: str) -> None:
        """Serve a model no more, not even when it is asked for; one that is known and not loaded is left so.

        Raises:
            NotFound: no such model.
            Unavailable: too many changes wait.
        """
        if name not in self._catalog.names() and name not in self._catalog.resting:
            known = await asyncio.to_thread(self._source.names)
            if name not in known:
                raise NotFound(f"there is no model '{name[:100]}'", expected=f"one of: {', '.join(known)[:500] or 'none'}")
            return
        await self._ask(Change(gone=(name,)))

    async def serve(self, wishes: Sequence[Wish]) -> None:
        """Serve these models and no others.

        Raises:
            NotFound: a model, or a version that a label names, is not there.
            Refused, Failed, Unavailable: as ``load``; then nothing has changed.
        """
        offers = [await self._find(wish) for wish in wishes]
        names = [offer.name for offer in offers]
        if len(set(names)) < len(names):
            raise Refused("a model is named twice", found=", ".join(names)[:500], next="name each once")
        gone = tuple(name for name in (*self._catalog.names(), *self._catalog.resting) if name not in names)
        await self._ask(Change(tuple(offers), gone))

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """Every version of every model and its state; ``ready``: only of those that are served."""
        rows = [
            {"name": live.name, "version": str(live.version), "state": "READY", "reason": ""}
            for name in self._catalog.names()
            for live in self._catalog.versions(name)
        ]
        if ready:
            return rows
        served = {(row["name"], row["version"]) for row in rows}
        for name, numbers in (await asyncio.to_thread(self._there)).items():
            known = "loads when it is asked for" if name in self._catalog.resting else "unloaded"
            reason = numbers if isinstance(numbers, str) else self._catalog.failures.get(name, known)
            versions = [""] if isinstance(numbers, str) else [str(number) for number in numbers]
            rows += [
                {"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason}
                for version in versions
                if (name, version) not in served
            ]
        return rows

    def _there(self) -> dict[str, list[int] | str]:
        """The versions of every model that could be served, or why they cannot be looked at; in a thread."""
        found: dict[str, list[int] | str] = {}
        for name in self._source.names():
            try:
                found[name] = self._source.numbers(name)
            except ShipworthyError as error:
                found[name] = sentence(error)
        return found

    async def _find(self, wish: Wish) -> Offer:
        offer = await asyncio.to_thread(self._source.find, wish.name, wish.policy)
        numbers = [model.version for model in offer.versions]
        for label, number in wish.labels.items():
            if number not in numbers:
                raise NotFound(
                    f"label '{label[:100]}' of model '{offer.name}' means a version that is not served",
                    found=str(number),
                    expected="one of: " + ", ".join(map(str, numbers)),
                )
        return replace(offer, labels={**offer.labels, **wish.labels})
