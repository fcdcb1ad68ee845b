"""Models of LightGBM: what stands in them as a ``Forest``, and their own predictions.

The trees are read from the text that LightGBM writes (``model_to_string``), where they are flat. For the process that may
import it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shipworthy.backends.forest import Forest, Link, Tree
from shipworthy.errors import Refused
from shipworthy.protocols import Array

# What LightGBM makes of the sum, by the first word of its objective.
LINKS: dict[str, Link] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), "identity"),
    **dict.fromkeys(("lambdarank", "rank_xendcg"), "identity"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), "sigmoid"),
    "multiclass": "softmax",
}
CLASSIFIERS = ("binary", "multiclass", "multiclassova")
# Bits of decision_type.
CATEGORY, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
MISSING_ZERO, MISSING_NAN = 1, 2


def of_estimator(estimator: Any) -> Forest:
    """What a fitted LGBMClassifier, LGBMRegressor or LGBMRanker has learnt.

    Raises:
        Refused: as ``of_booster``.
    """
    classes = np.asarray(estimator.classes_) if hasattr(estimator, "classes_") else None
    return of_booster(estimator.booster_, classes, estimator=True)


def of_booster(booster: Any, classes: Array | None = None, *, estimator: bool = False) -> Forest:
    """What a Booster has learnt: of its rounds those that it predicts with.

    Args:
        booster: a ``lightgbm.Booster``.
        classes: the labels of a classifier; whole numbers from 0 when it says none.
        estimator: whether ``classes``, and not the objective, say whether it is a classifier.

    Raises:
        Refused: what has no ONNX form: categories, linear models in leaves, zeros as missing, an objective of somebody's own.
    """
    head, *parts = booster.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    header = _keys(head)
    objective, *options = header.get("objective", "none").split()
    if objective not in LINKS:
        raise _refused(f"objective {objective}", "train it with an objective of: " + ", ".join(sorted(LINKS)))
    link, said = LINKS[objective], dict(one.split(":") for one in options if ":" in one)
    targets, columns = int(header["num_tree_per_iteration"]), int(header["num_class"])
    if "sqrt" in options:
        link = "signed square"
    if classes is None and not estimator and objective in CLASSIFIERS:
        classes = np.arange(max(columns, 2))
    if classes is not None and (link not in {"sigmoid", "softmax"} or len(classes) != max(columns, 2)):
        raise _refused(f"objective {objective} for {len(classes)} classes", "train a classifier with an objective of its own")
    # A random forest gives the mean of its rounds.
    share = targets / max(len(parts), 1) if "\naverage_output" in head else 1.0
    return Forest(
        trees=[_tree(_keys(part), number % targets, share) for number, part in enumerate(parts)],
        base=[0.0] * targets,
        inclusive=True,
        features=int(header["max_feature_idx"]) + 1,
        link=link,
        slope=float(said.get("sigmoid", 1.0)) if link == "sigmoid" else 1.0,
        classes=classes,
    )


def load(path: str) -> Any:
    """The Booster in a file.

    Raises:
        Refused: it is none of LightGBM's.
    """
    import lightgbm  # noqa: PLC0415

    try:
        return lightgbm.Booster(model_file=path, params={"num_threads": 1, "verbose": -1})
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
        raise Refused(
            f"{path} is not a readable model of LightGBM",
            found=(str(error).strip().splitlines() or ["?"])[0][:200],
            expected='what booster.save_model("model.txt") writes; a truncated download looks like this',
            next="write or copy the file again",
        ) from None


def answer(booster: Any, rows: Array, forest: Forest) -> list[Array]:
    """What a Booster itself answers, in the order of the forest's outputs."""
    made = np.asarray(booster.predict(rows))
    if forest.classes is None:
        return [made.reshape(len(rows), -1)]
    if made.ndim == 1:
        made = np.stack([1 - made, made], axis=1)
    return [forest.classes[made.argmax(axis=1)], made]


def _keys(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _tree(keys: dict[str, str], target: int, share: float) -> Tree:
    """One tree; its leaves come after its ``num_leaves - 1`` splits, where children below zero are leaves."""
    if int(keys["num_cat"]):
        raise _refused("splits by category", "encode the categories (OneHotEncoder) and train on numbers")
    if int(keys.get("is_linear", 0)):
        raise _refused("linear models in the leaves", "train it with linear_tree=False")
    leaves = [share * value for value in _numbers(keys["leaf_value"])]
    thresholds = _numbers(keys.get("threshold", ""))
    splits = len(thresholds)
    kinds = [int(kind) for kind in keys.get("decision_type", "").split()]
    missing = [kind >> MISSING_SHIFT & 3 for kind in kinds]
    if MISSING_ZERO in missing:
        raise _refused("zeros that count as missing", "train it with zero_as_missing=False, and put NaN into the rows")

    def children(key: str) -> list[int]:
        places = [int(child) for child in keys.get(key, "").split()]
        return [child if child >= 0 else splits + ~child for child in places] + [-1] * len(leaves)

    # Where NaN has no way of its own it counts as zero.
    goes_left = [
        bool(kind & DEFAULT_LEFT) if how == MISSING_NAN else threshold >= 0
        for kind, how, threshold in zip(kinds, missing, thresholds, strict=True)
    ]
    features = [int(feature) for feature in keys.get("split_feature", "").split()] + [0] * len(leaves)
    values = thresholds + leaves
    return Tree(children("left_child"), children("right_child"), features, values, goes_left + [False] * len(leaves), target)


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split()]


def _refused(found: str, mend: str) -> Refused:
    return Refused("that model of LightGBM has no ONNX form here", found=found, next=mend)
