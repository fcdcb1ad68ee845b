"""What there is to serve and what of it is to be served: the seam between the server and where models lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shipworthy.errors import NotFound, Refused
from shipworthy.records import Target
from shipworthy.serve.plan import Cost

_LATEST = re.compile(r"latest(?::([1-9][0-9]{0,8}))?")
_LISTED = re.compile(r"[0-9]{1,18}(?:,[0-9]{1,18})*")


@dataclass(frozen=True)
class ServedModel:
    """What to serve: a model's file under a name and a version; ``bundle`` is the digest of the bundle it lies in.

    ``cost`` is what evidence says of a run; ``None``: it is measured when the model is loaded. ``most_rows`` bounds a
    batch where its owner has said so; 0: a request is run as it came, neither with others nor in parts. ``since`` is when
    it was loaded (ns since 1970), in whichever worker did it first; 0: nobody has. ``memory_bytes`` is what that worker grew
    by, which is measured where memory is bounded; 0: it was not.
    """

    name: str
    version: int
    path: Path
    target: Target
    bundle: str = ""
    cost: Cost | None = None
    most_rows: int | None = None
    since: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Offer:
    """What is to be served of one model.

    ``versions`` are in the order of their numbers, at least one; ``default`` is the number that answers when a request
    names none; ``labels`` are words that may stand for a version; ``notes`` say what was found and is not followed.
    """

    versions: tuple[ServedModel, ...]
    default: int
    labels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.versions[0].name


class Source(Protocol):
    """Where models lie. Every method looks again: what has changed there is seen. May be called in any thread."""

    def names(self) -> list[str]:
        """Every model that could be served."""
        ...

    def numbers(self, name: str) -> list[int]:
        """Every version of a model that could be served, in order; none when there is no such model."""
        ...

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What is to be served of a model: by its own policy, or by that of the caller.

        Raises:
            NotFound: no such model, or none of the versions asked for.
            Refused: what lies there cannot be served.
        """
        ...


@dataclass(frozen=True)
class Policy:
    """Which versions of a model are served: the latest ``latest``, or those ``listed``, or all (neither)."""

    latest: int = 0
    listed: tuple[int, ...] = ()

    @classmethod
    def read(cls, text: str) -> Policy:
        """The policy in ``latest``, ``latest:3``, ``all`` or ``1,3``.

        Raises:
            Refused: none of these.
        """
        latest = _LATEST.fullmatch(text)
        if latest:
            return cls(latest=int(latest[1] or 1))
        if text == "all":
            return cls()
        if _LISTED.fullmatch(text):
            return cls(listed=tuple(sorted({int(number) for number in text.split(",")})))
        raise Refused("that is no choice of versions", found=text, expected="latest, latest:3, all, or numbers such as 1,3")

    def pick(self, numbers: Iterable[int]) -> list[int]:
        """Those of the version numbers that are to be served, in order; listed ones that are missing are left out."""
        found = sorted(set(numbers))
        if self.latest:
            return found[-self.latest :]
        return [number for number in found if not self.listed or number in self.listed]


class Given:
    """A source of the models that it is given, whatever their versions."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models: dict[str, dict[int, ServedModel]] = {}
        for model in models:
            versions = self._models.setdefault(model.name, {})
            if model.version in versions:
                raise Refused(f"model '{model.name}' version {model.version} is named twice", next="name each once")
            versions[model.version] = model

    def names(self) -> list[str]:
        """Every model."""
        return list(self._models)

    def numbers(self, name: str) -> list[int]:
        """Every version of a model, in order."""
        return sorted(self._models.get(name, {}))

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """All versions of a model, or those that the policy picks; the highest is the default.

        Raises:
            NotFound: no such model, or none of the versions asked for.
        """
        picked = (policy or Policy()).pick(self.numbers(name))
        if not picked:
            known = ", ".join(f"{name} version {number}" for name in self._models for number in self.numbers(name))
            raise NotFound(f"there is no model '{name[:100]}' in the versions asked for", expected=f"one of: {known}")
        return Offer(tuple(self._models[name][number] for number in picked), picked[-1])
