"""Reads pyproject.toml: what the project depends on (PEP 621, and Poetry's table), its extras, and its Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from shipworthy.check.environment import text
from shipworthy.check.environment.listing import PYTHON, Draft, Listing, short
from shipworthy.check.environment.requirements import entry

NUMBERS = re.compile(r"^\d+(?:\.\d+)*$")


def read(path: Path) -> Listing:
    """The packages of a project, extras marked as such.

    Raises:
        Unreadable: no file, or no TOML.
    """
    try:
        data = tomllib.loads("\n".join(text.lines(path)))
    except (ValueError, RecursionError) as error:
        raise text.Unreadable(f"it is no TOML: {error}", "mend the line that is named") from None
    draft = Draft(path.name)
    project, poetry = _table(data, "project"), _table(data, "tool", "poetry")
    if not project and not poetry:
        raise text.Unreadable("it has neither [project] nor [tool.poetry]", "name a list that has packages")
    if isinstance(python := project.get("requires-python"), str):
        draft.add(PYTHON, python, f"{path.name}, requires-python")
    _lines(project.get("dependencies", []), f"{path.name}, dependencies", draft)
    for extra, lines in _table(project, "optional-dependencies").items():
        _lines(lines, f"{path.name}, extra {short(extra)}", draft, extra)
    for name, wanted in _table(poetry, "dependencies").items():
        _poetry(name, wanted, f"{path.name}, tool.poetry", draft)
    return draft.done()


def _table(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The table below these keys; empty when there is none."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _lines(found: object, place: str, draft: Draft, extra: str = "") -> None:
    if not isinstance(found, list):
        draft.unread.append(f"{place}: no list")
        return
    for line in found:
        if isinstance(line, str):
            entry(line, place, draft, extra)
        else:
            draft.unread.append(f"{place}: '{short(str(line))}' is no requirement")


def _poetry(name: str, wanted: object, place: str, draft: Draft) -> None:
    optional = isinstance(wanted, dict) and bool(wanted.get("optional"))
    version = wanted.get("version") if isinstance(wanted, dict) else wanted
    if not isinstance(version, str):
        draft.unjudged.append(f"{place}: {short(name)} without a version")
        return
    if "||" in version or "|" in version:
        draft.unjudged.append(f"{place}: {short(name)} with alternatives of versions")
        return
    ranges = [_range(part.strip()) for part in version.split(",")]
    draft.add(name, ",".join(filter(None, ranges)), place, "optional" if optional else "")


def _range(part: str) -> str:
    """Poetry's words for a range as PEP 440 has them: ``^1.2`` up to the next change of the first number but zero."""
    sign, numbers = part[:1], part[1:].strip()
    if part == "*":
        return ""
    if NUMBERS.match(part):
        return f"=={part}"
    if sign not in {"^", "~"} or part.startswith("~=") or not NUMBERS.match(numbers):
        return part if not re.match(r"^[\d.]+\*$", part) else f"=={part}"
    release = [int(one) for one in numbers.split(".")]
    last = len(release) - 1
    moves = next((at for at, one in enumerate(release) if one), last) if sign == "^" else min(1, last)
    ceiling = [*release[:moves], release[moves] + 1]
    return f">={numbers},<{'.'.join(map(str, ceiling))}"
