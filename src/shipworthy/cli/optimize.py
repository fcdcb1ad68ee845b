"""The verb ``optimize``."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import click

from shipworthy.cli import options, pipeline
from shipworthy.files import machine_errors

SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """A time as 90, 90s, 10m or 1h, in seconds; anything else is an error of usage."""
    if value is None:
        return None
    said = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if not said or not float(said[1]):
        raise click.BadParameter(f"'{value}' is no time; write 90s, 10m or 1h")
    return float(said[1]) * SECONDS[said[2] or "s"]


@click.command(
    "optimize", help="Find the fastest (or smallest) variant of the model in WHAT for which every gate holds, and prove it."
)
@options.of_a_model
@click.option(
    "--budget", metavar="TIME", callback=seconds, help="Begin no other variant after that time, as 10m [default: 10m]."
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Also write the variants to this folder.")
def command(way: options.Way, budget: float | None, output: Path | None) -> None:
    """Run the way up to the choice."""
    if budget is not None:
        way = replace(way, changes=(*way.changes, f"optimize.budget_seconds={budget:g}"))
    pipeline.run("measure", way, after=lambda shipment: _copy(output, shipment))


def _copy(output: Path | None, shipment: pipeline.Shipment) -> None:
    if output is None or shipment.optimized is None:
        return
    with machine_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for variant in shipment.optimized.variants:
            shutil.copyfile(variant.path, output / f"{shipment.name}-{variant.name}.onnx")
