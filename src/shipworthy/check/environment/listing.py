"""What a list of packages says: the records that readers make and rules judge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PYTHON = "python"
# Of one package a few lines are kept that differ: more say nothing new, and rules compare each with each.
LIMIT_LINES = 5
# Numbers of more digits than any version has: Python refuses to read very long ones.
LIMIT_TEXT = 1_000


@dataclass(frozen=True)
class Package:
    """One line of a list: which versions of a package it takes. Python itself is a package of the name ``python``.

    ``name`` is normalised (PEP 503); ``where`` says file and line; ``extra`` is the optional part of a pyproject.toml that
    it belongs to, empty for what is always installed.
    """

    name: str
    specifier: SpecifierSet
    where: str
    extra: str = ""

    @property
    def pinned(self) -> Version | None:
        """The one version that it takes; ``None`` when it takes several."""
        exact = [one.version for one in self.specifier if one.operator in {"==", "==="} and not one.version.endswith(".*")]
        return _version(exact[0]) if exact else None

    @property
    def near(self) -> Version | None:
        """The one version that it takes, or the release whose versions it takes (``==1.18.*``), for looking things up."""
        wild = [one.version[:-2] for one in self.specifier if one.operator == "==" and one.version.endswith(".*")]
        return self.pinned or (_version(wild[0]) if wild else None)

    @property
    def bounded(self) -> bool:
        """Whether there is a version above which it takes none."""
        return any(one.operator in {"==", "===", "<", "<=", "~="} for one in self.specifier)

    def may_be(self, versions: str) -> bool:
        """Whether it takes some version of a range such as ``==1.18.*``."""
        return meet(self.specifier, SpecifierSet(versions))

    def __str__(self) -> str:
        return f"{self.name}{self.specifier} ({self.where})"


@dataclass(frozen=True)
class Listing:
    """All that is known of the packages of one place.

    ``unread`` are lines that could not be read, ``unjudged`` those that name something without a version (an address, an
    editable folder); both as sentences that name their line. ``logged`` are the versions that MLflow says a model was made
    with. ``where`` are the files that were asked for.
    """

    packages: tuple[Package, ...] = ()
    unread: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    logged: tuple[Package, ...] = ()
    where: tuple[str, ...] = ()

    def __add__(self, other: Listing) -> Listing:
        once: dict[tuple[str, SpecifierSet, str], Package] = {}
        count: Counter[str] = Counter()
        for one in (*self.packages, *other.packages):
            key = (one.name, one.specifier, one.extra)
            if key not in once and count[one.name] < LIMIT_LINES:
                once[key] = one
                count[one.name] += 1
        return Listing(
            tuple(once.values()),
            self.unread + other.unread,
            self.unjudged + other.unjudged,
            self.logged + other.logged,
            self.where + other.where,
        )

    def always(self) -> Listing:
        """Without what is optional."""
        return replace(self, packages=tuple(one for one in self.packages if not one.extra))

    @cached_property
    def by_name(self) -> dict[str, tuple[Package, ...]]:
        """The lines of each package."""
        found: dict[str, tuple[Package, ...]] = {}
        for one in self.packages:
            found[one.name] = (*found.get(one.name, ()), one)
        return found

    def find(self, *names: str) -> tuple[Package, ...]:
        """The lines that name one of these packages."""
        return tuple(one for name in names for one in self.by_name.get(name, ()))

    def has(self, *names: str) -> bool:
        """Whether it names one of these packages."""
        return bool(self.find(*names))


@dataclass
class Draft:
    """A listing while a reader fills it."""

    where: str
    packages: list[Package] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    def add(self, name: str, specifier: str, place: str, extra: str = "") -> None:
        """A package, or a line that is not understood."""
        try:
            wanted = SpecifierSet(specifier) if len(specifier) <= LIMIT_TEXT else None
        except InvalidSpecifier:
            wanted = None
        if wanted is None:
            self.unread.append(f"{place}: '{short(specifier)}' is no range of versions")
        else:
            self.packages.append(Package(canonicalize_name(name), wanted, place, extra))

    def done(self) -> Listing:
        """What has been read."""
        return Listing(tuple(self.packages), tuple(self.unread), tuple(self.unjudged), where=(self.where,))


def short(text: str, limit: int = 60) -> str:
    """A piece of somebody's file as a message can bear it."""
    plain = " ".join("".join(one if one.isprintable() else "?" for one in text).split())
    return plain if len(plain) <= limit else f"{plain[:limit]}…"


def meet(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether some version is taken by both.

    A range begins or ends at a version that is written in it, so one of those, or one just beside them, is taken by both
    when any is.
    """
    both = one & other
    candidates = {Version("0"), Version("99999")}
    for specifier in both:
        written = _version(specifier.version.removesuffix(".*"))
        if written is None:  # "===" takes any text
            return True
        candidates |= {written, *_beside(written)}
    return any(both.contains(candidate, prereleases=True) for candidate in candidates)


def disagree(lines: Sequence[Package]) -> tuple[Package, Package] | None:
    """The first two of these lines of one package that have no version in common."""
    pairs = ((one, other) for one, other in combinations(lines, 2) if not meet(one.specifier, other.specifier))
    return next(pairs, None)


def listed(lines: Sequence[object], limit: int = 5) -> str:
    """The first of them in a row, and how many more there are."""
    shown = ", ".join(map(str, lines[:limit]))
    return shown + (f" and {len(lines) - limit} more" if len(lines) > limit else "")


def _beside(version: Version) -> tuple[Version, Version]:
    """The first final version after this one, and one that lies before it but after the last release."""
    release = ".".join(map(str, version.release))
    *head, last = version.release
    before = [*head, last - 1, 99999] if last else [*head, 0]
    return Version(f"{version.epoch}!{release}.0.0.1"), Version(f"{version.epoch}!{'.'.join(map(str, before))}")


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
