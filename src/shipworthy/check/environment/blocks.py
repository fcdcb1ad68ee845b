"""Reads the part of YAML that lists of packages are written in: keys at the margin, below them lists, in those one more.

Nothing of YAML comes with the base install, and these files need little of it. What goes beyond that little (anchors,
texts over several lines, lists in brackets) is refused by name where it stands below a key that we need, and skipped
elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shipworthy.check.environment.text import Unreadable

KEY = re.compile(r"^([A-Za-z_][\w .-]*):(?:\s+(.*))?$")
BEYOND = tuple("&*!|>{[%@`?")
MEND = "write it as conda env export does: one package a line"


@dataclass
class Block:
    """What stands below one key: its own value, or its list; ``lists`` are those below a key in that list (``pip:``)."""

    value: str = ""
    items: list[tuple[int, str]] = field(default_factory=list)
    lists: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


def parse(lines: list[str], wanted: frozenset[str]) -> dict[str, Block]:
    """The wanted keys with what stands below them; items with the number of their line.

    Raises:
        Unreadable: something below a wanted key is no list of plain texts, or a wanted key stands there twice.
    """
    found: dict[str, Block] = {}
    block: Block | None = None
    depth, inner = -1, ""
    for number, raw in enumerate(lines, 1):
        line = _bare(raw)
        if not line or line in {"---", "..."}:
            continue
        indent = len(line) - len(line.lstrip(" "))
        text = line.strip(" ")
        top = KEY.match(line)
        if top:
            block, depth, inner = None, -1, ""
            if top[1] in wanted:
                if top[1] in found:
                    raise _refuse(number, f"'{top[1]}' stands there twice")
                block = found[top[1]] = Block(_plain(top[2] or "", number))
        elif block is not None:
            if "\t" in line[: indent + 1] or not text.startswith("- ") or block.value:
                raise _refuse(number, "it is no list with one text a line")
            item = text[2:].strip()
            depth = indent if depth < 0 else depth
            if indent < depth or (indent > depth and not inner):
                raise _refuse(number, "it is indented in a way that lists of packages are not")
            if indent > depth:
                block.lists[inner].append((number, _plain(item, number)))
            elif re.match(r"^[\w-]+:$", item):
                inner = item[:-1]
                block.lists.setdefault(inner, [])
            else:
                inner = ""
                block.items.append((number, _plain(item, number)))
        elif indent == 0 and not line.startswith("- "):
            raise _refuse(number, "it is no key with a colon")
    return found


def _bare(line: str) -> str:
    """A line without its comment."""
    return re.sub(r"(?:^|\s)#.*$", "", line.rstrip()).rstrip()


def _plain(text: str, number: int) -> str:
    """A text without its quotes."""
    if text.startswith(BEYOND):
        raise _refuse(number, "it is YAML of a kind that is not read here")
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    if text[:1] in {'"', "'"}:
        raise _refuse(number, "it has a quote without an end")
    return text


def _refuse(number: int, why: str) -> Unreadable:
    return Unreadable(f"line {number}: {why}", MEND)
