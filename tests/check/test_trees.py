"""Boosted trees of XGBoost, LightGBM and scikit-learn: the ONNX answers what the framework answers, on all rows."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, VotingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from shipworthy import check
from shipworthy.backends import boosters, forest
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused
from shipworthy.records import Target

LOADERS = {"digits": load_digits, "cancer": load_breast_cancer, "diabetes": load_diabetes, "wine": load_wine}
ROUNDS = {"n_estimators": 15}
X = ROUNDS | {"n_jobs": 1}
L = ROUNDS | {"n_jobs": 1, "verbose": -1}
FOREST = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}


def rows_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = LOADERS[name](return_X_y=True)
    return rows.astype(np.float32), labels


def gaps(rows: np.ndarray) -> np.ndarray:
    """The rows with every seventh number missing, and every fifth zero."""
    rows = rows.copy()
    rows.ravel()[::7] = np.nan
    rows.ravel()[::5] = 0
    return rows


# Estimator, data, and whether numbers are missing.
ESTIMATORS = {
    "xgboost, two classes": (xgboost.XGBClassifier(**X), "cancer", False),
    "xgboost, ten classes": (xgboost.XGBClassifier(**X), "digits", False),
    "xgboost, missing numbers": (xgboost.XGBClassifier(**X), "cancer", True),
    "xgboost, low base score": (xgboost.XGBClassifier(base_score=1e-3, learning_rate=0.05, **X), "cancer", False),
    "xgboost, dart": (xgboost.XGBClassifier(booster="dart", rate_drop=0.3, **X), "wine", False),
    "xgboost, random forest": (xgboost.XGBRFClassifier(**X), "wine", False),
    "xgboost, regression": (xgboost.XGBRegressor(**X), "diabetes", True),
    "xgboost, absolute error": (xgboost.XGBRegressor(objective="reg:absoluteerror", **X), "diabetes", False),
    "xgboost, poisson": (xgboost.XGBRegressor(objective="count:poisson", **X), "diabetes", False),
    "xgboost, gamma": (xgboost.XGBRegressor(objective="reg:gamma", **X), "diabetes", False),
    "xgboost, shares": (xgboost.XGBRegressor(objective="reg:logistic", **X), "cancer", False),
    "lightgbm, two classes": (lightgbm.LGBMClassifier(**L), "cancer", False),
    "lightgbm, ten classes": (lightgbm.LGBMClassifier(**L), "digits", False),
    "lightgbm, missing numbers": (lightgbm.LGBMClassifier(**L), "cancer", True),
    "lightgbm, missing never seen": (lightgbm.LGBMClassifier(use_missing=False, **L), "cancer", True),
    "lightgbm, steep": (lightgbm.LGBMClassifier(sigmoid=2.0, **L), "cancer", False),
    "lightgbm, one against all": (lightgbm.LGBMClassifier(objective="multiclassova", **L), "wine", False),
    "lightgbm, random forest": (lightgbm.LGBMClassifier(**FOREST, **L), "cancer", False),
    "lightgbm, forest of classes": (lightgbm.LGBMClassifier(**FOREST, **L), "wine", False),
    "lightgbm, forest regression": (lightgbm.LGBMRegressor(**FOREST, **L), "diabetes", False),
    "lightgbm, regression": (lightgbm.LGBMRegressor(**L), "diabetes", True),
    "lightgbm, square root": (lightgbm.LGBMRegressor(reg_sqrt=True, **L), "diabetes", False),
    "lightgbm, poisson": (lightgbm.LGBMRegressor(objective="poisson", **L), "diabetes", False),
    "lightgbm, mape": (lightgbm.LGBMRegressor(objective="mape", **L), "diabetes", False),
    "lightgbm, cross entropy": (lightgbm.LGBMClassifier(objective="cross_entropy", **L), "cancer", False),
    "histograms, two classes": (HistGradientBoostingClassifier(max_iter=5), "cancer", True),
    "histograms, three classes": (HistGradientBoostingClassifier(max_iter=5), "wine", False),
    "histograms, regression": (HistGradientBoostingRegressor(max_iter=5), "diabetes", True),
    "histograms, poisson": (HistGradientBoostingRegressor(max_iter=5, loss="poisson"), "diabetes", False),
}


def train(case: str):
    estimator, name, missing = ESTIMATORS[case]
    rows, labels = rows_of(name)
    rows = gaps(rows) if missing else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(gaps(rows_of(name)[0]) if missing and "never" not in case else rows_of(name)[0], labels), rows


def agree(path: Path, rows: np.ndarray, name: str = "n", *, trust: bool = False):
    """Take the file in, and let ``check`` compare it with its framework on all rows; the model and its answers."""
    model = check.take_in(path, name, path.parent / "models", trust=trust)
    data = Dataset("rows", "d" * 64, {"X": rows})
    report = check.run(model, data, check.reference(model, trust=trust))
    spoken = [one for one in report.findings if one.law == "numbers.parity"]
    assert spoken
    assert {one.severity for one in spoken} == {"note"}, spoken
    return model, OnnxRuntimeRunner(Path(model.path), Target()).run({"X": rows})


@pytest.mark.parametrize("case", ESTIMATORS)
def test_an_estimator_answers_the_same_as_onnx(tmp_path, case):
    estimator, rows = train(case)
    joblib.dump(estimator, tmp_path / "m.joblib")
    model, answers = agree(tmp_path / "m.joblib", rows, trust=True)
    names = ["label", "probabilities"] if hasattr(estimator, "classes_") else ["variable"]
    assert [one.name for one in model.signature.outputs] == names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = estimator.predict_proba(rows) if hasattr(estimator, "classes_") else estimator.predict(rows)
        if "label" in answers:
            assert (answers["label"] == estimator.predict(rows)).all()
    np.testing.assert_allclose(answers[names[-1]].reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    package = case.partition(",")[0]
    assert package == "histograms" or package in model.source.packages


# The file of a Booster, what it has learnt with, and on which rows.
FILES = {
    "m.ubj": ({"objective": "binary:logistic"}, "cancer"),
    "m.json": ({"objective": "multi:softprob", "num_class": 3}, "wine"),
    "labels.json": ({"objective": "multi:softmax", "num_class": 3}, "wine"),
    "m.xgb": ({"objective": "reg:tweedie"}, "diabetes"),
    "rank.ubj": ({"objective": "reg:squarederror"}, "diabetes"),
    "m.txt": ({"objective": "binary"}, "cancer"),
    "classes.txt": ({"objective": "multiclass", "num_class": 10}, "digits"),
    "m.lgb": ({"objective": "regression"}, "diabetes"),
}


def write_booster(path: Path, rounds: int = 15) -> np.ndarray:
    settings, name = FILES[path.name]
    rows, labels = rows_of(name)
    if path.suffix in {".txt", ".lgb"}:
        parameters = settings | {"verbose": -1, "num_threads": 1}
        lightgbm.train(parameters, lightgbm.Dataset(rows, labels), rounds).save_model(path)
        return rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of .xgb, which is what MLflow has named them
        xgboost.train(settings | {"nthread": 1}, xgboost.DMatrix(rows, labels), rounds).save_model(path)
    return rows


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_booster_needs_no_trust_and_answers_the_same(tmp_path, name):
    rows = write_booster(tmp_path / name)
    model, answers = agree(tmp_path / name, rows)
    assert model.source.framework == boosters.SUFFIXES[Path(name).suffix]
    assert list(model.source.packages) == [model.source.framework]
    classifies = "cancer" in FILES[name] or "num_class" in FILES[name][0]
    assert list(answers) == (["label", "probabilities"] if classifies else ["variable"])
    if name == "m.json":
        again = check.take_in(tmp_path / name, "n", tmp_path / "again")
        assert again.digest == model.digest, "conversion must be deterministic"


def test_an_estimator_stopped_early_answers_with_its_best_rounds_also_from_its_file(tmp_path):
    rows, labels = rows_of("cancer")
    estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, learning_rate=0.9, n_jobs=1)
    estimator.fit(rows[:300], labels[:300], eval_set=[(rows[300:], labels[300:])], verbose=False)
    assert estimator.best_iteration < estimator.get_booster().num_boosted_rounds() - 1, "nothing is tested"
    joblib.dump(estimator, tmp_path / "m.joblib")
    estimator.save_model(tmp_path / "m.ubj")
    for name, trust in (("m.joblib", True), ("m.ubj", False)):
        _, answers = agree(tmp_path / name, rows, trust=trust)
        np.testing.assert_allclose(answers["probabilities"], estimator.predict_proba(rows), atol=1e-5)


def test_texts_as_classes_and_steps_before_and_beside(tmp_path):
    rows, labels = rows_of("wine")
    words = np.array(["red", "rosé", "white"])[labels]
    columns = ColumnTransformer([("scaled", StandardScaler(), slice(0, 6))], remainder="passthrough")
    both = VotingClassifier(
        [("l", lightgbm.LGBMClassifier(**L)), ("x", xgboost.XGBClassifier(**X))], voting="soft", flatten_transform=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipelines = {
            "words": make_pipeline(columns, lightgbm.LGBMClassifier(**L)).fit(rows, words),
            "both": make_pipeline(MinMaxScaler(), both).fit(rows, labels),
        }
    for name, pipeline in pipelines.items():
        joblib.dump(pipeline, tmp_path / f"{name}.joblib")
        model, _ = agree(tmp_path / f"{name}.joblib", rows, trust=True)
        assert model.signature.outputs[0].dtype == ("str" if name == "words" else "int64")


def test_neighbouring_numbers_fall_on_the_side_that_float64_puts_them(tmp_path):
    """Its thresholds are means of neighbours, in float64: half of them round up to the larger neighbour."""
    steps = np.float32(1) + np.arange(256, dtype=np.float32) * np.float32(2**-23)
    rows, labels = np.stack([steps, steps[::-1]], axis=1), np.arange(256) % 2
    estimator = lightgbm.LGBMClassifier(min_child_samples=1, max_bin=1000, min_data_in_bin=1, **L).fit(rows, labels)
    joblib.dump(estimator, tmp_path / "m.joblib")
    agree(tmp_path / "m.joblib", rows, trust=True)
    thresholds = np.array([1.0, 1 + 2**-24, 1 + 3 * 2**-24, -1e300, 1e300, np.inf])
    rounded = forest.down(thresholds)
    assert rounded.dtype == np.float32
    assert (rounded <= thresholds).all()
    assert (np.nextafter(rounded[:3], np.float32(2)) > thresholds[:3]).all()


def squares(wanted, made):
    """An objective of one's own."""
    return made - wanted, np.ones_like(wanted)


