"""The verb ``ship``."""

from __future__ import annotations

import click

from shipworthy.cli import options, pipeline


@click.command(
    "ship", help="Take the model in WHAT the whole way: train, check, optimize, measure, gate, release, verify, promote."
)
@options.of_a_model
def command(way: options.Way) -> None:
    """Run the whole way."""
    pipeline.run("ship", way)
