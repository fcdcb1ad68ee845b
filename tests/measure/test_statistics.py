"""Intervals: they hold their middle, repeat, and give the published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.measure.statistics import exact, figure, share


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_the_interval_holds_the_median_and_repeats(values):
    one = figure("p50_ms", "ms", [values], "how")
    assert one.median == np.median(values)
    assert min(values) <= one.low <= one.median <= one.high <= max(values)
    assert (one.samples, one.name, one.unit, one.how) == (len(values), "p50_ms", "ms", "how")
    assert figure("p50_ms", "ms", [values], "how") == one


def test_one_repeat_has_no_spread_and_three_have_all_of_it():
    one = figure("a", "", [[7.0]], "")
    assert (one.low, one.median, one.high) == (7, 7, 7)
    # The median of three draws from three is the least with probability 7/27: far more than 2.5 %.
    three = figure("a", "", [[3.0, 1.0, 2.0]], "")
    assert (three.low, three.median, three.high) == (1, 2, 3)


def test_the_interval_narrows_with_repeats_and_covers_the_truth():
    """Of 95 % intervals of the median of normal draws, some 95 % hold the true one; never below 88 % of 200."""
    generator = np.random.default_rng(7)
    widths, held = {}, {}
    for size in (9, 81):
        made = [figure("a", "", [generator.normal(10, 1, size)], "") for _ in range(200)]
        widths[size] = np.mean([one.high - one.low for one in made])
        held[size] = sum(one.low <= 10 <= one.high for one in made)
    assert widths[81] < 0.5 * widths[9]
    assert all(176 <= count <= 200 for count in held.values()), held


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
        # and their mirror images
        (20, 20, 83.89, 100.0),
        (28, 29, 82.82, 99.39),
    ],
)
def test_shares_have_the_published_intervals(hits, of, low, high):
    one = share("accuracy_percent", hits, of, "")
    assert one.median == pytest.approx(100 * hits / of)
    assert (one.low, one.high) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))
    assert (one.unit, one.samples) == ("%", of)


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda of: st.tuples(st.integers(0, of) | st.sampled_from([0, of]), st.just(of))))
def test_a_share_lies_in_its_interval_and_that_within_0_and_100(pair):
    one = share("a", *pair, "")
    assert 0 <= one.low <= one.median <= one.high <= 100


def test_what_was_counted_has_no_spread():
    one = exact("size_mb", "MB", 3.5, "bytes of the file")
    assert (one.median, one.low, one.high, one.samples, one.how) == (3.5, 3.5, 3.5, 1, "bytes of the file")


def test_what_sets_processes_apart_widens_the_interval():
    """Nine repeats that agree within a process and differ between: pooled they look certain, by process they are not."""
    generator = np.random.default_rng(3)
    processes = [
        0.94 + generator.normal(0, 0.002, 3),
        1.00 + generator.normal(0, 0.002, 3),
        1.06 + generator.normal(0, 0.002, 3),
    ]
    by_process = figure("latency_ratio", "x", processes, "")
    assert by_process.low < 0.95
    assert by_process.high > 1.05
    assert by_process.samples == 9


def test_luck_of_processes_is_covered_by_several_and_not_by_one():
    """The same model against itself: the process shifts by 3 %, the repeat by 0.5 %; the true ratio is 1."""
    generator = np.random.default_rng(5)
    covered = {1: 0, 3: 0}
    for _ in range(300):
        ratios = 1 + generator.normal(0, 0.03, (3, 1)) + generator.normal(0, 0.005, (3, 3))
        for processes in covered:
            one = figure("latency_ratio", "x", ratios[:processes], "")
            covered[processes] += one.low <= 1 <= one.high
    assert covered[3] > 0.7 * 300
    assert covered[1] < 0.3 * 300
