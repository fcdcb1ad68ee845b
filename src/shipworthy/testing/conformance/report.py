"""Results as a table in Markdown, of one server or of several beside each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shipworthy.testing.conformance.examine import Examination, Result
from shipworthy.testing.conformance.laws import GROUPS

MARKS = {"held": "held", "broken": "**broken**", "not offered": "—", "not tried": "·"}
TITLES = {group.key: group.title for group in GROUPS}


def as_dict(examination: Examination) -> dict[str, Any]:
    """All of it as plain data, with the counts of each state."""
    return {
        "server": examination.server,
        "version": examination.version,
        "model": examination.model,
        "conforms": examination.conforms,
        "counts": counts(examination.results),
        "results": [asdict(one) for one in examination.results],
    }


def counts(results: Sequence[Result]) -> dict[str, int]:
    """How many laws are in each state."""
    return {state: sum(one.state == state for one in results) for state in MARKS}


def markdown(examinations: Mapping[str, Examination]) -> str:
    """The laws as lines, the servers as columns; below each group what is broken, and how."""
    lines = ["| | " + " | ".join(examinations) + " |", "|---|" + "---|" * len(examinations)]
    lines.append(f"| says it is | {' | '.join(f'{_cell(one.server)} {_cell(one.version)}' for one in examinations.values())} |")
    for level in ("specification", "client", "extension"):
        cells = []
        for one in examinations.values():
            found = counts([result for result in one.results if result.level == level])
            cells.append(f"{found['held']} held, {found['broken']} broken, {found['not offered']} not offered")
        lines.append(f"| {level} | " + " | ".join(cells) + " |")
    keys = dict.fromkeys(result.group for one in examinations.values() for result in one.results)
    for key in keys:
        lines += ["", f"## {TITLES[key]}", "", *_group(key, examinations)]
    return "\n".join(lines) + "\n"


def _group(key: str, examinations: Mapping[str, Examination]) -> list[str]:
    by_server = {name: {one.id: one for one in examination.results} for name, examination in examinations.items()}
    laws = {one.id: one for found in by_server.values() for one in found.values() if one.group == key}
    lines = [f"| law | | {' | '.join(by_server)} |", "|---|---|" + "---|" * len(by_server)]
    broken = []
    for law in laws.values():
        found = {name: results.get(law.id) for name, results in by_server.items()}
        cells = [MARKS[one.state] if one else "" for one in found.values()]
        lines.append(f"| {_cell(law.law)}<br>`{law.id}`: {_cell(law.source)} | {law.level} | {' | '.join(cells)} |")
        broken += [
            f"- `{law.id}`, {name}: expected {_code(one.expected)}, found {_code(one.found)}"
            for name, one in found.items()
            if one and one.state == "broken"
        ]
    return [*lines, "", *broken] if broken else lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"
