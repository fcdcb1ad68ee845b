"""Whether and where releases are shown in MLflow, and models that come from there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from shipworthy.errors import Refused
from shipworthy.records import Release, Shipment, Tracked, Variant
from shipworthy.release import mlflow, mlflow_model
from shipworthy.release.mlflow import Place
from shipworthy.settings import Settings, for_model


def place(settings: Settings, home: Path) -> Place | None:
    """Where releases are shown; ``None``: nowhere, since that is not wanted, or MLflow is not installed.

    Args:
        settings: ``[release] mlflow``.
        home: the workspace, which has a database of its own where no MLFLOW_TRACKING_URI names another.

    Raises:
        Refused: it is wanted, and not installed.
    """
    wanted = settings.release.mlflow
    if wanted == "on" and not mlflow.available():
        raise Refused(
            "MLflow is switched on and not installed",
            found='mlflow = "on" under [release]',
            next="pip install 'shipworthy[mlflow]', or set mlflow = \"off\"",
        )
    if wanted == "off" or not mlflow.available():
        return None
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else home / "mlflow"
    return Place(mlflow.tracking_uri(home), settings.release.mlflow_experiment, own)


def check(settings: Settings, home: Path) -> None:
    """Look whether MLflow answers, where releases are shown there: before the work is done, not after.

    Raises:
        Refused, Failed: it does not; or as ``place``.
    """
    if found := place(settings, home):
        mlflow.reachable(found.tracking_uri)


def settings_of(uri: str, home: Path, overrides: Mapping[str, str]) -> Settings:
    """The settings of a model in MLflow, which is brought into the workspace; takes some seconds.

    The lists of packages that were logged with it are the environment of ``[check]``, unless ``overrides`` names another.

    Raises:
        NotFound, Refused, Failed: as ``mlflow_model.fetch``; or as ``settings.parse``.
    """
    model = mlflow_model.fetch(mlflow.tracking_uri(home), uri, home / "fetched")
    own = {"model.name": model.name}
    if model.lists:
        own["check.environment"] = json.dumps([str(one) for one in model.lists])
    return for_model(model.path, own | dict(overrides))


def track(where: Place, folder: Path, shipment: Shipment, release: Release, variant: Variant, alias: str) -> Tracked:
    """Show the release whose bundle lies in the folder."""
    return mlflow.track(mlflow.Subject(release, folder, shipment.model, variant, shipment.served), where, alias)
