"""The verb ``init``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shipworthy.cli import options


@click.command("init")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the shipworthy.toml that is there.")
@options.as_json
@options.debug
def command(model: Path, force: bool, as_json: bool) -> None:  # noqa: FBT001
    """Write a commented shipworthy.toml beside MODEL by looking at it."""
    from shipworthy.initialize import write  # noqa: PLC0415

    path = write(model, force=force)
    if as_json:
        click.echo(json.dumps({"settings": str(path)}))
    else:
        click.echo(f"wrote {path}\nnext:  shipworthy ship {path.parent}")
