"""Reads requirements.txt, what it includes, and what ``pip freeze`` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from shipworthy.check.environment import text
from shipworthy.check.environment.listing import LIMIT_TEXT, Draft, Listing, Package, short

LIMIT_FILES = 20
INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(.+)$")
EDITABLE = re.compile(r"^(?:-e|--editable)\b")
ADDRESS = re.compile(r"^[\w+.-]+://|^git\+|^\.{0,2}/|^[^@;=<>\s]+\.(?:whl|zip|tar\.gz)\b")
# From a space and two dashes on come options of this one package, as --hash=sha256:...
OPTIONS = re.compile(r"\s--[a-z].*$")
COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass
class _Walk:
    """A file, and those that it includes: each once, inside of its folder only."""

    folder: Path
    draft: Draft
    constraints: list[Package] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)


def read(path: Path) -> Listing:
    """The packages of a requirements file and of what it includes from its own folder.

    Raises:
        Unreadable: the file itself cannot be read; one that it includes is a line that could not be read.
    """
    found = text.lines(path)
    walk = _Walk(path.resolve().parent, Draft(path.name))
    walk.seen.add(path.resolve())
    _file(found, path, walk, walk.draft.packages)
    narrowed = []
    for package in walk.draft.packages:
        limits = [one.specifier for one in walk.constraints if one.name == package.name]
        for limit in limits:
            package = replace(package, specifier=package.specifier & limit)  # noqa: PLW2901
        narrowed.append(package)
    walk.draft.packages = narrowed
    return walk.draft.done()


def entry(line: str, place: str, draft: Draft, extra: str = "") -> None:
    """One requirement as PEP 508 has it, into the draft; one whose marker does not hold here is left out."""
    try:
        requirement = Requirement(line) if len(line) <= LIMIT_TEXT else None
        holds = requirement is None or requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    except (InvalidRequirement, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName):
        requirement, holds = None, True
    if requirement is None:
        draft.unread.append(f"{place}: '{short(line)}' is no requirement")
    elif not holds:
        return
    elif requirement.url:
        draft.unjudged.append(f"{place}: {short(requirement.name)} from an address")
    else:
        draft.packages.append(Package(canonicalize_name(requirement.name), requirement.specifier, place, extra))


def _file(found: list[str], path: Path, walk: _Walk, into: list[Package]) -> None:
    draft = Draft(path.name, into, walk.draft.unread, walk.draft.unjudged)
    for number, line in _logical(found):
        place = f"{path.name}, line {number}"
        include = INCLUDE.match(line)
        if include:
            constraint = line.startswith(("-c", "--constraint"))
            _include(include[1].strip().strip("\"'"), place, path, walk, walk.constraints if constraint else into)
        elif EDITABLE.match(line):
            draft.unjudged.append(f"{place}: an editable folder or address")
        elif line.startswith("-"):
            continue  # an option of pip, as where to look for packages
        elif ADDRESS.match(line):
            draft.unjudged.append(f"{place}: an address or a file")
        else:
            entry(OPTIONS.sub("", line), place, draft)


def _include(name: str, place: str, path: Path, walk: _Walk, into: list[Package]) -> None:
    unread = walk.draft.unread
    try:
        other = (path.parent / name).resolve()
        inside = other.is_relative_to(walk.folder)
    except (OSError, ValueError, RuntimeError):  # a name too long or with a null in it, a loop of links
        unread.append(f"{place}: '{short(name)}' is no file")
        return
    if not inside:
        unread.append(f"{place}: {short(name)} lies outside of the folder of the list")
    elif other in walk.seen:
        return
    elif len(walk.seen) >= LIMIT_FILES:
        unread.append(f"{place}: more than {LIMIT_FILES} files")
    else:
        walk.seen.add(other)
        try:
            _file(text.lines(other), other, walk, into)
        except text.Unreadable as error:
            unread.append(f"{place}: {short(name)}: {error.why}")


def _logical(found: list[str]) -> Iterator[tuple[int, str]]:
    """Lines that a backslash joins as one, without comments and empty ones; each with the number of its first."""
    held, begun = "", 0
    for number, line in enumerate([*found, ""], 1):
        begun = begun or number
        if line.endswith("\\") and number <= len(found) and not line.lstrip().startswith("#"):
            held += line[:-1] + " "
            continue
        whole = COMMENT.sub("", held + line).strip()
        if whole:
            yield begun, whole
        held, begun = "", 0
