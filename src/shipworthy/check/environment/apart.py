"""Law ``environment.apart``: serving computes and loads with what training computed and saved with. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

from packaging.version import Version

from shipworthy.backends import sklearn
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import PYTHON, Listing, Package, meet
from shipworthy.check.law import Law
from shipworthy.records import Finding, Severity

APART = Law(
    name="environment.apart",
    severity="warning",
    holds="training and serving have the same versions of what shapes numbers or saved files",
    breaks="answers differ from those that were validated, or a saved model does not load, and both only in production",
    mend="give both sides the same version",
)
SHAPING = frozenset(
    {
        *("scikit-learn", "joblib", "cloudpickle", "numpy", "scipy", "pandas", "torch", "torchvision", "transformers"),
        *("tensorflow", "keras", "xgboost", "lightgbm", "onnx", "onnxruntime", "protobuf", PYTHON),
    }
)
# What one version has pickled, another may not be able to read at all: scikit-learn promises nothing from release to release.
PICKLED = "scikit-learn"


def judge(case: Case) -> Iterator[Finding]:
    """One finding for each package that shapes and differs; what MLflow has logged counts as training."""
    logged = Listing(case.training.logged + case.serving.logged)
    for name in sorted(SHAPING):
        trained = case.training.find(name) + logged.find(name)
        pairs = (pair for pair in product(trained, case.serving.find(name)) if not meet(pair[0].specifier, pair[1].specifier))
        for one, served in islice(pairs, 1):
            severity, how = _weigh(case, one, served)
            if name == PYTHON:
                mend = f"run serving on Python {one.pinned or one.specifier}"
            else:
                mend = f"pip install '{name}{one.specifier}' in serving"
            yield APART.found(f"package {name}", f"training has {one}, serving {served}: {how}", mend, severity)


def _weigh(case: Case, trained: Package, served: Package) -> tuple[Severity, str]:
    """How much two lines differ, and in words."""
    if trained.near is None or served.near is None:
        return "warning", "they have no version in common"
    level = _level(trained.near, served.near)
    if trained.name == PICKLED and case.model.suffix in sklearn.SUFFIXES:
        if level == "patch":
            return "warning", "the model is a pickle, and scikit-learn warns of any other version than the one that wrote it"
        return "error", "the model is a pickle, and scikit-learn loads none of another release"
    if level == "major":
        return "error", "another major version"
    if level == "minor":
        return "warning", "another minor version"
    return "note", "another patch"


def _level(one: Version, other: Version) -> str:
    if (one.epoch, one.major) != (other.epoch, other.major):
        return "major"
    return "minor" if one.minor != other.minor else "patch"