def categories(name: str):
    rows, labels = rows_of("wine")
    rows[:, 0] = np.arange(len(rows)) % 5
    labels = (labels + rows[:, 0].astype(int) % 3) % 3
    if name == "histograms":
        return HistGradientBoostingClassifier(max_iter=5, categorical_features=[0]).fit(rows, labels)
    if name == "lightgbm":
        return lightgbm.LGBMClassifier(min_data_per_group=1, **L).fit(rows, labels, categorical_feature=[0])
    kinds = ["c"] + ["q"] * 12
    return xgboost.XGBClassifier(enable_categorical=True, feature_types=kinds, max_cat_to_onehot=1, **X).fit(rows, labels)


REFUSED = {
    "xgboost categories": (lambda: categories("xgboost"), "OneHotEncoder"),
    "lightgbm categories": (lambda: categories("lightgbm"), "OneHotEncoder"),
    "histograms categories": (lambda: categories("histograms"), "OneHotEncoder"),
    "xgboost linear": (lambda: xgboost.XGBClassifier(booster="gblinear", **X).fit(*rows_of("cancer")), "scikit-learn"),
    "xgboost hinge": (lambda: xgboost.XGBClassifier(objective="binary:hinge", **X).fit(*rows_of("cancer")), "objective of"),
    "xgboost zero as missing": (lambda: xgboost.XGBClassifier(missing=0, **X).fit(*rows_of("cancer")), "missing=nan"),
    "xgboost vectors": (
        lambda: xgboost.XGBRegressor(multi_strategy="multi_output_tree", **X).fit(
            rows_of("diabetes")[0], np.stack([rows_of("diabetes")[1]] * 2, axis=1)
        ),
        "one_output_per_tree",
    ),
    "lightgbm lines": (lambda: lightgbm.LGBMClassifier(linear_tree=True, **L).fit(*rows_of("cancer")), "linear_tree=False"),
    "lightgbm zero as missing": (
        lambda: lightgbm.LGBMClassifier(zero_as_missing=True, **L).fit(gaps(rows_of("cancer")[0]), rows_of("cancer")[1]),
        "zero_as_missing=False",
    ),
    "lightgbm own objective": (
        lambda: lightgbm.LGBMRegressor(objective=squares, **L).fit(*rows_of("diabetes")),
        "objective of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_answer_otherwise_is_refused_with_the_way_out(tmp_path, case):
    make, way_out = REFUSED[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joblib.dump(make(), tmp_path / "m.joblib")
    with pytest.raises(Refused) as refused:
        check.take_in(tmp_path / "m.joblib", "n", tmp_path / "models", trust=True)
    assert refused.value.what == f"{tmp_path / 'm.joblib'} has no ONNX form"
    assert way_out in refused.value.next
    assert refused.value.found


def test_a_booster_in_a_pickle_is_told_its_own_file(tmp_path):
    rows, labels = rows_of("cancer")
    joblib.dump(xgboost.train({}, xgboost.DMatrix(rows, labels), 2), tmp_path / "m.joblib")
    with pytest.raises(Refused, match="no fitted") as refused:
        check.take_in(tmp_path / "m.joblib", "n", tmp_path / "models", trust=True)
    assert refused.value.found == "xgboost's Booster"
    assert 'save_model("model.ubj")' in refused.value.next


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", b""),
        ("m.json", b"[1, 2]"),
        ("m.json", b'{"a": 1}'),
        ("m.json", b'{"learner": {}, "version": [3, 2, 0]}'),
        ("m.ubj", b"PK\3\4"),
        ("m.ubj", b"{L\0\0\0\0\0\0"),
        ("m.txt", b"numpy==2.0\n"),
        ("m.txt", b"tree\nversion=v4\n"),
        ("m.txt", b"tree\nversion=v4\n" * 1000),
        ("m.lgb", b""),
    ],
)
def test_what_is_no_booster_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused) as refused:
        check.take_in(tmp_path / name, "n", tmp_path / "models")
    assert str(tmp_path / name) in refused.value.what
    assert refused.value.next
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.ubj", "m.json", "m.txt"])
def test_broken_copies_never_crash_the_tool(tmp_path, name):
    """Some still are models; whatever the library does, it does in a process of its own, and is told."""
    write_booster(tmp_path / name, rounds=2)
    whole = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    for number in range(3):
        broken = bytearray(whole if number else whole[: len(whole) // 2])
        for place in generator.integers(40, len(broken), 20 * number):
            broken[place] = generator.integers(256)
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(broken)
        with contextlib.suppress(Refused, Failed):
            check.take_in(path, "n", tmp_path / "models")


def test_a_tree_that_leads_nowhere_is_refused(tmp_path):
    write_booster(tmp_path / "m.json", rounds=1)
    plain = json.loads((tmp_path / "m.json").read_text())
    tree = plain["learner"]["gradient_booster"]["model"]["trees"][0]
    for children, value in ((tree["left_children"], 10**6), (tree["right_children"], 0)):
        before, children[0] = children[0], value
        broken = forest.Tree(
            *(tree[key] for key in ("left_children", "right_children", "split_indices", "split_conditions", "default_left"))
        )
        with pytest.raises(Refused, match="broken"):
            forest.model(forest.Forest([broken], [0.0], False, 30), 21, 10)
        children[0] = before


@pytest.mark.parametrize(("name", "extra"), [("m.ubj", "xgboost"), ("m.txt", "lightgbm")])
def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch, name, extra):
    write_booster(tmp_path / name, rounds=1)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(Refused, match="need an extra") as refused:
        check.take_in(tmp_path / name, "n", tmp_path / "models")
    assert refused.value.next == f"pip install 'shipworthy[{extra}]'"


def test_a_pickle_of_a_library_that_is_not_there_names_the_extra(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"cxgboost.nowhere\nThing\n.")
    with pytest.raises(Refused, match="not a readable") as refused:
        check.take_in(tmp_path / "m.pkl", "n", tmp_path / "models", trust=True)
    assert "install the packages" in refused.value.next, "that module is not the library itself"
