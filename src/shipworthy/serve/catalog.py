"""What is being served: every loaded version of every model, found by name and version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shipworthy.errors import NotFound
from shipworthy.protocols import Runner
from shipworthy.records import Signature
from shipworthy.serve.batcher import Batcher, Job
from shipworthy.serve.quick import Quick
from shipworthy.serve.statistics import Statistics


@dataclass(frozen=True)
class Live:
    """A loaded model under a name and a version; ``bundle`` is the digest of what it came from, or empty."""

    name: str
    version: int
    bundle: str
    runner: Runner
    batcher: Batcher
    statistics: Statistics

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

    def close(self) -> None:
        """Give threads and memory back."""
        self.batcher.close()
        self.runner.close()


class Catalog:
    """Models by name, versions by number; changed in the loop's thread only."""

    def __init__(self) -> None:
        self._models: dict[str, dict[int, Live]] = {}

    def put(self, live: Live) -> None:
        """Serve a version; one that was there under the same number is replaced."""
        self._models.setdefault(live.name, {})[live.version] = live

    def names(self) -> list[str]:
        """All models."""
        return list(self._models)

    def versions(self, name: str) -> list[Live]:
        """Every version of a model, oldest first.

        Raises:
            NotFound: no such model.
        """
        if name not in self._models:
            known = ", ".join(self._models) or "none"
            raise NotFound(f"there is no model '{name[:100]}'", expected=f"one of: {known}")
        return [live for _, live in sorted(self._models[name].items())]

    def find(self, name: str, version: str = "") -> Live:
        """The version that a request means; the newest when it names none.

        Raises:
            NotFound: no such model or version; the message names those there are.
        """
        versions = self.versions(name)
        if not version:
            return versions[-1]
        for live in versions:
            if str(live.version) == version:
                return live
        known = ", ".join(str(live.version) for live in versions)
        raise NotFound(f"model '{name[:100]}' has no version '{version[:100]}'", expected=f"one of: {known}")

    def close(self) -> None:
        """Close every version."""
        for versions in self._models.values():
            for live in versions.values():
                live.close()
        self._models.clear()
