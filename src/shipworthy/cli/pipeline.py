"""What the verbs of the way have in common: settings in, ``ship`` up to a stage, records out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shipworthy import records
from shipworthy.cli import options
from shipworthy.records import Shipment

if TYPE_CHECKING:
    from shipworthy.settings import Settings
    from shipworthy.ship import Stage

GATE_SAID_NO = 1


def run(
    until: Stage,
    way: options.Way,
    after: Callable[[Shipment], None] = lambda _: None,
    tell: Callable[[Shipment, Settings], None] | None = None,
) -> None:
    """Run the way up to a stage, print what came out, and exit with 1 when something said no.

    ``after`` is called before anything is printed; ``tell`` prints for people, instead of ``show``.
    """
    settings = options.read_settings(way)  # refused before anything heavy is imported
    from shipworthy.cli.progress import sink  # noqa: PLC0415
    from shipworthy.ship import ship  # noqa: PLC0415
    from shipworthy.workspace import Workspace  # noqa: PLC0415

    with sink() as told:
        shipment = ship(settings, Workspace(way.workspace), target=way.target, until=until, sink=told)
    after(shipment)
    with _unheard():
        if way.as_json:
            click.echo(json.dumps(records.dump(shipment), indent=2))
        elif tell:
            tell(shipment, settings)
        else:
            from shipworthy.cli.show import show  # noqa: PLC0415

            show(shipment, settings)
    if shipment.stopped:
        raise click.exceptions.Exit(GATE_SAID_NO)


@contextmanager
def _unheard() -> Iterator[None]:
    """Whoever reads us may go at any time (``| head``): the exit code is the verdict all the same."""
    try:
        yield
        if sys.stdout is not None:  # closed before we began
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["Shipment", "run"]
