"""Models of XGBoost: what stands in them as a ``Forest``, and their own predictions.

The trees are read from the JSON that XGBoost writes (its documented model format), so base scores, weights of DART and the
number of rounds are its own. For the process that may import it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from shipworthy.backends.forest import Forest, Link, Tree
from shipworthy.errors import Refused
from shipworthy.protocols import Array

# What XGBoost makes of the sum, by objective; others of its own give something that is no prediction, or are rare.
LINKS: dict[str, Link] = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), "exp"),
    **dict.fromkeys(("reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror"), "identity"),
    **dict.fromkeys(("reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map"), "identity"),
}
CLASSIFIERS = ("binary:logistic", "multi:softprob", "multi:softmax")
# Beside the label of an estimator in the attributes of a model that it has written.
ESTIMATOR = "scikit_learn"


def of_estimator(estimator: Any) -> Forest:
    """What a fitted XGBClassifier, XGBRegressor or one of their kin has learnt.

    Raises:
        Refused: as ``of_booster``, or it takes another number than NaN for missing.
    """
    if estimator.missing is not None and not np.isnan(estimator.missing):
        raise _refused(f"missing={estimator.missing}", "train it with missing=nan, and put NaN into the rows")
    classes = np.asarray(estimator.classes_) if hasattr(estimator, "classes_") else None
    return of_booster(_rounds(estimator.get_booster()), classes, estimator=True)


def of_booster(booster: Any, classes: Array | None = None, *, estimator: bool = False) -> Forest:
    """What a Booster has learnt.

    Args:
        booster: an ``xgboost.Booster``.
        classes: the labels of a classifier; whole numbers from 0 when it says none.
        estimator: whether ``classes``, and not the objective, say whether it is a classifier.

    Raises:
        Refused: what has no ONNX form: no trees, categories, vectors in leaves, an objective of somebody's own.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective, gradient, shape = learner["objective"]["name"], learner["gradient_booster"], learner["learner_model_param"]
    if objective not in LINKS:
        raise _refused(f"objective {objective}", "train it with an objective of: " + ", ".join(sorted(LINKS)))
    if gradient["name"] not in {"gbtree", "dart"}:
        raise _refused(f"booster {gradient['name']}", "a linear model of scikit-learn does the same and is taken in")
    model = gradient.get("gbtree", gradient)["model"]
    # DART multiplies whole trees.
    weights = gradient.get("weight_drop") or [1.0] * len(model["trees"])
    targets = max(int(shape["num_class"]), int(shape.get("num_target", 1)), 1)
    if classes is None and not estimator and objective in CLASSIFIERS:
        classes = np.arange(max(targets, 2))
    if classes is not None and (objective not in CLASSIFIERS or len(classes) != max(targets, 2)):
        raise _refused(
            f"objective {objective} with {targets} outputs for {len(classes)} classes", "train one classifier a label"
        )
    triples = zip(model["trees"], model["tree_info"], weights, strict=True)
    return Forest(
        trees=[_tree(plain, int(target), float(weight)) for plain, target, weight in triples],
        base=_margins(shape["base_score"], targets, LINKS[objective]),
        inclusive=False,
        features=int(shape["num_feature"]),
        link=LINKS[objective],
        classes=classes,
    )


def load(path: str) -> Any:
    """The Booster in a file; with as many rounds as the estimator uses, where one has written it.

    Raises:
        Refused: it is none of XGBoost's.
    """
    import xgboost  # noqa: PLC0415

    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(path)
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise Refused(
            f"{path} is not a readable model of XGBoost",
            found=(str(error).strip().splitlines() or ["?"])[0][:200],
            expected='what booster.save_model("model.ubj") writes; a truncated download looks like this',
            next="write or copy the file again",
        ) from None
    return _rounds(booster) if booster.attr(ESTIMATOR) else booster


def answer(booster: Any, rows: Array, forest: Forest) -> list[Array]:
    """What a Booster itself answers, in the order of the forest's outputs."""
    import xgboost  # noqa: PLC0415

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective == "multi:softmax":  # it would give labels alone
        booster = booster.copy()
        booster.set_param({"objective": "multi:softprob"})
    made = np.asarray(booster.predict(xgboost.DMatrix(rows), validate_features=False))
    if forest.classes is None:
        return [made.reshape(len(rows), -1)]
    if made.ndim == 1:
        made = np.stack([1 - made, made], axis=1)
    return [forest.classes[made.argmax(axis=1)], made]


def _rounds(booster: Any) -> Any:
    """The rounds that an estimator predicts with: those up to the best, where it was stopped early."""
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def _tree(plain: dict[str, Any], target: int, weight: float) -> Tree:
    if int(plain["tree_param"].get("size_leaf_vector") or 0) > 1:
        raise _refused("vectors in the leaves", "train it with multi_strategy='one_output_per_tree'")
    if any(plain.get("split_type", ())):
        raise _refused("splits by category", "encode the categories (OneHotEncoder) and train on numbers")
    left, values = plain["left_children"], plain["split_conditions"]
    if weight != 1.0:
        values = [value * weight if child < 0 else value for child, value in zip(left, values, strict=True)]
    return Tree(left, plain["right_children"], plain["split_indices"], values, plain["default_left"], target)


def _margins(text: str, targets: int, link: Link) -> Sequence[float]:
    """The base scores as they are added: XGBoost keeps them as predictions, a number or since 3.1 a list."""
    scores = np.array(json.loads(text), np.float64).reshape(-1)
    if link == "sigmoid":
        scores = -np.log(1 / scores - 1)
    elif link == "exp":
        scores = np.log(scores)
    return [float(one) for one in np.broadcast_to(scores, (targets,))]


def _refused(found: str, mend: str) -> Refused:
    return Refused("that model of XGBoost has no ONNX form here", found=found, next=mend)
