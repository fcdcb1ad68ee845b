"""The verb ``key``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shipworthy.cli import options


@click.command("key")
@click.argument("name")
@click.option("--models", metavar="NAME,...", help="Models that the key may use [default: all].")
@click.option("--operate", is_flag=True, help="It may load and unload them, too.")
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Put its entry at the end of this file.")
@options.as_json
@options.debug
def command(name: str, models: str | None, operate: bool, path: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Make a key called NAME for callers of a server.

    The key is printed here and nowhere else; its entry, for the file that serve gets as --api-key-file, holds only a hash.
    """
    from shipworthy.serve import keys  # noqa: PLC0415

    listed = tuple(word for word in (models or "").split(",") if word)
    key, entry = keys.make(name, listed, operate=operate)
    if path:
        keys.append(path, entry)
    if as_json:
        click.echo(json.dumps({"key": key, "entry": entry}))
        return
    where = f"its entry is in {path}" if path else "its entry, for the file of --api-key-file"
    lines = [key, "", "keep it now: it is shown once; " + where]
    click.echo("\n".join(lines if path else [*lines, "", entry.rstrip()]))
