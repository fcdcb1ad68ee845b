"""Which variants nobody else beats."""

from __future__ import annotations

import pytest

from shipworthy.measure.front import beaten_by
from shipworthy.measure.metrics import named
from shipworthy.records import Evidence, Figure, Machine, Target

MACHINE = Machine(cpu="", isa=(), cores=1, memory_mb=1, system="", python="", packages={})


def evidence(name, metric="accuracy", **figures):
    made = tuple(Figure(name=key, unit="", median=v, low=v, high=v, samples=1, how="") for key, v in figures.items())
    return Evidence(
        variant=name,
        variant_name=name,
        target=Target(),
        machine=MACHINE,
        data="",
        measured_at="",
        figures=made,
        metric=named(metric),
    )


COSTS = {"latency_ratio": 1.0, "memory_mb": 100.0, "size_mb": 10.0, "compressed_mb": 9.0}


@pytest.mark.parametrize(
    ("other", "beaten"),
    [
        ({}, False),
        ({"latency_ratio": 0.5}, True),
        ({"latency_ratio": 0.95}, False),
        ({"compressed_mb": 4}, True),
        ({"size_mb": 5, "memory_mb": 101}, False),
        ({"size_mb": 5, "accuracy_percent": 89}, False),
        ({"size_mb": 5, "accuracy_percent": 91}, True),
        ({"accuracy_percent": 99}, False),
    ],
)
def test_as_good_in_all_and_clearly_better_in_one(other, beaten):
    one = evidence("one", accuracy_percent=90, **COSTS)
    two = evidence("two", **{"accuracy_percent": 90, **COSTS, **other})
    assert beaten_by(one, (two,)) is (two if beaten else None)


@pytest.mark.parametrize(("metric", "worse"), [("f1", 0.8), ("rmse", 1.0)])
def test_the_metric_has_its_own_direction(metric, worse):
    one = evidence("one", metric, **{metric: 0.9}, **COSTS)
    two = evidence("two", metric, **{metric: worse}, **{**COSTS, "latency_ratio": 0.3})
    better = evidence("better", metric, **{metric: 1.8 - worse}, **{**COSTS, "latency_ratio": 0.3})
    assert beaten_by(one, (two,)) is None
    assert beaten_by(one, (two, better)) is better


def test_figures_that_one_of_them_lacks_do_not_count():
    assert beaten_by(evidence("one", **COSTS), (evidence("two", latency_ratio=0.5),)).variant_name == "two"
    assert beaten_by(evidence("one"), (evidence("two", **COSTS),)) is None
