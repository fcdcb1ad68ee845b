"""The process that XGBoost and LightGBM read files in: ``python -m shipworthy.backends.boosters_child FOLDER``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from shipworthy.backends import errand, forest, lightgbm, xgboost

READERS = {"xgboost": xgboost, "lightgbm": lightgbm}
# Both import these where they find them, and need none to read a file: 1.3 s of CPU less.
UNNEEDED = ("pandas", "pyarrow", "polars", "dask", "sklearn", "matplotlib", "graphviz")


def main() -> None:
    """Do the job; whatever goes wrong is the answer."""
    errand.fulfil(_do, "The library")


def _do(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    sys.modules.update(dict.fromkeys(UNNEEDED, None))  # type: ignore[arg-type]  # that is how an import is made to fail
    reader = READERS[job["framework"]]
    booster = reader.load(job["path"])
    with forest.named(Path(job["path"])):
        trees = reader.of_booster(booster)
        if job["deed"] == "convert":
            proto = forest.model(trees, job["opset"], job["ir_version"])
    if job["deed"] == "convert":
        Path(job["result"]).write_bytes(proto.SerializeToString(deterministic=True))
        return {"packages": {job["framework"]: importlib.import_module(job["framework"]).__version__}}
    errand.answer_rows(folder, lambda inputs: reader.answer(booster, inputs[forest.INPUT], trees))
    return {}


if __name__ == "__main__":
    main()
