"""scikit-learn models (.joblib, .pkl): conversion to ONNX, and the model's own predictions.

Loading such a file executes whatever is in it; callers ask for trust first.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array

SUFFIXES = (".joblib", ".pkl", ".pickle")
INPUT = "X"


def convert(path: Path, result: Path, opset: int, ir_version: int) -> dict[str, str]:
    """Write the model in ``path`` as ONNX to ``result``: one input ``X``, float32 [rows, features], no ZipMap.

    Returns:
        What converted it and what it was trained with: package to version.

    Raises:
        Refused: the extra is missing, the file is not a fitted scikit-learn model, or it has no ONNX form.
    """
    estimator, packages = _load(path)
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise Refused(
            f"{path} holds no fitted scikit-learn model", found=type(estimator).__name__, expected="an estimator after fit()"
        )
    skl2onnx = _import("skl2onnx")
    types = [(INPUT, skl2onnx.common.data_types.FloatTensorType([None, features]))]
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = skl2onnx.to_onnx(estimator, initial_types=types, options=options, target_opset={"": opset, "ai.onnx.ml": 3})
    except Exception as error:  # the converters raise what they like
        raise Refused(
            f"{path} has no ONNX form",
            found=f"{type(estimator).__name__}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}",
            expected="an estimator that skl2onnx converts, over one matrix of numbers",
            next="convert it yourself and give the .onnx file, or train an estimator of the supported list of skl2onnx",
        ) from error
    # The converter writes them in the order of a set, which changes from process to process: the digest must not.
    opsets = sorted(proto.opset_import, key=lambda one: one.domain)
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    proto.ir_version = min(proto.ir_version, ir_version)
    result.write_bytes(proto.SerializeToString(deterministic=True))
    return packages | {"skl2onnx": skl2onnx.__version__}


def predict(path: Path, inputs: dict[str, Array]) -> list[Array]:
    """What the trained model itself answers, in the order of the converted model's outputs.

    Args:
        path: the trained file.
        inputs: ``X``, float32 [rows, features].

    Raises:
        Refused: as ``convert``, or the model does not take the rows.
    """
    estimator, _ = _load(path)
    rows = inputs[INPUT]
    try:
        if not hasattr(estimator, "predict"):
            made = estimator.transform(rows)
            return [np.asarray(made.toarray() if hasattr(made, "toarray") else made)]
        answers = [np.asarray(estimator.predict(rows))]
        if hasattr(estimator, "predict_proba"):
            answers.append(np.asarray(estimator.predict_proba(rows)))
    except Exception as error:  # an estimator raises what it likes
        raise Refused(f"{path} does not predict these rows", found=(str(error).splitlines() or ["?"])[0][:200]) from error
    return answers


def _load(path: Path) -> tuple[Any, dict[str, str]]:
    sklearn = _import("sklearn")
    joblib = _import("joblib")
    packages = {"scikit-learn": str(sklearn.__version__)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator = joblib.load(path)
        except Exception as error:  # unpickling raises anything
            raise Refused(
                f"{path} is not a readable scikit-learn file",
                found=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
                expected="a model written by joblib.dump or pickle.dump with the packages that are installed here",
                next="write the file again, or install the packages it was written with",
            ) from error
    for warning in caught:
        trained = getattr(warning.message, "original_sklearn_version", None)
        if trained:
            packages["scikit-learn (training)"] = str(trained)
    return estimator, packages


def _import(name: str) -> Any:
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(
            "scikit-learn models need an extra that is not installed",
            found=f"no module '{name}'",
            next="pip install 'shipworthy[sklearn]'",
        ) from None
