"""scikit-learn files: conversion within the limits that are asked for, and the estimator's own answers."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import joblib
import numpy as np
import onnx
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from shipworthy.backends import sklearn
from shipworthy.errors import Refused

ROWS = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
LABELS = np.arange(30) % 2


@pytest.fixture
def dumped(tmp_path):
    def dump(estimator):
        joblib.dump(estimator, tmp_path / "m.joblib")
        return tmp_path / "m.joblib"

    return dump


@pytest.mark.parametrize(("opset", "ir_version"), [(17, 8), (21, 10), (18, 7)])
def test_the_opset_and_ir_version_asked_for_are_kept(dumped, tmp_path, opset, ir_version):
    packages = sklearn.convert(dumped(StandardScaler().fit(ROWS)), tmp_path / "r.onnx", opset, ir_version)
    proto = onnx.load(tmp_path / "r.onnx")
    assert max(one.version for one in proto.opset_import if one.domain == "") <= opset
    assert proto.ir_version <= ir_version
    assert packages["skl2onnx"]
    assert packages["scikit-learn"]


def test_the_version_of_the_training_is_kept_where_it_was_another(dumped, tmp_path, monkeypatch):
    model = StandardScaler().fit(ROWS)
    state = model.__getstate__() | {"_sklearn_version": "1.0.1"}
    monkeypatch.setattr(StandardScaler, "__getstate__", lambda _: state)
    path = dumped(model)
    monkeypatch.undo()
    packages = sklearn.convert(path, tmp_path / "r.onnx", 21, 10)
    assert packages["scikit-learn (training)"] == "1.0.1"


def test_the_estimator_answers_in_the_order_of_the_outputs(dumped):
    model = LogisticRegression().fit(ROWS, LABELS)
    labels, scores = sklearn.predict(dumped(model), {"X": ROWS})
    np.testing.assert_array_equal(labels, model.predict(ROWS))
    np.testing.assert_array_equal(scores, model.predict_proba(ROWS))


def test_a_regressor_and_a_transformer_answer_once(dumped):
    regressor = LinearRegression().fit(ROWS, LABELS)
    (answer,) = sklearn.predict(dumped(regressor), {"X": ROWS})
    np.testing.assert_array_equal(answer, regressor.predict(ROWS))
    scaler = StandardScaler().fit(ROWS)
    (answer,) = sklearn.predict(dumped(scaler), {"X": ROWS})
    np.testing.assert_array_equal(answer, scaler.transform(ROWS))


def test_rows_that_the_estimator_does_not_take_are_refused(dumped):
    with pytest.raises(Refused, match="does not predict"):
        sklearn.predict(dumped(StandardScaler().fit(ROWS)), {"X": np.ones((2, 9), np.float32)})


@pytest.mark.parametrize("missing", ["sklearn", "joblib", "skl2onnx"])
def test_a_missing_extra_says_what_to_install(dumped, tmp_path, monkeypatch, missing):
    path = dumped(SimpleNamespace(n_features_in_=3) if missing == "skl2onnx" else StandardScaler().fit(ROWS))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Refused, match="extra") as caught:
        sklearn.convert(path, tmp_path / "r.onnx", 21, 10)
    assert f"'{missing}'" in caught.value.found
    assert "shipworthy[sklearn]" in caught.value.next
    assert not (tmp_path / "r.onnx").exists()
