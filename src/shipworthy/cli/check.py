"""The verb ``check``."""

from __future__ import annotations

import click

from shipworthy.cli import options, pipeline


@click.command("check", help="Find what would break in production: format, signature, parity with the framework.")
@options.of_a_model
def command(way: options.Way) -> None:
    """Run the way up to this stage."""
    pipeline.run("check", way)
