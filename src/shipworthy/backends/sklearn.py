"""scikit-learn models (.joblib, .pkl, .skops): conversion to ONNX, and the model's own predictions.

Loading a pickle executes whatever is in it; callers ask for trust first. A .skops file is loaded without trust where it
holds nothing but types that skops knows; XGBoost's and LightGBM's estimators come in all of them (``sklearn_trees``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.backends import forest, sklearn_trees
from shipworthy.errors import Refused
from shipworthy.protocols import Array

PICKLES, SKOPS = (".joblib", ".pkl", ".pickle"), ".skops"
SUFFIXES = (*PICKLES, SKOPS)
INPUT = "X"


def convert(path: Path, result: Path, opset: int, ir_version: int, *, trust: bool = False) -> dict[str, str]:
    """Write the model in ``path`` as ONNX to ``result``: one input ``X``, float32 [rows, features], no ZipMap.

    Returns:
        What converted it and what it was trained with: package to version.

    Raises:
        Refused: the extra is missing, the file is not a fitted scikit-learn model, it needs trust, or it has no ONNX form.
    """
    estimator, packages = _load(path, trust=trust)
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        booster = type(estimator).__name__ == "Booster"
        raise Refused(
            f"{path} holds no fitted scikit-learn model",
            found=f"{type(estimator).__module__.partition('.')[0]}'s Booster" if booster else type(estimator).__name__,
            expected="an estimator after fit()",
            next='booster.save_model("model.ubj") of XGBoost or ("model.txt") of LightGBM; name that file' if booster else "",
        )
    skl2onnx = _import("skl2onnx")
    packages |= sklearn_trees.teach()
    types = [(INPUT, skl2onnx.common.data_types.FloatTensorType([None, features]))]
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    try:
        with warnings.catch_warnings(), forest.named(path):
            warnings.simplefilter("ignore")
            proto = skl2onnx.to_onnx(estimator, initial_types=types, options=options, target_opset={"": opset, "ai.onnx.ml": 3})
    except Refused:
        raise
    except Exception as error:  # the converters raise what they like
        raise Refused(
            f"{path} has no ONNX form",
            found=f"{type(estimator).__name__}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}",
            expected="an estimator that skl2onnx converts, over one matrix of numbers",
            next=_way_out(estimator),
        ) from error
    # The converter writes them in the order of a set, which changes from process to process: the digest must not.
    opsets = sorted(proto.opset_import, key=lambda one: one.domain)
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    proto.ir_version = min(proto.ir_version, ir_version)
    result.write_bytes(proto.SerializeToString(deterministic=True))
    return packages | {"skl2onnx": skl2onnx.__version__}


def predict(path: Path, inputs: dict[str, Array], *, trust: bool = False) -> list[Array]:
    """What the trained model itself answers, in the order of the converted model's outputs.

    Args:
        path: the trained file.
        inputs: ``X``, float32 [rows, features].
        trust: as for ``convert``.

    Raises:
        Refused: as ``convert``, or the model does not take the rows.
    """
    estimator, _ = _load(path, trust=trust)
    rows = inputs[INPUT]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns without names
            if not hasattr(estimator, "predict"):
                made = estimator.transform(rows)
                return [np.asarray(made.toarray() if hasattr(made, "toarray") else made)]
            answers = [np.asarray(estimator.predict(rows))]
            if hasattr(estimator, "predict_proba"):
                answers.append(np.asarray(estimator.predict_proba(rows)))
    except Exception as error:  # an estimator raises what it likes
        raise Refused(f"{path} does not predict these rows", found=(str(error).splitlines() or ["?"])[0][:200]) from error
    return answers


def untrusted(path: Path) -> list[str]:
    """The types in a .skops file that are not known to be harmless: those that trust has to be given for.

    Raises:
        Refused: skops is not installed, or it cannot read the file.
    """
    skops = _import("skops.io", "a .skops file needs a package that is not installed", "pip install skops")
    with _readable(path):
        return [str(one) for one in skops.get_untrusted_types(file=path)]


def _load(path: Path, *, trust: bool) -> tuple[Any, dict[str, str]]:
    sklearn = _import("sklearn")
    packages = {"scikit-learn": str(sklearn.__version__)}
    strangers = untrusted(path) if path.suffix == SKOPS else []
    if strangers and not trust:
        raise Refused(
            f"loading {path} can execute code that skops does not know",
            found=", ".join(strangers)[:300],
            expected="types of scikit-learn and numpy alone, or a file whose maker you trust",
            next="say so with --trust, or trust = true under [model] in shipworthy.toml; an .onnx file executes nothing",
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _readable(path):
            if path.suffix == SKOPS:
                estimator = _import("skops.io").load(path, trusted=strangers)
            else:
                estimator = _import("joblib").load(path)
    for warning in caught:
        trained = getattr(warning.message, "original_sklearn_version", None)
        if trained:
            packages["scikit-learn (training)"] = str(trained)
    return estimator, packages


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a loader raises, which may be anything, into our words."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        extra = error.name if isinstance(error, ModuleNotFoundError) and error.name in sklearn_trees.BOOSTERS else ""
        raise Refused(
            f"{path} is not a readable scikit-learn file",
            found=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            expected="a model written by joblib.dump, pickle.dump or skops.io.dump with the packages that are installed here",
            next=f"pip install 'shipworthy[{extra}]'"
            if extra
            else "write the file again, or install the packages it was written with",
        ) from error


def _way_out(estimator: Any) -> str:
    """The nearest thing that has an ONNX form."""
    from sklearn import base, pipeline  # noqa: PLC0415

    last = estimator.steps[-1][1] if isinstance(estimator, pipeline.Pipeline) else estimator
    near = "a transformer of the supported list of skl2onnx"
    if base.is_classifier(last):
        near = "LogisticRegression, RandomForestClassifier, HistGradientBoostingClassifier, or XGBoost's or LightGBM's"
    elif base.is_regressor(last):
        near = "Ridge, RandomForestRegressor, HistGradientBoostingRegressor, or XGBoost's or LightGBM's"
    return f"train {near}, or convert it yourself and give the .onnx file"


def _import(
    name: str,
    what: str = "scikit-learn models need an extra that is not installed",
    mend: str = "pip install 'shipworthy[sklearn]'",
) -> Any:
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(what, found=f"no module '{name}'", next=mend) from None
