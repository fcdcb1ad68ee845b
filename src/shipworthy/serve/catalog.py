"""What is being served: every loaded version of every model, found by name and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shipworthy.errors import NotFound
from shipworthy.protocols import Runner
from shipworthy.records import Signature, Target
from shipworthy.serve.batcher import Batcher, Job
from shipworthy.serve.quick import Quick
from shipworthy.serve.statistics import Statistics


@dataclass(frozen=True)
class Live:
    """A loaded model under a name and a version; ``bundle`` is the digest of what it came from, or empty.

    ``target`` is where it runs.
    """

    name: str
    version: int
    bundle: str
    runner: Runner
    batcher: Batcher
    statistics: Statistics
    target: Target = field(default_factory=Target)

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

    def __init__(self) -> None:
        self._models: dict[str, _Shelf] = {}
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

    def drop(self, name: str) -> None:
        """Serve a model no more."""
        self._models.pop(name, None)

    def names(self) -> list[str]:
        """All models."""
        return list(self._models)

    def versions(self, name: str) -> list[Live]:
        """Every version of a model, oldest first.

        Raises:
            NotFound: no such model.
        """
        return list(self._shelf(name).lives.values())

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model, and the version that each stands for.

        Raises:
            NotFound: no such model.
        """
        return {label: live.version for label, live in self._shelf(name).labels.items()}

    def find(self, name: str, version: str = "") -> Live:
        """The version that a request means, by number or label; the default when it names none.

        Raises:
            NotFound: no such model or version; the message names those there are.
        """
        shelf = self._shelf(name)
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
            known = ", ".join(self._models) or "none"
            failure = self.failures.get(name, "")
            raise NotFound(f"there is no model '{name[:100]}'", found=failure, expected=f"one of: {known}")
        return self._models[name]
