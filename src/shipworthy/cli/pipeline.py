"""What the verbs of the way have in common: settings in, ``ship`` up to a stage, records out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from shipworthy import records
from shipworthy.cli import options
from shipworthy.records import Shipment

GATE_SAID_NO = 1


def run(
    until: str,
    what: Path,
    workspace: Path,
    target: str | None,
    trust: bool,  # noqa: FBT001
    data: Path | None,
    changes: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
    after: Callable[[Shipment], None] = lambda _: None,
) -> None:
    """Run the way up to a stage, print what came out, and exit with 1 when something said no."""
    settings = options.read_settings(what, changes, trust=trust, data=data)
    from shipworthy.cli.progress import sink  # noqa: PLC0415  (settings are refused before anything heavy is imported)
    from shipworthy.ship import ship  # noqa: PLC0415
    from shipworthy.workspace import Workspace  # noqa: PLC0415

    with sink() as told:
        shipment = ship(settings, Workspace(workspace), target=target, until=until, sink=told)  # type: ignore[arg-type]
    after(shipment)
    if as_json:
        click.echo(json.dumps(records.dump(shipment), indent=2))
    else:
        from shipworthy.cli.show import show  # noqa: PLC0415

        show(shipment, settings)
    if shipment.stopped:
        raise click.exceptions.Exit(GATE_SAID_NO)


__all__ = ["Shipment", "run"]
