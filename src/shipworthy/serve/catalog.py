"""What is being served: every loaded version of every model, found by name and version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shipworthy.errors import NotFound, ShipworthyError, Unavailable
from shipworthy.protocols import Runner
from shipworthy.records import Signature, Target
from shipworthy.serve.batcher import Batcher
from shipworthy.serve.order import Job
from shipworthy.serve.quick import Quick
from shipworthy.serve.source import Offer
from shipworthy.serve.statistics import Statistics


@dataclass(frozen=True)
class Live:
    """A loaded model under a name and a version; ``bundle`` is the digest of what it came from, or empty.

    ``target`` is where it runs; ``memory_bytes`` what a worker grew by when it was loaded, 0 where that is not measured.
    """

    name: str
    version: int
    bundle: str
    runner: Runner
    batcher: Batcher
    statistics: Statistics
    target: Target = field(default_factory=Target)
    memory_bytes: int = 0

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.runner.signature

    @cached_property
    def quick(self) -> Quick:
        """Reads and answers the common requests of REST."""
        return Quick(self.name, str(self.version), self.signature)

    def submit(self, job: Job) -> None:
        """Hand a request to the model's queue."""
        self.batcher.submit(job)


@dataclass(frozen=True)
class _Shelf:
    """What is served of one model."""

    lives: dict[int, Live]
    default: Live
    labels: Mapping[str, Live]


class Catalog:
    """Models by name, versions by number or label; changed in the loop's thread only."""

    def __init__(self, wanted: Callable[[str], None] = lambda _: None) -> None:
        """``wanted`` is called with the name of a model that rests, when somebody asks for it."""
        self._models: dict[str, _Shelf] = {}
        self._resting: dict[str, Offer] = {}
        self._wanted = wanted
        self.failures: dict[str, str] = {}
        """Why a model could not be loaded when that was tried last."""

    def serve(self, lives: Sequence[Live], default: int = 0, labels: Mapping[str, int] | None = None) -> None:
        """Serve these versions of a model, in place of what is served under its name.

        Args:
            lives: at least one, all of one name.
            default: the number of the version that answers when a request names none; 0: the highest.
            labels: words that stand for a version; those of a version that is not here are left out.
        """
        found = {live.version: live for live in sorted(lives, key=lambda live: live.version)}
        named = {label: found[number] for label, number in (labels or {}).items() if number in found}
        self._models[lives[0].name] = _Shelf(found, found.get(default) or next(reversed(found.values())), named)
        self.failures.pop(lives[0].name, None)
        self._resting.pop(lives[0].name, None)

    def drop(self, name: str) -> None:
        """Serve a model no more."""
        self._models.pop(name, None)
        self._resting.pop(name, None)

    def rest(self, offer: Offer) -> None:
        """Serve a model no more before somebody asks for it."""
        self._models.pop(offer.name, None)
        self._resting[offer.name] = offer

    @property
    def resting(self) -> Mapping[str, Offer]:
        """Models that are known and not loaded before somebody asks for them, by name."""
        return self._resting

    def at_rest(self, name: str, version: str = "") -> list[int]:
        """The versions of a model that rests, or the one that is meant; none when it is served, or not known.

        Raises:
            NotFound: the model rests and has no such version.
        """
        offer = self.resting.get(name)
        if offer is None:
            return []
        numbers = {str(model.version): model.version for model in offer.versions}
        if not version:
            return list(numbers.values())
        named = {**offer.labels, **numbers}
        if version not in named:
            raise NotFound(f"model '{name[:100]}' has no version '{version[:100]}'", expected=f"one of: {', '.join(named)}")
        return [named[version]]

    def names(self) -> list[str]:
        """All models."""
        return list(self._models)

    def versions(self, name: str) -> list[Live]:
        """Every version of a model, oldest first.

        Raises:
            NotFound: no such model.
            Unavailable: it rests, and goes on resting.
        """
        return list(self._shelf(name).lives.values())

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model, and the version that each stands for.

        Raises:
            NotFound: no such model.
            Unavailable: it rests, and goes on resting.
        """
        return {label: live.version for label, live in self._shelf(name).labels.items()}

    def find(self, name: str, version: str = "") -> Live:
        """The version that a request means, by number or label; the default when it names none.

        Raises:
            NotFound: no such model or version; the message names those there are.
            Unavailable: the model rests; it is loaded now that somebody asks for it.
        """
        shelf = self._models.get(name)
        if shelf is None:
            if self.at_rest(name, version):
                self._wanted(name)
            raise self._missing(name)
        if not version:
            return shelf.default
        for number, live in shelf.lives.items():
            if str(number) == version:
                return live
        if version in shelf.labels:
            return shelf.labels[version]
        known = ", ".join([*map(str, shelf.lives), *shelf.labels])
        raise NotFound(f"model '{name[:100]}' has no version '{version[:100]}'", expected=f"one of: {known}")

    def _shelf(self, name: str) -> _Shelf:
        if name not in self._models:
            raise self._missing(name)
        return self._models[name]

    def _missing(self, name: str) -> ShipworthyError:
        """Why a model does not answer."""
        failure = self.failures.get(name, "")
        if name in self._resting:
            return Unavailable(
                f"model '{name[:100]}' is not loaded",
                found=failure,
                next="ask it again: who asks has it loaded, as soon as there is memory for it",
            )
        known = ", ".join([*self._models, *self._resting]) or "none"
        return NotFound(f"there is no model '{name[:100]}'", found=failure, expected=f"one of: {known}")
