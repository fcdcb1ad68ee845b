"""Ceilings: a file has at most 400 lines, a function 60 (without its docstring), and 8 parameters (without self)."""

from __future__ import annotations

import ast
import datetime as dt
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "docs", "benchmarks", "examples")
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8

# "src/shipworthy/a.py" or "src/shipworthy/a.py:function" to the day by which it must be gone.
ALLOWED: dict[str, dt.date] = {}


def too_big(place: str, source: str) -> dict[str, str]:
    """Place (file, or file:function) to what is too big there."""
    lines = len(source.splitlines())
    found = {place: f"{lines} lines, at most {FILE_LINES}"} if lines > FILE_LINES else {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = []
            if (length := function_lines(node)) > FUNCTION_LINES:
                said.append(f"{length} lines, at most {FUNCTION_LINES}")
            if (count := parameters(node)) > PARAMETERS:
                said.append(f"{count} parameters, at most {PARAMETERS}")
            if said:
                found[f"{place}:{node.name}"] = "; ".join(said)
    return found


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, less those of the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """All parameters, also ``*args`` and ``**kwargs``, but not ``self`` and ``cls``."""
    taken = node.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    return sum(one is not None and one.arg not in {"self", "cls"} for one in every)


def judge(found: dict[str, str], allowed: dict[str, dt.date], today: dt.date) -> list[str]:
    """What breaks the ceilings: not allowed, allowed until a day that is past, or allowed for nothing."""
    new = [f"{place}: {what}" for place, what in found.items() if place not in allowed]
    overdue = [f"{place}: was to be gone by {day}" for place, day in allowed.items() if place in found and day < today]
    idle = [f"{place}: is within the ceilings, take it off the list" for place in allowed if place not in found]
    return new + overdue + idle


def test_nothing_is_too_big():
    found: dict[str, str] = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        found |= too_big(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    assert judge(found, ALLOWED, dt.datetime.now(dt.UTC).date()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 400, {}),
        ("x = 1\n" * 401, {"a.py": "401 lines, at most 400"}),
        ("def f():\n" + "    x = 1\n" * 59, {}),
        ("def f():\n" + "    x = 1\n" * 60, {"a.py:f": "61 lines, at most 60"}),
        ('def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 59, {}),
        ("class A:\n    async def f(self):\n" + "        x = 1\n" * 60, {"a.py:f": "61 lines, at most 60"}),
        ("def f(a, b, /, c, d=1, *, e, f, g, h=2): ...", {}),
        ("class A:\n    def f(self, a, b, c, d, e, f, g, h): ...", {}),
        ("def f(a, b, c, d, e, f, g, *h, **i): ...", {"a.py:f": "9 parameters, at most 8"}),
    ],
)
def test_the_checker_sees(source, expected):
    assert too_big("a.py", source) == expected


def test_the_list_of_exceptions_cannot_grow_old():
    day = dt.date(2026, 1, 2)
    found = {"new.py": "big", "fine.py": "big", "late.py": "big"}
    allowed = {"fine.py": day, "late.py": dt.date(2026, 1, 1), "idle.py": day}
    assert judge(found, allowed, day) == [
        "new.py: big",
        "late.py: was to be gone by 2026-01-01",
        "idle.py: is within the ceilings, take it off the list",
    ]
