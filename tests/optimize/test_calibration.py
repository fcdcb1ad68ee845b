"""The ranges of activations: what numpy says of the same values, for any way the rows come."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from shipworthy.backends import onnxruntime_passes
from shipworthy.errors import Refused
from shipworthy.optimize import calibration
from shipworthy.optimize.calibration import Entropy, Extremes, Percentiles, calibrate

SHAPES = {
    "normal": lambda random: random.normal(size=50_000),
    "positive": lambda random: np.maximum(random.normal(size=50_000), 0),
    "negative": lambda random: -random.gamma(2.0, size=50_000) - 3,
    "outlier": lambda random: np.append(random.normal(size=50_000), 1e6),
    "zeros": lambda _: np.zeros(1000),
    "one value": lambda _: np.full(10, -2.5),
    "tiny": lambda random: random.normal(size=5000) * 1e-30,
}


@pytest.fixture(params=SHAPES)
def values(request):
    return SHAPES[request.param](np.random.default_rng(0)).astype(np.float32)


def collect(collector, values, pieces=7):
    for piece in np.array_split(values, pieces):
        if piece.size:
            collector.add("a", piece)
    return collector.ranges()["a"]


def test_extremes_are_those_of_numpy(values):
    assert collect(Extremes(), values) == (values.min(), values.max())


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.999, 100.0])
def test_percentiles_are_within_a_bucket_of_numpy(values, percent):
    low, high = collect(Percentiles(percent, symmetric=False), values)
    cut = (100 - percent) / 2
    exact = np.percentile(values, [cut, 100 - cut], method="inverted_cdf")
    assert values.min() <= low <= exact[0]
    assert values.max() >= high >= exact[1]
    np.testing.assert_allclose([low, high], exact, rtol=1 / 64, atol=1e-37)


@pytest.mark.parametrize("percent", [90.0, 99.999])
def test_symmetric_percentiles_are_those_of_the_magnitudes(values, percent):
    low, high = collect(Percentiles(percent, symmetric=True), values)
    exact = np.percentile(np.abs(values), percent, method="inverted_cdf")
    assert max(-low, high) == pytest.approx(exact, rel=1 / 64, abs=1e-37)


def test_both_ends_are_cut_evenly():
    values = np.arange(-4, 4, dtype=np.float32)
    assert collect(Percentiles(75.0, symmetric=False), values) == pytest.approx((-3, 2), rel=1 / 64)


def test_an_outlier_does_not_blur_the_percentile():
    """With buckets of one width, all but the outlier would lie in the first."""
    values = np.append(np.random.default_rng(0).normal(size=200_000), 1e6).astype(np.float32)
    low, high = collect(Percentiles(99.9, symmetric=False), values)
    assert -3.6 < low < -3.0
    assert 3.0 < high < 3.6


def entropy(values, pieces=7):
    extremes = Extremes()
    collect(extremes, values, pieces)
    return collect(Entropy(extremes.ranges()), values, pieces)


def slow_divergence(counts, bins):
    """The definition, level by level and bin by bin."""
    levels = [[] for _ in range(calibration.LEVELS)]
    for place in range(bins):
        levels[place * calibration.LEVELS // bins].append(place)
    told = np.full(bins, 1e-4)
    for places in levels:
        filled = [place for place in places if counts[place]]
        for place in filled:
            told[place] = sum(counts[one] for one in places) / len(filled)
    real = [float(count) for count in counts[:bins]]
    real[-1] += sum(counts[bins:])
    whole, told = sum(real), told / told.sum()
    return sum(r / whole * np.log(r / whole / t) for r, t in zip(real, told, strict=True) if r)


@pytest.mark.parametrize("bins", [128, 144, 1000, 2048])
def test_divergence_is_that_of_its_definition(bins):
    counts = np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(2048) / 200))
    assert calibration._divergence(counts, bins) == pytest.approx(slow_divergence(counts, bins), rel=1e-9, abs=1e-12)


def test_entropy_keeps_a_flat_range_whole_and_cuts_a_long_tail():
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, 200_000).astype(np.float32)
    assert entropy(flat)[1] > 0.95
    tail = np.append(random.normal(size=200_000), [30.0, -30.0]).astype(np.float32)
    low, high = entropy(tail)
    assert 2.5 < high < 8
    assert low == -high


def test_zeros_that_a_relu_makes_do_not_count_for_entropy():
    """They are represented in any range; counted, they would hide what happens to the others."""
    values = np.abs(np.random.default_rng(0).normal(size=100_000)).astype(np.float32)
    zeros = np.zeros(1_000_000, np.float32)
    assert entropy(np.concatenate([values, zeros]))[1] == pytest.approx(entropy(values)[1], rel=0.02)


def test_entropy_stays_within_the_values(values):
    low, high = entropy(values)
    assert values.min() <= low <= high <= values.max()


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_how_the_values_come_changes_nothing(values, pieces):
    assert entropy(values, pieces) == entropy(values, 7)
    one, other = (collect(Percentiles(99.0, symmetric=False), values, n) for n in (pieces, 7))
    assert one == other


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [Extremes, lambda: Percentiles(99, symmetric=False)], ids=["extremes", "percentiles"])
def test_what_is_not_finite_is_refused(bad, kind):
    with pytest.raises(Refused, match="'a' is not finite"):
        kind().add("a", np.array([1, bad, 2], np.float32))


@pytest.fixture
def network(onnx_model):
    """``x`` through a matrix, a Relu and a sum; and its weights."""
    weights = {"w": np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Add", ["r", "m"], ["y"]),
    ]
    return onnx_model(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 8])], weights), weights["w"]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_ranges_of_a_model_are_those_of_its_activations(network, method, monkeypatch):
    proto, w = network
    rows = np.random.default_rng(2).normal(size=(300, 4)).astype(np.float32)
    rows[-1] *= 100
    before = proto.SerializeToString()
    found = calibrate(proto, ["m", "r", "x", "y"], {"x": rows}, method, percent=99.0, symmetric=False)
    assert proto.SerializeToString() == before, "the model is not changed"
    exact = {"x": rows, "m": rows @ w}
    exact |= {"r": np.maximum(exact["m"], 0)}
    exact |= {"y": exact["r"] + exact["m"]}
    assert set(found) == set(exact)
    for name, values in exact.items():
        if method == "minmax":
            np.testing.assert_allclose(found[name], (values.min(), values.max()), rtol=1e-5)
        else:
            assert found[name][1] < 0.9 * values.max(), "the outlier is cut off"
    monkeypatch.setattr(onnxruntime_passes, "MOST_ROWS", 3)
    again = calibrate(proto, ["m", "r", "x", "y"], {"x": rows}, method, percent=99.0, symmetric=False)
    for name, pair in found.items():
        np.testing.assert_allclose(again[name], pair, rtol=1e-5, err_msg="how the rows come changes nothing")
