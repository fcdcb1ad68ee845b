"""The verb ``serve``."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import click

from shipworthy.cli import options


@click.command("serve")
@click.argument("what")
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one [default: 8000].")
@click.option("--grpc-port", type=int, help="Port for gRPC, 0 for a free one [default: the one after --port].")
@options.changes
@options.workspace
@options.as_json
@options.debug
@click.option("--workers", default="auto", help="Processes: auto is one a core for short runs, one for long ones.")
@click.option("--no-tune", is_flag=True, help="Do not measure a run at load where no evidence tells its cost.")
@click.option("--stop-with-parent", is_flag=True, hidden=True, help="End when standard input closes.")
def command(
    what: str,
    changes: tuple[str, ...],
    workspace: Path,
    as_json: bool,  # noqa: FBT001
    stop_with_parent: bool,  # noqa: FBT001
    **flags: Any,
) -> None:
    """Answer predictions over HTTP and gRPC until told to stop.

    WHAT is a release (digits, digits@champion, digits@3), a bundle folder, a folder with a shipworthy.toml whose release
    is meant, or an .onnx file.
    """
    # Numpy's own threads would do nothing here but take memory; it reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    overrides = options.read_changes(changes)
    if flags["host"] is not None:
        overrides["serve.host"] = f"'{flags['host']}'"
    if flags["port"] is not None:
        overrides["serve.port"] = str(flags["port"])
        # Whoever names one port wants the other beside it, and whoever takes a free one takes two.
        overrides["serve.grpc_port"] = str(flags["port"] and flags["port"] + 1)
    if flags["grpc_port"] is not None:
        overrides["serve.grpc_port"] = str(flags["grpc_port"])
    if flags["workers"] != "auto":
        overrides["serve.workers"] = flags["workers"]
    if flags["no_tune"]:
        overrides["serve.tune"] = "false"
    from shipworthy.resolve import resolve  # noqa: PLC0415
    from shipworthy.serve import server  # noqa: PLC0415

    model, settings = resolve(what, workspace, overrides)

    def announce(url: str, grpc: str) -> None:
        shown = {"url": url, "grpc": grpc, "model": model.name, "version": model.version, "bundle": model.bundle}
        if as_json:
            click.echo(json.dumps(shown))
            return
        click.echo(f"serving {model.name} version {model.version} on {url} and gRPC {grpc}; Ctrl-C stops it")
        click.echo(f"try:  curl {url}/v2/models/{model.name}")

    server.run([model], settings.serve, announce, stop_on_eof=stop_with_parent)
