"""The verb ``check``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shipworthy.cli import options, pipeline
from shipworthy.records import Shipment

if TYPE_CHECKING:
    from shipworthy.settings import Settings

FORMATS = ("table", "json", "sarif", "github")


@click.command(
    "check",
    help="Find what would break the model in WHAT in production: file, packages, signature, graph, numbers, memory. "
    "It looks from a process apart: a crash in a library is a finding, too. Exits with 1 on an error that "
    "[[check.silence]] in shipworthy.toml does not name.",
)
@options.of_a_model
@click.option(
    "--environment",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A list of the packages of serving, as requirements.txt, instead of the settings'; may be repeated.",
)
@click.option(
    "--training-environment",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A list of the packages of training, instead of the settings'; may be repeated.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="For people; as --json; for code scanning; as annotations of GitHub Actions [default: table].",
)
@click.option("--fix", is_flag=True, help="Write a mended copy beside the ONNX file, and check nothing: a free batch.")
def command(way: options.Way, form: str | None, *, fix: bool) -> None:
    """Run the way up to this stage, and tell what was found; or mend."""
    if fix:
        _fix(way)
        return
    if way.as_json and form not in {None, "json"}:
        raise click.UsageError(f"--json is --format json, and --format {form} was given, too")

    def tell(shipment: Shipment, settings: Settings) -> None:
        if form in {None, "table"}:
            from shipworthy.cli.findings import show  # noqa: PLC0415  the help answers at once

            show(shipment, settings, way)
        else:
            click.echo(_for_tools(form, shipment))

    pipeline.run("check", replace(way, as_json=way.as_json or form == "json"), tell=tell)


def _fix(way: options.Way) -> None:
    settings = options.read_settings(way)
    from shipworthy.check import mend  # noqa: PLC0415

    model = settings.file(settings.model.path)
    written, said = mend.fix(model)
    if way.as_json:
        click.echo(json.dumps({"model": str(model), "written": str(written) if said else None, "done": said}))
        return
    for line in said or (f"{model}: nothing to mend: the first dimension is free, and no weight is an input",):
        click.echo(line)
    if said:
        click.echo(f"written: {written}\nnext: shipworthy check {written}")


def _for_tools(form: str | None, shipment: Shipment) -> str:
    from importlib.metadata import version  # noqa: PLC0415  the help answers at once

    from shipworthy.check import LAWS, tell  # noqa: PLC0415

    path = Path(shipment.model.source.path)
    path = path.parent.resolve() / path.name  # a model that is a link is known by the link's place
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if form == "github":
        return tell.github(shipment.report, str(path))
    return tell.sarif(shipment.report, LAWS, shipment.name, str(path), version("shipworthy"))
