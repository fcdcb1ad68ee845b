"""Write the pages of docs/ that are made from the code, or say which are out of date.

``python docs/generate.py`` writes them; ``--check`` writes nothing, names the stale ones and exits with 1.
A new page is a function that gives its text, and a line in ``PAGES``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from shipworthy import initialize
from shipworthy.files import write_bytes
from shipworthy.settings import FILE_NAME

DOCS = Path(__file__).parent


def settings_page() -> str:
    """The reference of shipworthy.toml, from the settings records."""
    lines = [
        f"# {FILE_NAME}",
        "",
        "Written by `make docs` from `src/shipworthy/settings.py`; do not edit.",
        "",
        "An unknown key is an error that names the nearest right one. Precedence: a flag (`--set gates.p99_ms=5`), then the",
        "file, then the default. Paths are relative to the file. MB is 10**6 bytes. `shipworthy init MODEL` writes a commented",
        "file to start from.",
    ]
    for group in initialize.groups():
        about = group.about[:1].upper() + group.about[1:]
        lines += ["", f"## [{group.name}]", "", about, "", "| key | type | unit | range | default | what it is for |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [row(option) for option in group.options]
    return "\n".join(lines) + "\n"


def row(option: initialize.Option) -> str:
    """One option as a line of a table."""
    default = (
        "**required**" if option.required else "none" if option.default is None else f"`{initialize.toml(option.default)}`"
    )
    cells = [f"`{option.key}`", option.kind, option.unit, option.limits, default, option.about]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


PAGES: Mapping[str, Callable[[], str]] = {"settings.md": settings_page}


def stale(folder: Path, pages: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """Name to new text of the pages whose file in ``folder`` is missing or says something else."""
    made = {name: make() for name, make in pages.items()}
    paths = {name: folder / name for name in made}
    return {name: text for name, text in made.items() if not paths[name].is_file() or paths[name].read_bytes() != text.encode()}


def main() -> int:
    """Write or check all pages; the exit code."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is out of date")
    check = parser.parse_args().check
    found = stale(DOCS, PAGES)
    for name, text in found.items():
        if check:
            print(f"docs/{name} is out of date: write it with make docs", file=sys.stderr)
        else:
            write_bytes(DOCS / name, text.encode())
            print(f"docs/{name}")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
