"""Every public module, class and function says what it is for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "shipworthy"


def silent(place: str, source: str) -> list[str]:
    """The public things in a source that have no docstring. A name that begins with ``_`` is not public."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else [place]

    def visit(node: ast.Module | ast.ClassDef, within: str) -> None:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                if not ast.get_docstring(child):
                    found.append(f"{within}{child.name}")
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{within}{child.name}.")

    visit(tree, f"{place}: ")
    return found


def test_everything_public_says_what_it_is_for():
    found: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += silent(str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""M."""\ndef _f(): ...\nclass _A:\n    def f(self): ...', []),
        ('"""M."""\ndef f():\n    """F."""\n    def inner(): ...', []),
        ("x = 1", ["a.py"]),
        ('"""M."""\nasync def f(): ...', ["a.py: f"]),
        ('"""M."""\nclass A:\n    """ """\n    def __init__(self): ...', ["a.py: A"]),
        ('"""M."""\nclass A:\n    """A."""\n    class B:\n        """B."""\n        def f(self): ...', ["a.py: A.B.f"]),
    ],
)
def test_the_checker_sees(source, expected):
    assert silent("a.py", source) == expected
