"""Models of Keras (.keras, .h5) and TensorFlow (SavedModel): conversion to ONNX, and the model's own predictions.

Everything happens in a process of its own (``tensorflow_child``): TensorFlow takes seconds to import and 600 MB. What
executes code when it loads is asked trust for, from what stands in the file (``tensorflow_file``).
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipworthy.backends import errand, fine_tune, tensorflow_file
from shipworthy.backends.fine_tune import Tuning
from shipworthy.backends.tensorflow_file import SUFFIXES
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Model
from shipworthy.settings import Settings

PACKAGES = ("tensorflow", "tf2onnx")
# tf2onnx has no later ones.
OPSET = 18
TENSORFLOW = errand.Errand("shipworthy.backends.tensorflow_child", "TensorFlow")


def tuning(settings: Settings, model: Model) -> Tuning | None:
    """How the model goes on training; ``None`` where it cannot: no ``fine_tune``, no trust, or not a file of Keras 2.

    Raises:
        Refused: ``fine_tune`` is not ``FILE.py:FUNCTION``, or a file is gone.
    """
    path, wanted = Path(model.source.path), settings.optimize
    if not wanted.fine_tune or not settings.model.trust or path.suffix not in SUFFIXES:
        return None
    if tensorflow_file.kind(path) != "tf_keras":
        return None
    training = fine_tune.located(wanted.fine_tune, settings.folder)
    code = file_digest(fine_tune.file_of(training))
    return Tuning(path.absolute(), model.digest, training, wanted.fine_tune_steps, code)


def takes(path: Path) -> bool:
    """Whether it is for this file to say what the path is: a suffix of Keras, or a folder."""
    return path.suffix in SUFFIXES or path.is_dir()


def convert(path: Path, result: Path, opset: int, ir_version: int, *, trust: bool) -> dict[str, str]:
    """Write the model in ``path`` as ONNX to ``result``; inputs and outputs have the names of its SavedModel signature.

    The first dimension of a Keras model's inputs is free; a SavedModel keeps its shapes. The operator set is at most 18.

    Returns:
        What converted it: package to version.

    Raises:
        Refused: the extra is missing, it is not such a model, loading it needs trust, or it has no ONNX form.
        Failed: the process of TensorFlow died or took too long.
    """
    job = {"deed": "convert", "result": str(result), "opset": min(opset, OPSET), "ir_version": ir_version}
    with tempfile.TemporaryDirectory() as folder:
        answer = errand.send(*_errand(Path(folder), job, path, trust=trust))
    return dict(answer["packages"])


def predict(path: Path, inputs: Arrays, *, trust: bool) -> list[Array]:
    """What the trained model itself answers, in the order of the converted model's outputs.

    Args:
        path: the trained file or folder.
        inputs: one array an input of the converted model, rows along the first axis.
        trust: as for ``convert``.

    Raises:
        Refused: as ``convert``, or the model does not take the rows.
        Failed: as ``convert``.
    """
    with tempfile.TemporaryDirectory() as folder:
        return errand.ask(*_errand(Path(folder), {"deed": "predict"}, path, trust=trust), inputs)


def missing() -> Refused | None:
    """The error when the extra is not installed; looks without importing anything."""
    return errand.missing(PACKAGES, "models of Keras and TensorFlow", "tensorflow")


def _errand(folder: Path, job: dict[str, Any], path: Path, *, trust: bool) -> tuple[errand.Errand, Path, dict[str, Any]]:
    """Who does the job, where, and the job with what is to be known of the model.

    Raises:
        Refused: loading it needs trust, or the extra is missing.
    """
    kind = tensorflow_file.kind(path)
    if not trust and (reason := tensorflow_file.executes(path)):
        raise Refused(
            f"loading {path} can execute any code that is in it",
            found=reason,
            expected="a model you made yourself, or one whose maker you trust",
            next="say so with --trust, or trust = true under [model] in shipworthy.toml; an .onnx file executes nothing",
        )
    if lacking := missing():
        raise lacking
    home = folder / "home"
    home.mkdir()
    # Keras reads settings of the user's, its backend among them, from its folder; a GPU would round in another way.
    environment = {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(home),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    known = {"path": str(path.absolute()), "kind": kind, "trust": trust}
    return replace(TENSORFLOW, environment=environment), folder, job | known
