"""Nothing in the tree names a package registry's host, or a path of the machine that somebody worked on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written so that this file does not match itself.
HOSTS = (
    r"pypi\.(?:org|python)",
    r"pythonhosted\.org",
    r"registry\.(?:npmjs|yarnpkg)\.",
    r"(?<![\w.])crates\.io",
    r"proxy\.golang\.org",
    r"anaconda\.org",
    r"(?:index|extra-index)[-_]url\s*=",
)
PATHS = (
    r"(?<![\w.~$})/-])/(?:home|Users|work|builds|workspaces?|__w)/[\w.]",
    r"(?<![\w.~$})/-])/root/",
    r"(?i:[a-z]:\\{1,2}users\\)",
)


def leaks(text: str, also: tuple[str, ...] = ()) -> list[str]:
    """The lines that name a registry's host or a developer's machine; ``also`` are more words that may not stand there."""
    pattern = re.compile("|".join([*HOSTS, *PATHS, *(re.escape(word) for word in also)]))
    return [f"line {number}: {line.strip()[:120]}" for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def tree() -> list[Path]:
    """The files of the project: those in git, and those that would come in."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_machine():
    files = tree()
    assert Path(__file__) in files
    found = {}
    for path in files:
        if said := leaks(path.read_bytes().decode(errors="replace"), also=(str(ROOT),)):
            found[str(path.relative_to(ROOT))] = said
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "see https://" + "pypi" + ".org/project/x",
        "https://files." + "pythonhosted" + ".org/packages",
        "[global]\nindex" + "-url = https://mirror.example",
        "model = '/" + "home/ann/model.onnx'",
        "open(/" + "Users/ann/x)",
        "cd /" + "root/project",
        r"C:" + r"\Users\ann",
        "in elsewhere/checkout too",
    ],
)
def test_the_checker_sees(text):
    assert len(leaks(text, also=("elsewhere/checkout",))) == 1


@pytest.mark.parametrize("text", ["$HOME/work/x", "docs/work/page.md", "GET /v2/models", "~/home/x", "mycrates.io"])
def test_the_checker_lets_pass(text):
    assert leaks(text) == []
