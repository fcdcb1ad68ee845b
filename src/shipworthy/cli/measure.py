"""The verb ``measure``."""

from __future__ import annotations

import click

from shipworthy.cli import options, pipeline


@click.command("measure", help="Measure every variant on this machine, each in a fresh process, and judge it by the gates.")
@options.of_a_model
def command(way: options.Way) -> None:
    """Run the way up to this stage."""
    pipeline.run("measure", way)
