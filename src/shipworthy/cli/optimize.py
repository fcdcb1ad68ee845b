"""The verb ``optimize``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from shipworthy.cli import options, pipeline
from shipworthy.files import machine_errors


@click.command("optimize", help="Make the smaller and faster variants of the model in WHAT; measure tells which of them pays.")
@options.of_a_model
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Also write the variants to this folder.")
def command(way: options.Way, output: Path | None) -> None:
    """Run the way up to this stage."""
    pipeline.run("optimize", way, after=lambda shipment: _copy(output, shipment))


def _copy(output: Path | None, shipment: pipeline.Shipment) -> None:
    if output is None or shipment.optimized is None:
        return
    with machine_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for variant in shipment.optimized.variants:
            shutil.copyfile(variant.path, output / f"{shipment.name}-{variant.name}.onnx")
