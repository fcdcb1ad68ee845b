"""The verb ``serve``."""

from __future__ import annotations

import gc
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from shipworthy.cli import options

if TYPE_CHECKING:  # what serves is imported when it serves: the help answers at once
    from shipworthy.serve.source import Offer, Policy, Source
    from shipworthy.settings import ServeSettings, Settings

FILES = ("api_key_file", "tls_cert", "tls_key", "tls_client_ca")


@click.command("serve")
@click.argument("whats", metavar="WHAT...", nargs=-1, required=True)
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one [default: 8000].")
@click.option("--grpc-port", type=int, help="Port for gRPC, 0 for a free one [default: the one after --port].")
@click.option(
    "--versions",
    help="Versions of each model: latest, latest:3, all, or 1,3 [default: what was named, or what its config says].",
)
@click.option("--api-key-file", metavar="FILE", help="Ask callers for a key of this file; make one with: shipworthy key.")
@click.option("--tls-cert", metavar="FILE", help="Speak TLS with this certificate (PEM).")
@click.option("--tls-key", metavar="FILE", help="The certificate's key (PEM, not encrypted).")
@click.option("--tls-client-ca", metavar="FILE", help="Ask clients for a certificate that one of these vouches for (PEM).")
@options.changes
@options.workspace
@options.as_json
@options.debug
@click.option("--workers", default="auto", help="Processes: auto is one a core for short runs, one for long ones.")
@click.option("--drain-delay", type=float, help="Seconds to say 'not ready' and serve on, before it stops [default: 0].")
@click.option("--no-tune", is_flag=True, help="Do not measure a run at load where no evidence tells its cost.")
@click.option("--stop-with-parent", is_flag=True, hidden=True, help="End when standard input closes.")
def command(
    whats: tuple[str, ...],
    changes: tuple[str, ...],
    workspace: Path,
    as_json: bool,  # noqa: FBT001
    stop_with_parent: bool,  # noqa: FBT001
    **flags: Any,
) -> None:
    """Answer predictions over HTTP and gRPC until told to stop.

    WHAT is a release (digits, digits@champion, digits@3), a bundle folder, a folder with a shipworthy.toml whose release
    is meant, an .onnx file, a model repository (NAME/VERSION/model.onnx), or a model in MLflow's registry
    (models:/digits@champion, models:/digits/3). Name several to serve them all.
    """
    # Numpy's own threads would do nothing here but take memory; it reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    gc.disable()  # collections find nothing in modules that are being imported, and take 30 ms of the start
    from shipworthy.serve import server  # noqa: PLC0415
    from shipworthy.sources import sources  # noqa: PLC0415

    gc.enable()
    source, settings = sources(whats, workspace, _overrides(changes, flags))
    seen = Seen(source)

    def announce(url: str, grpc: str) -> None:
        offers = list(seen.offers.values())
        click.echo(json.dumps(_plain(url, grpc, offers)) if as_json else _page(url, grpc, offers))

    server.run(seen, _placed(settings), announce, stop_on_eof=stop_with_parent)


def _placed(settings: Settings) -> ServeSettings:
    """The settings of the server, with the files that they name as paths from here."""
    serve = settings.serve
    named = {key: getattr(serve, key) for key in (*FILES, "access_log")}
    placed = {key: str(settings.file(path)) for key, path in named.items() if path not in {"", "-"}}  # "-": no file
    return msgspec.structs.replace(serve, **placed)


class Seen:
    """A source that remembers what was found in it: what is announced is what is served, and nothing is looked up twice."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.offers: dict[str, Offer] = {}
        self.names = source.names
        self.numbers = source.numbers

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What the source says; see ``Source``."""
        offer = self.offers[name] = self._source.find(name, policy)
        return offer


def _overrides(changes: tuple[str, ...], flags: dict[str, Any]) -> dict[str, str]:
    overrides = options.read_changes(changes)
    for key in ("host", "versions"):
        if flags[key] is not None:
            overrides[f"serve.{key}"] = json.dumps(flags[key])
    for key in FILES:
        if flags[key] is not None:
            overrides[f"serve.{key}"] = json.dumps(str(Path(flags[key]).absolute()))
    if flags["port"] is not None:
        overrides["serve.port"] = str(flags["port"])
        # Whoever names one port wants the other beside it, and whoever takes a free one takes two.
        overrides["serve.grpc_port"] = str(flags["port"] and flags["port"] + 1)
    if flags["grpc_port"] is not None:
        overrides["serve.grpc_port"] = str(flags["grpc_port"])
    if flags["workers"] != "auto":
        overrides["serve.workers"] = flags["workers"]
    if flags["drain_delay"] is not None:
        overrides["serve.drain_delay_seconds"] = str(flags["drain_delay"])
    if flags["no_tune"]:
        overrides["serve.tune"] = "false"
    return overrides


def _plain(url: str, grpc: str, offers: list[Offer]) -> dict[str, Any]:
    models = [
        {
            "name": offer.name,
            "versions": [model.version for model in offer.versions],
            "default": offer.default,
            "labels": dict(offer.labels),
            "bundles": {str(model.version): model.bundle for model in offer.versions if model.bundle},
            "notes": list(offer.notes),
        }
        for offer in offers
    ]
    return {"url": url, "grpc": grpc, "models": models}


def _page(url: str, grpc: str, offers: list[Offer]) -> str:
    lines = []
    for offer in offers:
        versions = []
        for model in offer.versions:
            labels = ", ".join(label for label, number in offer.labels.items() if number == model.version)
            versions.append(f"{model.version} ({labels})" if labels else str(model.version))
        several = f"; version {offer.default} by default" if len(versions) > 1 else ""
        lines.append(f"serving {offer.name} version{'s'[: len(versions) > 1]} {', '.join(versions)}{several}")
        lines += [f"  note: {note}" for note in offer.notes]
    lines += [f"on {url} and gRPC {grpc}; Ctrl-C stops it", f"try:  curl {url}/v2/models/{offers[0].name}"]
    return "\n".join(lines)
