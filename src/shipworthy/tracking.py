"""Whether and where releases are shown in MLflow."""

from __future__ import annotations

import os
from pathlib import Path

from shipworthy.errors import Refused
from shipworthy.records import Release, Shipment, Tracked, Variant
from shipworthy.release import mlflow
from shipworthy.release.mlflow import Place
from shipworthy.settings import Settings


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


def track(where: Place, folder: Path, shipment: Shipment, release: Release, variant: Variant, alias: str) -> Tracked:
    """Show the release whose bundle lies in the folder."""
    return mlflow.track(mlflow.Subject(release, folder, shipment.model, variant, shipment.served), where, alias)
