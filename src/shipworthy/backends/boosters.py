"""Files of XGBoost (.ubj, .json, .xgb) and LightGBM (.txt, .lgb): conversion to ONNX, and the model's own predictions.

They hold numbers and texts, no code, so no trust is asked. The libraries read them in a process of its own
(``boosters_child``), which a broken file that crashes them does not outlive.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipworthy.backends import errand
from shipworthy.errors import Refused
from shipworthy.protocols import Array, Arrays

FRAMEWORKS = {"xgboost": "XGBoost", "lightgbm": "LightGBM"}
SUFFIXES = {".ubj": "xgboost", ".json": "xgboost", ".xgb": "xgboost", ".txt": "lightgbm", ".lgb": "lightgbm"}
# How their files begin, for these suffixes are those of anything: with it, and then with a word before too long.
STARTS = {"xgboost": (b"{", b"learner"), "lightgbm": (b"tree", b"version=")}
START_BYTES = 200
BOOSTERS = errand.Errand("shipworthy.backends.boosters_child", "")


def convert(path: Path, result: Path, opset: int, ir_version: int) -> dict[str, str]:
    """Write the model in ``path`` as ONNX to ``result``: one input ``X``, float32 [rows, features].

    A classifier gives ``label`` (whole numbers from 0) and ``probabilities``, everything else ``variable`` [rows, targets].

    Returns:
        What converted it: package to version.

    Raises:
        Refused: the extra is missing, it is not such a model, or it has no ONNX form.
        Failed: the process of the library died or took too long.
    """
    job = {"deed": "convert", "result": str(result), "opset": opset, "ir_version": ir_version}
    with tempfile.TemporaryDirectory() as folder:
        answer = errand.send(*_errand(Path(folder), job, path))
    return dict(answer["packages"])


def predict(path: Path, inputs: Arrays) -> list[Array]:
    """What the trained model itself answers, in the order of the converted model's outputs.

    Args:
        path: the trained file.
        inputs: ``X``, float32 [rows, features].

    Raises:
        Refused: as ``convert``, or the model does not take the rows.
        Failed: as ``convert``.
    """
    with tempfile.TemporaryDirectory() as folder:
        return errand.ask(*_errand(Path(folder), {"deed": "predict"}, path), inputs)


def is_model(path: Path) -> bool:
    """Whether a file with one of the suffixes begins as a model does; nothing is loaded.

    Raises:
        Refused: it cannot be read.
    """
    begin, word = STARTS[SUFFIXES[path.suffix]]
    try:
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
    except OSError as error:
        raise Refused(f"{path} cannot be read", found=str(error), expected="a readable file") from None
    return start.startswith(begin) and word in start


def missing(framework: str) -> Refused | None:
    """The error when the extra of a framework is not installed; looks without importing anything."""
    return errand.missing((framework,), f"{FRAMEWORKS[framework]} models", framework)


def _errand(folder: Path, job: dict[str, Any], path: Path) -> tuple[errand.Errand, Path, dict[str, Any]]:
    framework = SUFFIXES[path.suffix]
    if not is_model(path):
        start, word = (one.decode() for one in STARTS[framework])
        raise Refused(
            f"{path} is not a model of {FRAMEWORKS[framework]}",
            found="another text or an empty file, by how it begins",
            expected=f"what its booster.save_model writes: '{start}', and '{word}' soon after",
            next="name the file of the model, or write it again",
        )
    if lacking := missing(framework):
        raise lacking
    known = {"path": str(path.absolute()), "framework": framework}
    return replace(BOOSTERS, framework=FRAMEWORKS[framework]), folder, job | known
