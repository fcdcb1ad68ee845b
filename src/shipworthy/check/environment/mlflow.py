"""Reads what MLflow has logged beside a model: its lists of packages, and the versions that the model was made with."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from shipworthy.check.environment import conda, requirements, text
from shipworthy.check.environment.listing import PYTHON, Listing, Package

LISTS = {"requirements.txt": requirements.read, "conda.yaml": conda.read, "python_env.yaml": conda.read}
MODEL = "MLmodel"
# The keys of a flavour that name a version, at whatever depth, and whose version that is.
VERSIONS = {
    "sklearn_version": "scikit-learn",
    "pytorch_version": "torch",
    "onnx_version": "onnx",
    "keras_version": "keras",
    "tensorflow_version": "tensorflow",
    "xgb_version": "xgboost",
    "lgb_version": "lightgbm",
    "python_version": PYTHON,
}
LINE = re.compile(r"^\s+(\w+_version):\s*['\"]?([\w.+!-]{1,50})['\"]?\s*$")


def read(folder: Path) -> Listing:
    """The lists in the folder of a model of MLflow's, and what MLmodel says that it was made with.

    Raises:
        Unreadable: there is no list in the folder, or one of them cannot be read.
    """
    here = [name for name in LISTS if (folder / name).is_file()]
    if not here:
        raise text.Unreadable(f"the folder has none of {', '.join(LISTS)}", "name the folder that MLflow logged the model in")
    whole = Listing()
    for name in here:
        try:
            whole += LISTS[name](folder / name)
        except text.Unreadable as error:
            raise text.Unreadable(f"{name}: {error.why}", error.mend) from None
    return whole + Listing(logged=_logged(folder / MODEL)) if (folder / MODEL).is_file() else whole


def _logged(path: Path) -> tuple[Package, ...]:
    found = []
    for number, line in enumerate(text.lines(path), 1):
        match = LINE.match(line)
        name = VERSIONS.get(match[1]) if match else None
        if match and name:
            try:
                found.append(Package(name, SpecifierSet(f"=={match[2]}"), f"{path.name}, line {number}"))
            except InvalidSpecifier:
                continue  # a version of somebody's own build, as 2.1.0a0-nv
    return tuple(found)
