"""The verb ``optimize``."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import click

from shipworthy.cli import options, pipeline
from shipworthy.errors import Refused
from shipworthy.files import machine_errors
from shipworthy.records import Precision, Target, Variant

SECONDS = {"s": 1, "m": 60, "h": 3600}
# What a pass puts into the graph, the narrowest first.
PRECISIONS: dict[str, Precision] = {"int8_static": "int8", "fp16": "float16", "bf16": "bfloat16"}


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
    pipeline.run("measure", way, after=lambda shipment: _write(output, way, shipment))


def _write(output: Path | None, way: options.Way, shipment: pipeline.Shipment) -> None:
    """The variants in a folder of the user's; for TensorRT, whose engines are built elsewhere, each with its plan."""
    if output is None or shipment.optimized is None:
        return
    target = options.read_settings(way).target(way.target)
    with machine_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for variant in shipment.optimized.variants:
            path = output / f"{shipment.name}-{variant.name}.onnx"
            shutil.copyfile(variant.path, path)
            if target.runtime == "tensorrt":
                _plan(path, variant, shipment, target)


def _plan(path: Path, variant: Variant, shipment: pipeline.Shipment, target: Target) -> None:
    from shipworthy.backends.tensorrt_plan import Options  # noqa: PLC0415  the help answers at once
    from shipworthy.optimize.tensorrt import propose  # noqa: PLC0415

    applied = {step.name for step in variant.chain}
    precision: Precision = next((one for word, one in PRECISIONS.items() if word in applied), "float32")
    try:
        propose(path, shipment.model.signature, target, Options(precision=precision))
    except Refused as error:
        click.echo(f"no plan for {variant.name}: {error.what}: {error.found}", err=True)
