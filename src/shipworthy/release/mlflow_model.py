"""A model out of MLflow as a trained file: which of the files that were logged it is, by what its MLmodel says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipworthy.errors import Refused
from shipworthy.release import mlflow_fetch

# The key that names the file or folder of the model, by flavor, the one to prefer first.
FLAVORS = {
    "onnx": "data",
    "sklearn": "pickled_model",
    "xgboost": "data",
    "lightgbm": "data",
    "keras": "data",
    "tensorflow": "saved_model_dir",
    "pytorch": "model_data",
}
# What such a folder holds, by flavor: Keras' own file, a SavedModel in it, an exported program, a pickle.
WITHIN = ("model.keras", "model.h5", "model", "model.pt2", "model.pth")
SAVED_MODEL = "saved_model.pb"
LISTS = ("requirements.txt", "conda.yaml", "python_env.yaml")

_NAMED = re.compile(r"models:/([^/@:'\"%]{1,200})(?:@[^/@:'\"%]{1,200}|/[1-9][0-9]{0,17})?")
_RUN = re.compile(r"runs:/[0-9a-f]{32}/((?:[\w .-]{1,200}/){0,9}([\w .-]{1,200}))")


@dataclass(frozen=True)
class Fetched:
    """A trained file from MLflow: what to call it, where it lies now, and the lists of packages that came with it."""

    name: str
    path: Path
    lists: tuple[Path, ...]


def fetch(tracking_uri: str, uri: str, folder: Path) -> Fetched:
    """Bring what was logged into ``folder``, under its digest.

    Args:
        tracking_uri: the tracking server or database.
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-ID`` or ``runs:/ID/PATH``.
        folder: where fetched models are kept.

    Raises:
        NotFound: MLflow has no such thing.
        Refused: that is no such URI, MLflow is not installed, or it is a model of another kind.
        Failed: the server does not answer.
    """
    name = name_of(uri)
    logged = mlflow_fetch.bring(tracking_uri, uri, folder)
    home = Path(logged.folder)
    path = file_of(home, logged.flavors, uri)
    return Fetched(name, path, tuple(home / one for one in LISTS if (home / one).is_file()))


def name_of(uri: str) -> str:
    """What a model is called: its name in the registry, or where its run has put it.

    Raises:
        Refused: that is no URI of a model.
    """
    named, run = _NAMED.fullmatch(uri), _RUN.fullmatch(uri)
    name = named[1] if named else run[2] if run and ".." not in run[1].split("/") else ""
    if not name or not uri.isprintable():
        raise Refused(
            "that is no model in MLflow",
            found=uri[:300],
            expected="models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID/PATH",
        )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or "model"


def file_of(folder: Path, flavors: Mapping[str, Mapping[str, Any]], uri: str) -> Path:
    """The trained file, or the folder of a SavedModel, in what was logged.

    Raises:
        Refused: no flavor that is taken in, or its file is not there.
    """
    for flavor, key in FLAVORS.items():
        named = str(flavors.get(flavor, {}).get(key) or flavors.get(flavor, {}).get("data") or "")
        if flavor not in flavors:
            continue
        path = folder / named
        if named and path.resolve().is_relative_to(folder.resolve()) and path.exists():
            if path.is_dir() and not (path / SAVED_MODEL).is_file():
                path = next((path / one for one in WITHIN if (path / one).exists()), path)
            return path
        raise Refused(f"the files of {uri} are not whole", found=f"flavor {flavor}, and no {named or key}", next="log it again")
    raise Refused(
        f"{uri} is of a kind that is not taken in",
        found=f"flavors: {', '.join(sorted(flavors)) or 'none'}",
        expected=f"one of: {', '.join(FLAVORS)}",
        next="log it with mlflow.onnx.log_model, or name the trained file itself",
    )
