"""The pages that are made from the code are up to date, and a stale one is seen."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shipworthy import check, initialize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_or_missing_page_is_named_and_written(generate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    monkeypatch.setattr(generate, "PAGES", {"a.md": lambda: "new\n", "b.md": lambda: "same\n", "c.md": lambda: "made\n"})
    (tmp_path / "a.md").write_text("old\n")
    (tmp_path / "b.md").write_text("same\n")
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 1
    said = capsys.readouterr().err
    assert re.findall(r"docs/(\w\.md) is out of date", said) == ["a.md", "c.md"]
    assert (tmp_path / "a.md").read_text() == "old\n"
    monkeypatch.setattr("sys.argv", ["generate.py"])
    assert generate.main() == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.md": "new\n", "b.md": "same\n", "c.md": "made\n"}
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 0


def test_every_option_has_its_line_in_the_reference(generate):
    page = generate.settings_page()
    for group in initialize.groups():
        section = page.partition(f"## {group.head}\n")[2].partition("\n## ")[0]
        for option in group.options:
            assert f"| `{option.key}` | " in section
            assert f" | {option.about} |" in section
    assert "| `p99_ms` | number | ms | above 0" in page
    assert "## [[check.silence]]\n" in page
    assert "| `reason` | text |  | not empty | **required** | why it may be so" in page
    assert '| `goal` | one of "latency", "memory", "size", "throughput" |  |  | `"latency"` |' in page
    assert "| `name` | text |  | matches " in page
    assert " | **required** | what releases are called |" in page


def test_every_law_has_its_line_below_what_is_written_by_hand(generate, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    (tmp_path / "check.md").write_text(f"# By hand\n\n{generate.MADE}\nan old line\n")
    page = generate.check_page()
    assert page.startswith(f"# By hand\n\n{generate.MADE}\n## Laws\n")
    assert "an old line" not in page
    for law in check.LAWS:
        section = page.partition(f"### {law.name.partition('.')[0]}\n")[2].partition("\n### ")[0]
        assert f"| `{law.name}` | {law.severity} | " in section
    assert generate.cells("a|b", "<x>") == "| a\\|b | &lt;x> |"
    (tmp_path / "check.md").write_text(page)
    assert generate.check_page() == page


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
