"""The decision, as tables and as laws: a slower variant never ships, nor one that misses a gate or was not measured."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.measure.gate import GOALS, LIMITS, NOT_SLOWER, choose, gates, judge, of_answers, verdict
from shipworthy.measure.metrics import named
from shipworthy.records import Evidence, Figure, Gate, Machine, Metric, Target
from shipworthy.settings import GateSettings, parse

MACHINE = Machine(cpu="", isa=(), cores=1, memory_mb=1, system="", python="", packages={})
P99 = Gate(figure="p99_ms", limit=5, unit="ms", at_least=False)
ACCURACY = Gate(figure="accuracy_percent", limit=90, unit="%", at_least=True)


def figure(name, median, low=None, high=None, samples=1):
    low, high = (median if end is None else end for end in (low, high))
    return Figure(name=name, unit="", median=median, low=low, high=high, samples=samples, how="")


def evidence(name, metric=None, **figures):
    """Figures as numbers, or as (median, low, high)."""
    made = tuple(figure(key, *(value if isinstance(value, tuple) else (value,))) for key, value in figures.items())
    return Evidence(
        variant=f"digest-{name}",
        variant_name=name,
        target=Target(),
        machine=MACHINE,
        data="",
        measured_at="",
        figures=made,
        metric=metric or Metric(),
    )


def decide(all_evidence, put_up=(), goal="latency", passes=None):
    judged = tuple(judge(put_up, one) for one in all_evidence)
    passes = passes or {one.variant_name: place for place, one in enumerate(all_evidence)}
    return choose(judged, tuple(all_evidence), passes, goal)


# ---------------------------------------------------------------- gates


def test_only_limits_that_are_written_are_gates():
    assert gates(GateSettings(), Target()) == ()
    assert gates(GateSettings(p99_ms=5, accuracy_percent=90), Target()) == (ACCURACY, P99)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_becomes_a_gate_in_its_own_direction(name):
    served = name == "availability_percent"
    target = Target(device="cuda")
    (gate,) = gates(GateSettings(**{name: 7}), target, served=served)
    assert (gate.figure, gate.limit) == (name, 7)
    assert gate.at_least == (name.endswith("_percent") or name == "throughput_rps")
    assert gates(GateSettings(**{name: 7}), target, served=not served) == ()


def test_a_limit_on_the_memory_of_a_gpu_is_for_targets_with_one():
    limits = GateSettings(gpu_memory_mb=500, p99_ms=5)
    assert gates(limits, Target()) == (P99,)
    on_gpu = gates(limits, Target(device="cuda"))
    assert [gate.figure for gate in on_gpu] == ["p99_ms", "gpu_memory_mb"]
    assert judge(on_gpu, evidence("original", p99_ms=1, gpu_memory_mb=480)).passed
    assert not judge(on_gpu, evidence("original", p99_ms=1, gpu_memory_mb=520)).passed
    (missing,) = [one for one in judge(on_gpu, evidence("original", p99_ms=1)).verdicts if not one]
    assert missing.reason == (
        "gpu_memory_mb was not measured, and the limit is gpu_memory_mb <= 500 MB: "
        "it needs the GPU's driver to tell it, and pip install 'shipworthy[gpu]'"
    )


def test_a_limit_of_zero_percent_is_a_limit():
    assert [gate.limit for gate in gates(GateSettings(accuracy_percent=0), Target())] == [0]


@pytest.mark.parametrize(
    ("gate", "budget", "limit"), [(None, None, None), (100, None, 100), (None, 80, 80), (100, 80, 80), (80, 100, 80)]
)
def test_of_memory_gate_and_budget_the_smaller_wins(gate, budget, limit):
    found = gates(GateSettings(memory_mb=gate), Target(memory_mb=budget))
    assert [(one.figure, one.limit) for one in found] == ([] if limit is None else [("memory_mb", limit)])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("accuracy", ("accuracy_percent", "%", True, "accuracy_kept_percent")),
        ("f1", ("f1", "", True, "f1_kept_percent")),
        ("rmse", ("rmse", "", False, "rmse_kept_percent")),
        ("score.py:wer", ("metric", "", True, "metric_kept_percent")),
    ],
)
def test_a_limit_on_the_metric_is_one_on_its_figure(name, found):
    limit, kept = gates(GateSettings(metric=0.5, metric_kept_percent=98), Target(), named(name))
    assert (limit.figure, limit.unit, limit.at_least, kept.figure) == found
    assert (limit.limit, kept.limit, kept.unit, kept.at_least) == (0.5, 98, "%", True)


def test_without_a_metric_it_is_one_on_the_accuracy():
    assert gates(GateSettings(metric=90), Target()) == (ACCURACY,)


@pytest.mark.parametrize(
    ("gate", "instead"),
    [("accuracy_percent", "set metric instead"), ("accuracy_kept_percent", "set metric_kept_percent instead")],
)
def test_a_limit_on_the_accuracy_where_another_metric_is_measured(gate, instead):
    plain = {"model": {"name": "m", "path": "m.onnx"}, "data": {"metric": "f1"}, "gates": {gate: 90}}
    with pytest.raises(Refused) as caught:
        parse(plain, "shipworthy.toml")
    assert f"[gates] {gate} is of the metric accuracy, not of f1: {instead}" in caught.value.found
    assert parse(plain | {"data": {}}, "shipworthy.toml").gates == GateSettings(**{gate: 90})


def test_the_served_release_has_neither_metric_nor_budget_nor_is_it_strict():
    limits = GateSettings(metric=0.5, metric_kept_percent=9, availability_percent=99, strict=True)
    (gate,) = gates(limits, Target(memory_mb=5), named("f1"), served=True)
    assert (gate.figure, gate.strict) == ("availability_percent", False)
    assert all(gate.strict for gate in gates(limits, Target(memory_mb=5), named("f1")))


def test_limits_on_answers_are_told_from_those_on_costs():
    every = GateSettings(**dict.fromkeys(LIMITS, 7), metric=0.5, metric_kept_percent=9)
    told = {gate.figure for gate in (*gates(every, Target(), named("f1")), NOT_SLOWER) if of_answers(gate)}
    assert told == {"accuracy_percent", "accuracy_kept_percent", "agreement_percent", "f1", "f1_kept_percent"}


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (P99, 4.999, True),
        (P99, 5, True),
        (P99, 5.001, False),
        (ACCURACY, 89.99, False),
        (ACCURACY, 90, True),
        (ACCURACY, 100, True),
    ],
)
def test_a_limit_itself_passes(gate, value, passed):
    said = verdict(gate, figure(gate.figure, value))
    assert (said.passed, bool(said), said.figure, said.gate) == (passed, passed, value, gate)
    assert (" by " in said.reason) == (not passed)
    assert gate.figure in said.reason


def test_the_median_is_judged_not_the_interval():
    assert verdict(P99, figure("p99_ms", 4.9, 4, 20))
    assert not verdict(P99, figure("p99_ms", 5.1, 1, 6))


STRICT = Gate(figure="accuracy_percent", limit=90, unit="%", at_least=True, strict=True)
STRICT_P99 = Gate(figure="p99_ms", limit=5, unit="ms", at_least=False, strict=True)


@pytest.mark.parametrize(
    ("gate", "low", "median", "high", "passed", "says"),
    [
        (
            ACCURACY,
            88,
            92,
            95,
            True,
            "this is by the estimate, and the interval, 88 to 95 % from 400 rows, holds the limit: measure more",
        ),
        (ACCURACY, 86, 89, 92, False, "this is by the estimate, and the interval, 86 to 92 % from 400 rows, holds the limit"),
        (ACCURACY, 91, 92, 95, True, ""),
        (ACCURACY, 90, 92, 95, True, ""),
        (STRICT, 88, 92, 95, False, "strict is set under [gates], and the interval, 88 to 95 % from 400 rows, holds the limit"),
        (STRICT, 90, 92, 95, True, ""),
        (STRICT, 80, 85, 89, False, "beyond the limit of at least 90 % by 5 %"),
        (
            P99,
            4,
            4.9,
            6,
            True,
            "this is by the estimate, and the interval, 4 to 6 ms from 400 repeats, holds the limit: measure more",
        ),
        (
            STRICT_P99,
            4,
            4.9,
            6,
            False,
            "strict is set under [gates], and the interval, 4 to 6 ms from 400 repeats, holds the limit",
        ),
        (STRICT_P99, 4, 4.9, 5, True, ""),
    ],
)
def test_a_limit_within_the_interval_is_said(gate, low, median, high, passed, says):
    said = verdict(gate, figure(gate.figure, median, low, high, samples=400))
    assert (said.passed, said.figure) == (passed, median)
    assert says in said.reason
    assert ("interval" in said.reason) == ("interval" in says)
    assert ("within" in said.reason) == (median >= 90 if gate.at_least else median <= 5)


def test_a_limit_without_a_unit():
    gate = Gate(figure="rmse", limit=2, unit="", at_least=False)
    assert verdict(gate, figure("rmse", 3)).reason == "rmse is 3, beyond the limit of at most 2 by 1"
    assert str(gate) == "rmse <= 2"
    agreement = Gate(figure="agreement_percent", limit=2, unit="%", at_least=True)
    assert "labels" in verdict(gate, None).reason
    assert "labels" not in verdict(agreement, None).reason


def test_the_ratio_to_the_original_is_never_strict():
    strict = gates(GateSettings(strict=True, p99_ms=5), Target())
    judged = judge(strict, evidence("graph", latency_ratio=(0.99, 0.9, 1.1), p99_ms=1))
    assert judged.passed
    assert "interval" not in judged.verdicts[1].reason


@pytest.mark.parametrize("gate", [P99, ACCURACY, NOT_SLOWER])
def test_what_was_not_measured_does_not_pass(gate):
    said = verdict(gate, None)
    assert not said
    assert said.figure is None
    assert "was not measured" in said.reason


def test_nan_does_not_pass():
    assert not verdict(P99, figure("p99_ms", float("nan")))
    assert not verdict(ACCURACY, figure("accuracy_percent", float("nan")))


def test_a_variant_must_not_be_slower_and_the_original_cannot_be():
    assert [one.gate for one in judge((P99,), evidence("original", p99_ms=1)).verdicts] == [P99]
    assert [one.gate for one in judge((P99,), evidence("graph", p99_ms=1)).verdicts] == [P99, NOT_SLOWER]


@pytest.mark.parametrize(
    ("ratio", "passed", "says"),
    [
        ((1.05, 1.001, 1.1), False, "slower than the original: 1.050 times its median latency (1.001 to 1.100)"),
        ((1.01, 1.01, 1.01), False, "slower than the original: 1.010 times"),
        ((1.014, 0.982, 1.041), True, "level with the original: 1.014 times its median latency (0.982 to 1.041)"),
        ((1.3, 1.0, 1.6), True, "level with the original"),
        ((0.99, 0.9, 1.1), True, "latency_ratio is 0.99 x, within the limit of at most 1 x"),
        ((1.0, 1.0, 1.0), True, "within"),
        ((float("nan"), float("nan"), float("nan")), False, ""),
    ],
)
def test_slower_is_what_is_slower_beyond_the_noise(ratio, passed, says):
    (said,) = judge((), evidence("graph", latency_ratio=ratio)).verdicts
    assert said.passed == passed
    assert says in said.reason


def test_of_two_that_are_not_slower_the_median_decides():
    """All three pass; ``b`` is the fastest by its median, and the others do not reach it."""
    three = [evidence("original", latency_ratio=1, size_mb=1)]
    three += [
        evidence("a", latency_ratio=(1.02, 0.99, 1.05), size_mb=1),
        evidence("b", latency_ratio=(0.9, 0.88, 0.92), size_mb=2),
    ]
    choice = decide(three)
    assert [one.passed for one in choice.judged] == [True] * 3
    assert choice.variant_name == "b"


# ---------------------------------------------------------------- choice


def test_nothing_passes():
    both = [evidence("original", p99_ms=6), evidence("graph", p99_ms=7, latency_ratio=1.2)]
    choice = decide(both, (P99,))
    assert (choice.variant, choice.variant_name) == (None, None)
    assert "no variant passes every gate" in choice.reason
    assert "original: p99_ms is 6" in choice.reason
    assert "graph: slower" in choice.reason
    assert len(choice.judged) == 2


@pytest.mark.parametrize(
    ("goal", "figures", "best"),
    [
        ("latency", {"a": 0.5, "b": 0.4}, "b"),
        ("throughput", {"a": 500, "b": 400}, "a"),
        ("memory", {"a": 50, "b": 40}, "b"),
        ("size", {"a": 5, "b": 4}, "b"),
    ],
)
def test_the_best_in_the_goal_ships(goal, figures, best):
    ratio = {} if goal == "latency" else {"latency_ratio": 1.0}
    both = [evidence(name, **{GOALS[goal]: value}, **ratio) for name, value in figures.items()]
    choice = decide(both, goal=goal)
    assert choice.variant_name == best
    assert f"{best} is best in {goal} of the 2 that pass" in choice.reason


LEVEL = (0.5, 0.4, 0.6)


@pytest.mark.parametrize(
    ("a", "b", "best"),
    [
        ({"accuracy_percent": 95, "size_mb": 1}, {"accuracy_percent": 96, "size_mb": 9}, "b"),
        ({"accuracy_percent": 95, "size_mb": 2}, {"accuracy_percent": 95, "size_mb": 1}, "b"),
        ({"accuracy_percent": 95, "size_mb": 1}, {"accuracy_percent": 95, "size_mb": 1}, "a"),
        ({"size_mb": 2}, {"size_mb": 1}, "b"),
    ],
    ids=["accuracy", "size", "passes", "no accuracy"],
)
def test_level_variants_are_told_apart(a, b, best):
    """Medians differ, but the intervals reach each other; ``a`` has fewer passes."""
    both = [evidence("a", latency_ratio=LEVEL, **a), evidence("b", latency_ratio=(0.55, 0.5, 0.6), **b)]
    choice = decide(both)
    assert choice.variant_name == best
    assert "level with" in choice.reason


@pytest.mark.parametrize(
    ("metric", "a", "b", "best", "says"),
    [
        ("f1", 0.9, 0.8, "a", "f1 0.9 where that has 0.9"),
        ("f1", 0.8, 0.9, "b", "f1 0.9 where that has 0.8"),
        ("rmse", 2, 1, "b", "rmse 1 where that has 2"),
        ("rmse", 1, 2, "a", "rmse 1 where that has 1"),
        ("top_5", 90, 91, "b", "top_5 91 % where that has 90 %"),
    ],
)
def test_level_variants_are_told_apart_by_any_metric(metric, a, b, best, says):
    metric = named(metric)
    both = [evidence("original", metric, latency_ratio=9, **{metric.figure: a})]
    both += [evidence("a", metric, latency_ratio=LEVEL, **{metric.figure: a})]
    both += [evidence("b", metric, latency_ratio=(0.55, 0.5, 0.6), **{metric.figure: b})]
    choice = decide(both)
    assert choice.variant_name == best
    assert says in choice.reason


def test_a_difference_outside_the_interval_is_a_difference():
    both = [evidence("a", latency_ratio=(0.5, 0.45, 0.55), accuracy_percent=90, size_mb=9)]
    both += [evidence("b", latency_ratio=(0.6, 0.56, 0.65), accuracy_percent=99, size_mb=1)]
    assert decide(both).variant_name == "a"


LATENCIES = {"a": (0.5, 0.5, 0.5), "b": (0.5, 0.4, 0.7), "c": (0.6, 0.6, 0.6)}
RATES = {"a": (500, 500, 500), "b": (500, 300, 600), "c": (400, 400, 400)}


@pytest.mark.parametrize("order", ["abc", "bac", "cba", "cab"])
@pytest.mark.parametrize(("goal", "spreads"), [("latency", LATENCIES), ("throughput", RATES)])
def test_of_equal_medians_the_narrower_interval_says_what_is_level(goal, spreads, order):
    """``c`` reaches the wide interval of ``b`` and not the narrow one of ``a``: its accuracy does not count."""
    accuracy = {"a": 91, "b": 90, "c": 99}
    made = [
        evidence(name, **{"latency_ratio": 1, GOALS[goal]: spreads[name]}, accuracy_percent=accuracy[name]) for name in order
    ]
    assert decide(made, goal=goal).variant_name == "a"


def test_a_better_variant_that_misses_a_gate_does_not_ship():
    both = [evidence("original", latency_ratio=1, accuracy_percent=95)]
    both += [evidence("int8", latency_ratio=0.3, accuracy_percent=80)]
    assert decide(both, (ACCURACY,)).variant_name == "original"


# ---------------------------------------------------------------- laws

values = st.sampled_from([0.5, 1.0, 1.5, 2.0])  # few: ties must happen
spread_values = st.tuples(values, values, values).map(sorted).map(lambda three: (three[1], three[0], three[2]))
optional = st.none() | spread_values
some = st.lists(
    st.fixed_dictionaries(
        {
            "latency_ratio": optional,
            "throughput_rps": optional,
            "memory_mb": spread_values,
            "size_mb": values,
            "accuracy_percent": optional,
            "p99_ms": optional,
        }
    ),
    min_size=1,
    max_size=6,
)
limits = st.fixed_dictionaries({"p99_ms": st.none() | values, "accuracy_percent": st.none() | values})


def variants(drawn):
    named = [("original", drawn[0] | {"latency_ratio": 1.0})] + [(f"v{place}", one) for place, one in enumerate(drawn[1:])]
    return [evidence(name, **{key: value for key, value in one.items() if value is not None}) for name, one in named]


@settings(max_examples=400, deadline=None)
@given(some, limits, st.sampled_from(sorted(GOALS)))
def test_what_ships_passed_every_gate_and_is_not_slower(drawn, limits, goal):
    all_evidence, put_up = variants(drawn), gates(GateSettings(**limits), Target())
    choice = decide(all_evidence, put_up, goal)
    passing = [one for one in choice.judged if one.passed]
    assert [one.variant_name for one in choice.judged] == [one.variant_name for one in all_evidence]
    if choice.variant is None:
        assert passing == []
        return
    assert choice.variant in {one.variant for one in passing}
    shipped = next(one for one in all_evidence if one.variant == choice.variant)
    assert choice.variant_name == shipped.variant_name
    assert shipped.figure("latency_ratio").low <= 1
    for gate in put_up:
        median = shipped.figure(gate.figure).median
        assert median >= gate.limit if gate.at_least else median <= gate.limit


@settings(max_examples=600, deadline=None)
@given(some, st.sampled_from(sorted(GOALS)), st.randoms(use_true_random=False))
def test_the_order_of_variants_does_not_matter(drawn, goal, random):
    all_evidence = variants(drawn)
    passes = {one.variant_name: len(one.variant_name) // 8 for one in all_evidence}  # ties here too
    shuffled = random.sample(all_evidence, len(all_evidence))
    assert decide(all_evidence, goal=goal, passes=passes).variant == decide(shuffled, goal=goal, passes=passes).variant


@settings(max_examples=300, deadline=None)
@given(some, st.sampled_from(sorted(GOALS)))
def test_what_ships_reaches_the_best_of_those_that_passed(drawn, goal):
    all_evidence = variants(drawn)
    choice = decide(all_evidence, goal=goal)
    passed = {one.variant for one in choice.judged if one.passed}
    figures = {one.variant: one.figure(GOALS[goal]) for one in all_evidence if one.variant in passed}
    measured = [one for one in figures.values() if one is not None]
    chosen = figures[choice.variant]
    assert (chosen is None) == (measured == [])
    if chosen is None:
        return
    more = goal == "throughput"
    top = (max if more else min)(one.median for one in measured)
    ends = [one.low if more else one.high for one in measured if one.median == top]
    assert chosen.high >= max(ends) if more else chosen.low <= min(ends)
