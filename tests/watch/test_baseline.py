"""The drift baseline: documented arrays, the same bytes for the same rows, and no array that breaks it."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shipworthy import watch
from shipworthy.settings import WatchSettings
from shipworthy.watch.baseline import MOST_FEATURES, features

SMALL = WatchSettings(bins=4, reference_rows=10)
ROWS = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)


def read(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        return dict(loaded)


def one(array, settings_=SMALL):
    """The parts of a baseline of one input, without their prefix."""
    return {name.removeprefix("input/x/"): part for name, part in read(watch.run({"x": array}, {}, settings_)).items()}


def test_arrays_are_named_and_shaped_as_documented():
    found = read(watch.run({"x": ROWS, "t": np.array(["b", "a", "b"], object)}, {"y": np.arange(100)}, SMALL))
    shapes = {name: (array.dtype.str[1:], array.shape) for name, array in found.items()}
    assert shapes == {
        "input/x/edges": ("f8", (3, 5)),
        "input/x/counts": ("i8", (3, 4)),
        "input/x/sample": ("f4", (10, 3)),
        "input/t/values": ("U1", (2,)),
        "input/t/counts": ("i8", (2,)),
        "output/y/edges": ("f8", (1, 5)),
        "output/y/counts": ("i8", (1, 4)),
        "output/y/sample": ("f4", (10, 1)),
    }
    assert found["input/t/values"].tolist() == ["a", "b"]
    assert found["input/t/counts"].tolist() == [1, 2]


def test_the_same_rows_give_the_same_bytes_at_any_time(monkeypatch):
    first = watch.run({"x": ROWS}, {"y": ROWS}, SMALL)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert watch.run({"x": ROWS.copy()}, {"y": ROWS.copy()}, SMALL) == first
    assert watch.run({"x": ROWS + 1}, {"y": ROWS}, SMALL) != first


def test_bins_of_a_continuous_feature_hold_the_same_share():
    found = one(ROWS, WatchSettings(bins=10, reference_rows=10))
    assert (found["counts"] == 10).all()
    np.testing.assert_array_equal(found["edges"][:, 0], ROWS.min(axis=0))
    np.testing.assert_array_equal(found["edges"][:, -1], ROWS.max(axis=0))


def test_the_sample_is_sorted_and_spread_over_the_rows():
    found = one(np.arange(100, dtype=np.float32)[::-1].reshape(100, 1))
    assert found["sample"].ravel().tolist() == list(range(9, 100, 10))
    few = one(np.float32([[3, 1], [1, 2]]))
    assert few["sample"].tolist() == [[1, 1], [3, 2]]


def test_a_wide_row_is_summarised():
    image = np.random.default_rng(1).random((6, 3, 20, 20)).astype(np.float32)
    assert image[0].size > MOST_FEATURES
    found = one(image)
    assert found["edges"].shape == (4, 5)
    flat = image.reshape(6, -1).astype(np.float64)
    expected = np.stack([flat.mean(1), flat.std(1), flat.min(1), flat.max(1)], axis=1)
    np.testing.assert_allclose(features(image), expected)
    np.testing.assert_allclose(found["sample"], np.sort(expected, axis=0), rtol=1e-6)
    assert features(np.zeros((2, MOST_FEATURES))).shape == (2, MOST_FEATURES)
    assert features(np.zeros((2, MOST_FEATURES + 1))).shape == (2, 4)


def test_a_constant_feature_is_one_bin():
    found = one(np.full((8, 1), 0.1, np.float32))
    assert len(set(found["edges"][0])) == 1
    assert found["counts"].sum() == 8


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint64", "bool"])
def test_every_dtype_of_numbers(dtype):
    found = one(np.array([[1], [0], [1], [1]]).astype(dtype))
    assert found["counts"].sum() == 4
    assert found["sample"].ravel().tolist() == [0, 1, 1, 1]


def test_rows_that_are_not_finite_are_left_out():
    found = one(np.float64([[1, 2], [np.nan, 2], [-np.inf, 2], [3, np.inf], [1e300, 1], [5, 6]]))
    assert found["sample"].tolist() == [[1, 2], [5, 6]]
    assert found["counts"].sum(axis=1).tolist() == [2, 2]
    assert one(np.full((3, 2), np.nan)) == {}
    assert one(np.zeros((3, 0))) == {}


def test_nothing_gives_an_empty_baseline():
    assert read(watch.run({}, {}, SMALL)) == {}


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.floats(width=32)),
    st.integers(2, 7),
)
def test_every_finite_row_is_counted_once(rows, bins):
    found = one(rows, WatchSettings(bins=bins, reference_rows=10))
    finite = int(np.isfinite(rows).all(axis=1).sum())
    if not finite:
        assert found == {}
        return
    assert found["counts"].sum(axis=1).tolist() == [finite] * rows.shape[1]
    assert (np.diff(found["edges"], axis=1) >= 0).all()
    assert (np.diff(found["sample"], axis=0) >= 0).all()
    assert len(found["sample"]) == min(finite, 10) or len(found["sample"]) <= 10
