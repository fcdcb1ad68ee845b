"""The trees that skl2onnx is taught: gradient boosting of XGBoost, of LightGBM, and scikit-learn's own by histograms.

It converts them wherever they stand in a pipeline. Its own converter of histogram gradient boosting cannot write its nodes
with the onnx of today.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from shipworthy.backends import forest, lightgbm, xgboost
from shipworthy.backends.forest import Forest, Link, Tree
from shipworthy.errors import Refused

BOOSTERS: dict[str, tuple[Callable[[Any], Forest], tuple[str, ...]]] = {
    "xgboost": (xgboost.of_estimator, ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")),
    "lightgbm": (lightgbm.of_estimator, ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")),
}
# By the name of a loss.
LINKS: dict[str, Link] = {
    "HalfBinomialLoss": "sigmoid",
    "HalfMultinomialLoss": "softmax",
    "HalfPoissonLoss": "exp",
    "HalfGammaLoss": "exp",
}


def teach() -> dict[str, str]:
    """Register the converters of those libraries that are imported by now: loading the model has done that.

    Returns:
        Their packages: to version.
    """
    from sklearn import ensemble  # noqa: PLC0415

    packages = {}
    for package, (read, names) in BOOSTERS.items():
        if package in sys.modules:
            packages[package] = str(sys.modules[package].__version__)
            for name in names:
                _register(getattr(sys.modules[package], name), f"{package}{name}", read)
    for kind in (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor):
        _register(kind, f"Sklearn{kind.__name__}", of_histograms)
    return packages


def of_histograms(estimator: Any) -> Forest:
    """What scikit-learn's gradient boosting by histograms has learnt.

    Raises:
        Refused: it splits by category.
    """
    link = LINKS.get(type(estimator._loss).__name__, "identity")  # noqa: SLF001 - it has no public way to its trees
    baseline = np.asarray(estimator._baseline_prediction).reshape(-1)  # noqa: SLF001
    trees = []
    for iteration in estimator._predictors:  # noqa: SLF001
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise Refused(
                    "a histogram gradient boosting with categories has no ONNX form",
                    found="splits by category",
                    next="encode the categories (OneHotEncoder or OrdinalEncoder before it) and train without "
                    "categorical_features",
                )
            leaf = nodes["is_leaf"] != 0
            trees.append(
                Tree(
                    left=np.where(leaf, -1, nodes["left"].astype(np.int64)).tolist(),
                    right=np.where(leaf, -1, nodes["right"].astype(np.int64)).tolist(),
                    feature=nodes["feature_idx"].tolist(),
                    value=np.where(leaf, nodes["value"], nodes["num_threshold"]).tolist(),
                    missing_left=nodes["missing_go_to_left"].astype(bool).tolist(),
                    target=target,
                )
            )
    return Forest(
        trees=trees,
        base=baseline.tolist(),
        inclusive=True,
        features=estimator.n_features_in_,
        link=link,
        classes=np.asarray(estimator.classes_) if hasattr(estimator, "classes_") else None,
    )


def _register(kind: type, alias: str, read: Callable[[Any], Forest]) -> None:
    from skl2onnx import update_registered_converter  # noqa: PLC0415
    from skl2onnx.common import shape_calculator  # noqa: PLC0415

    classifies = hasattr(kind, "predict_proba")
    shapes = "calculate_linear_classifier_output_shapes" if classifies else "calculate_linear_regressor_output_shapes"
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [True, False]}
    update_registered_converter(
        kind, alias, getattr(shape_calculator, shapes), _converter(read), options=options if classifies else None
    )


def _converter(read: Callable[[Any], Forest]) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        rows = operator.inputs[0].full_name
        if operator.inputs[0].type.__class__.__name__ != "FloatTensorType":  # whole numbers, or float64 of another step
            cast = scope.get_unique_variable_name("forest_rows")
            container.add_node("Cast", [rows], [cast], name=scope.get_unique_operator_name("Cast"), to=1)
            rows = cast
        outputs = [one.full_name for one in operator.outputs]
        for node in forest.nodes(read(operator.raw_operator), rows, outputs, scope.get_unique_variable_name):
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            container.add_node(
                node.op_type, list(node.input), list(node.output), op_domain=node.domain, name=node.name, **attributes
            )

    return convert
