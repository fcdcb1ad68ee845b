"""Reads conda.yaml with the list of pip in it, and the python_env.yaml that MLflow writes."""

from __future__ import annotations

import re
from pathlib import Path

from shipworthy.check.environment import blocks, requirements, text
from shipworthy.check.environment.listing import PYTHON, Draft, Listing, short

# What a package is called on the other side.
NAMES = {"pytorch": "torch", "py-xgboost": "xgboost"}
SPEC = re.compile(r"^(?:[\w./-]+::)?([A-Za-z0-9_][\w.-]*)\s*(.*)$")
BUILD = re.compile(r"^=?\s*([\w.!+*]+)\s*=\s*[\w.*]+$")
FUZZY = re.compile(r"^=\s*([\w.!+]+?)(?:\.?\*)?$")
KEYS = frozenset({"dependencies", "python", "build_dependencies"})


def read(path: Path) -> Listing:
    """The packages of a conda environment, or of MLflow's python_env.yaml.

    Raises:
        Unreadable: no file, or none of these two.
    """
    found = blocks.parse(text.lines(path), KEYS)
    if not found:
        raise text.Unreadable("it has no dependencies", "name a conda.yaml, or: pip freeze > requirements.txt")
    draft = Draft(path.name)
    dependencies = found.get("dependencies", blocks.Block())
    if "python" in found:  # only python_env.yaml has it at the margin; its lists are those of pip
        draft.add(PYTHON, f"=={found['python'].value}", f"{path.name}, python")
        for number, line in dependencies.items:
            if not line.startswith("-"):
                requirements.entry(line, f"{path.name}, line {number}", draft)
        return draft.done()
    for number, line in dependencies.items:
        _spec(line, f"{path.name}, line {number}", draft)
    for number, line in dependencies.lists.get("pip", []):
        place = f"{path.name}, line {number}"
        if line.startswith("-"):
            draft.unjudged.append(f"{place}: an option of pip, '{short(line)}'")
        elif requirements.ADDRESS.match(line):
            draft.unjudged.append(f"{place}: an address or a file")
        else:
            requirements.entry(line, place, draft)
    return draft.done()


def _spec(line: str, place: str, draft: Draft) -> None:
    """One of conda's own lines: ``name=1.2`` is any 1.2.x, ``name=1.2.3=build`` and ``name==1.2.3`` that one."""
    match = SPEC.match(line)
    if not match:
        draft.unread.append(f"{place}: '{short(line)}' is no package of conda's")
        return
    name, wanted = NAMES.get(match[1].lower(), match[1]), match[2].strip()
    if "|" in wanted or "[" in wanted:
        draft.unjudged.append(f"{place}: {short(name)} with alternatives of versions")
        return
    built, fuzzy = BUILD.match(wanted), FUZZY.match(wanted)
    if built and not wanted.startswith("=="):
        wanted = f"=={built[1]}"
    elif fuzzy and not wanted.startswith("=="):
        wanted = f"=={fuzzy[1]}.*"
    elif re.match(r"^\d[\w.]*(?:\*)?$", wanted):
        wanted = f"=={wanted}"
    draft.add(name, wanted, place)
