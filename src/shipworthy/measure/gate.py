"""The decision: limits against figures, and which variant ships. Pure: records in, records out."""

from __future__ import annotations

import math

from shipworthy.records import Choice, Evidence, Figure, Gate, Judged, Target, Verdict
from shipworthy.settings import GateSettings

# Each figure that a gate can name: its unit, and whether more is better.
LIMITS = {
    "accuracy_percent": ("%", True),
    "accuracy_kept_percent": ("%", True),
    "p50_ms": ("ms", False),
    "p99_ms": ("ms", False),
    "throughput_rps": ("rows/s", True),
    "memory_mb": ("MB", False),
    "size_mb": ("MB", False),
    "availability_percent": ("%", True),
}
SERVED = {"availability_percent"}
# Never the user's to switch off: a variant that is slower than what it came from is no optimisation.
NOT_SLOWER = Gate(figure="latency_ratio", limit=1.0, unit="x", at_least=False)
GOALS = {"latency": "latency_ratio", "throughput": "throughput_rps", "memory": "memory_mb", "size": "size_mb"}
ORIGINAL = "original"


def gates(settings: GateSettings, target: Target, *, served: bool = False) -> tuple[Gate, ...]:
    """The gates that the settings and the target's budget put up: on measured variants, or on the served release."""
    limits = {name: getattr(settings, name) for name in LIMITS}
    if target.memory_mb is not None:
        limits["memory_mb"] = min(target.memory_mb, limits["memory_mb"] or target.memory_mb)
    return tuple(
        Gate(figure=name, limit=limit, unit=LIMITS[name][0], at_least=LIMITS[name][1])
        for name, limit in limits.items()
        if limit is not None and (name in SERVED) == served
    )


def judge(put_up: tuple[Gate, ...], evidence: Evidence) -> Judged:
    """The verdict of every gate on one variant."""
    if evidence.variant_name != ORIGINAL:
        put_up = (*put_up, NOT_SLOWER)
    return Judged(
        variant=evidence.variant,
        variant_name=evidence.variant_name,
        verdicts=tuple(verdict(gate, evidence.figure(gate.figure)) for gate in put_up),
    )


def verdict(gate: Gate, figure: Figure | None) -> Verdict:
    """Whether the median meets the limit, and by how much."""
    if figure is None:
        mend = ": it needs evaluation rows with labels under [data]" if gate.figure.startswith("accuracy") else ""
        reason = f"{gate.figure} was not measured, and the limit is {gate}{mend}"
        return Verdict(gate=gate, figure=None, passed=False, reason=reason)
    value = figure.median
    passed = value >= gate.limit if gate.at_least else value <= gate.limit
    distance = abs(value - gate.limit)
    reason = (
        f"{gate.figure} is {_number(value)} {gate.unit}, {'within' if passed else 'beyond'} the limit of "
        f"{'at least' if gate.at_least else 'at most'} {_number(gate.limit)} {gate.unit}"
    )
    if not passed:
        reason += f" by {_number(distance)} {gate.unit}"
        if gate.figure == NOT_SLOWER.figure:
            spread = f"{figure.low:.3f} to {figure.high:.3f}"
            reason = f"slower than the original: {value:.3f} times its median latency ({spread}), taken in turn with it"
    return Verdict(gate=gate, figure=value, passed=passed, reason=reason)


def choose(judged: tuple[Judged, ...], evidence: tuple[Evidence, ...], sizes: dict[str, int], goal: str) -> Choice:
    """The variant that ships.

    Best in the goal among those that passed. Differences inside the intervals are no differences: among the variants
    whose interval reaches the best one's, the most accurate wins, then the smaller, then the one with fewer passes.

    Args:
        judged: the verdicts on every variant.
        evidence: its figures, in the same order.
        sizes: variant to the number of passes in its chain.
        goal: a word of ``[optimize] goal``.
    """
    measured = {one.variant: one for one in evidence}
    passed = [measured[one.variant] for one in judged if one.passed]
    if not passed:
        missed = "; ".join(f"{one.variant_name}: {bad.reason}" for one in judged for bad in one.verdicts if not bad)
        return Choice(variant=None, variant_name=None, reason=f"no variant passes every gate: {missed}", judged=judged)
    name = GOALS[goal]
    more = name == "throughput_rps"
    best = min(passed, key=lambda one: _rank(one.figure(name), more=more))
    level = [one for one in passed if _reaches(one.figure(name), best.figure(name), more=more)]
    pick = min(
        level,
        key=lambda one: (
            -_median(one, "accuracy_percent"),
            _median(one, "size_mb"),
            sizes[one.variant],
            _rank(one.figure(name), more=more),
            one.variant,
        ),
    )
    return Choice(
        variant=pick.variant, variant_name=pick.variant_name, reason=_why(pick, level, passed, evidence[0], goal), judged=judged
    )


def _why(pick: Evidence, level: list[Evidence], passed: list[Evidence], original: Evidence, goal: str) -> str:
    text = f"{pick.variant_name} is best in {goal} of the {len(passed)} that pass every gate"
    ratio = pick.figure("latency_ratio")
    if ratio and pick is not original:
        text += f": {1 / ratio.median:.2f} times as fast as the original"
        right, before = pick.figure("accuracy_percent"), original.figure("accuracy_percent")
        text += f", {right.median:.2f} % right where that has {before.median:.2f} %" if right and before else ""
    others = [one.variant_name for one in level if one is not pick]
    if others:
        text += f"; level with {', '.join(others)} within the spread, and more accurate, smaller or simpler"
    return text


def _number(value: float) -> str:
    """Four digits that tell, and no powers of ten for people to count."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"  # noqa: PLR2004


def _median(evidence: Evidence, name: str) -> float:
    figure = evidence.figure(name)
    return figure.median if figure else 0.0


def _rank(figure: Figure | None, *, more: bool) -> tuple[float, float]:
    """Less is better: the median, then the end of the interval that others must reach; what was not measured comes last."""
    if figure is None:
        return math.inf, math.inf
    return (-figure.median, -figure.low) if more else (figure.median, figure.high)


def _reaches(one: Figure | None, best: Figure | None, *, more: bool) -> bool:
    if one is None or best is None:
        return one is best
    return one.high >= best.low if more else one.low <= best.high
