"""The verb ``check``."""

from __future__ import annotations

import json

import click

from shipworthy.cli import options, pipeline


@click.command("check", help="Find what would break in production: format, signature, parity with the framework.")
@options.of_a_model
@click.option("--fix", is_flag=True, help="Write a mended copy beside the ONNX file, and check nothing: a free batch.")
def command(way: options.Way, *, fix: bool) -> None:
    """Run the way up to this stage, or mend."""
    if not fix:
        pipeline.run("check", way)
        return
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
