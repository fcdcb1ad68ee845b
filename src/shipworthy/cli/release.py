"""The verb ``release``."""

from __future__ import annotations

import click

from shipworthy.cli import options, pipeline


@click.command(
    "release",
    help="Put the best variant that passes every gate into the registry, on its measured evidence. "
    "The verb ship also serves it and compares the served answers before it moves the alias.",
)
@options.of_a_model
def command(way: options.Way) -> None:
    """Run the way up to this stage."""
    pipeline.run("release", way)
