"""Options that verbs share, each written once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from shipworthy import settings
from shipworthy.backends.tensorflow_file import GRAPH
from shipworthy.errors import Refused
from shipworthy.settings import Settings
from shipworthy.workspace import FOLDER

# How a model is named that lies in MLflow, and at no path.
IN_MLFLOW = ("models:", "runs:")

what = click.argument("what", type=click.Path(path_type=Path), default=".", shell_complete=None)
workspace = click.option(
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(FOLDER),
    envvar="SHIPWORTHY_WORKSPACE",
    help=f"Where models, releases and finished stages are kept [default: {FOLDER}].",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
debug = click.option("--debug", is_flag=True, expose_value=False, help="Print the traceback of an error.")
changes = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Override a setting, as gates.p99_ms=5; may be repeated."
)


@dataclass(frozen=True)
class Way:
    """What the command line says of a model on its way."""

    what: Path
    target: str | None
    trust: bool
    data: Path | None
    factory: str | None
    changes: tuple[str, ...]
    workspace: Path
    as_json: bool
    environment: tuple[Path, ...] = ()
    training_environment: tuple[Path, ...] = ()


def of_a_model(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of every verb that takes a model on its way; it is called with a ``Way``."""

    @functools.wraps(verb)
    def call(**given: Any) -> None:
        way = Way(**{one.name: given.pop(one.name) for one in fields(Way) if one.name in given})
        verb(way, **given)

    decorated: Callable[..., None] = call
    for option in reversed(
        (
            what,
            click.option("--target", help="A target of the settings."),
            click.option(
                "--trust", is_flag=True, help="Load formats that execute code (pickle): only files you made yourself."
            ),
            click.option("--data", type=click.Path(path_type=Path), help="Evaluation rows (.npz), instead of the settings'."),
            click.option("--factory", metavar="FILE.py:FUNCTION", help="What makes the torch module of a .safetensors file."),
            changes,
            workspace,
            as_json,
            debug,
        )
    ):
        decorated = option(decorated)
    return decorated


def read_changes(changes: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` texts as overrides of settings.

    Raises:
        click.UsageError: one that is not KEY=VALUE.
    """
    overrides = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes KEY=VALUE, and got '{change}'")
        overrides[key.strip()] = value.strip()
    return overrides


def read_settings(way: Way) -> Settings:
    """The settings that the command line means: of a folder, of a settings file, of a bare model, or of one in MLflow.

    Raises:
        Refused: nothing is there; or as ``settings.read``.
        click.UsageError: a change that is not KEY=VALUE.
    """
    overrides = read_changes(way.changes) | lists(way)
    if way.trust:
        overrides["model.trust"] = "true"
    if way.data is not None:
        overrides["data.evaluation"] = _toml(str(way.data.absolute()))
    if str(way.what).startswith(IN_MLFLOW):
        from shipworthy import tracking  # noqa: PLC0415  the help answers at once

        return tracking.settings_of(str(way.what), way.workspace, overrides)
    if way.factory:
        file, colon, function = way.factory.rpartition(":")
        overrides["model.factory"] = _toml(f"{Path(file).absolute()}:{function}" if colon else function)
    if not way.what.exists():
        raise Refused(
            f"there is nothing at {way.what}",
            expected="a folder with a shipworthy.toml, that file, a model file, or one in MLflow: models:/NAME@ALIAS, "
            "runs:/ID/PATH",
            next="correct the path",
        )
    if (way.what.is_dir() and not (way.what / GRAPH).is_file()) or way.what.suffix == ".toml":
        return settings.read(way.what, overrides)
    return settings.for_model(way.what, overrides)


def lists(way: Way) -> dict[str, str]:
    """The lists of packages that the command line names, as overrides of settings."""
    named = {"environment": way.environment, "training_environment": way.training_environment}
    return {f"check.{key}": _toml([str(path.absolute()) for path in paths]) for key, paths in named.items() if paths}


def _toml(value: str | list[str]) -> str:
    from shipworthy.initialize import toml  # noqa: PLC0415  numpy, which no refused call needs

    return toml(value)
