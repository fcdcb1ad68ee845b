"""The decision: limits against figures, and which variant ships. Pure: records in, records out."""

from __future__ import annotations

import math

from shipworthy.records import Choice, Evidence, Figure, Gate, Judged, Metric, Target, Verdict
from shipworthy.settings import GateSettings

# Each figure that a gate can name, but those of the metric: its unit, and whether more is better.
LIMITS = {
    "accuracy_percent": ("%", True),
    "accuracy_kept_percent": ("%", True),
    "agreement_percent": ("%", True),
    "p50_ms": ("ms", False),
    "p99_ms": ("ms", False),
    "throughput_rps": ("rows/s", True),
    "memory_mb": ("MB", False),
    "gpu_memory_mb": ("MB", False),
    "size_mb": ("MB", False),
    "compressed_mb": ("MB", False),
    "availability_percent": ("%", True),
}
SERVED = {"availability_percent"}
# Of a GPU: no limit where a target has none.
ON_GPU = {"gpu_memory_mb"}
# Of what a model answers, not of what it costs.
ANSWERS = {"accuracy_percent", "accuracy_kept_percent", "agreement_percent"}
# Never the user's to switch off: a variant that is slower than what it came from is no optimisation. Slower is one whose
# whole interval lies above 1: less is the noise of the machine.
NOT_SLOWER = Gate(figure="latency_ratio", limit=1.0, unit="x", at_least=False)
GOALS = {"latency": "latency_ratio", "throughput": "throughput_rps", "memory": "memory_mb", "size": "size_mb"}
ORIGINAL = "original"


def gates(settings: GateSettings, target: Target, metric: Metric | None = None, *, served: bool = False) -> tuple[Gate, ...]:
    """The gates that the settings and the target's budget put up: on measured variants, or on the served release.

    Args:
        settings: the limits.
        target: whose memory budget is a limit, too; limits on a GPU's memory are for targets with one.
        metric: what ``metric`` and ``metric_kept_percent`` are limits on; ``None``: the accuracy.
        served: those on the released server; they are never strict.
    """
    metric = metric or Metric()
    limits = {name: (getattr(settings, name), *of) for name, of in LIMITS.items() if (name in SERVED) == served}
    if target.device != "cuda":
        limits = {name: limit for name, limit in limits.items() if name not in ON_GPU}
    if target.memory_mb is not None and not served:
        limits["memory_mb"] = (min(target.memory_mb, settings.memory_mb or target.memory_mb), *LIMITS["memory_mb"])
    made = [(name, *limit) for name, limit in limits.items()]
    if not served:
        made.append((metric.figure, settings.metric, metric.unit, metric.more))
        made.append((metric.kept, settings.metric_kept_percent, "%", True))
    return tuple(
        Gate(figure=name, limit=limit, unit=unit, at_least=more, strict=settings.strict and not served)
        for name, limit, unit, more in made
        if limit is not None
    )


def of_answers(gate: Gate) -> bool:
    """Whether it is a limit on what a variant answers, which any machine can tell, and not on what it costs."""
    return gate.figure in ANSWERS or gate.figure not in {*LIMITS, NOT_SLOWER.figure}


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
    """Whether the median meets the limit, or the whole interval where the gate is strict, and by how much.

    ``NOT_SLOWER`` is met as long as any of the interval meets it.
    """
    if figure is None:
        reason = f"{gate.figure} was not measured, and the limit is {gate}{_lacking(gate)}"
        return Verdict(gate=gate, figure=None, passed=False, reason=reason)
    passed = _meets(_decisive(gate, figure), gate)
    return Verdict(gate=gate, figure=figure.median, passed=passed, reason=_reason(gate, figure, passed=passed))


def is_close(gate: Gate, figure: Figure) -> bool:
    """Whether the interval holds the limit: the figure of other rows, or of another day, may fall on its other side."""
    return gate.figure != NOT_SLOWER.figure and figure.low < gate.limit < figure.high


def _decisive(gate: Gate, figure: Figure) -> float:
    """The value that is held against the limit."""
    if gate.figure == NOT_SLOWER.figure:
        return figure.low
    worst = figure.low if gate.at_least else figure.high
    return worst if gate.strict else figure.median


def _meets(value: float, gate: Gate) -> bool:
    return value >= gate.limit if gate.at_least else value <= gate.limit


def _reason(gate: Gate, figure: Figure, *, passed: bool) -> str:
    value, meets = figure.median, _meets(figure.median, gate)
    if gate.figure == NOT_SLOWER.figure and not (passed and meets):
        word = "level with" if passed else "slower than"
        spread = f"{figure.low:.3f} to {figure.high:.3f}"
        return f"{word} the original: {value:.3f} times its median latency ({spread}), taken in turn with it"
    limit = f"the limit of {'at least' if gate.at_least else 'at most'} {_with_unit(gate.limit, gate)}"
    reason = f"{gate.figure} is {_with_unit(value, gate)}, {'within' if meets else 'beyond'} {limit}"
    if not meets:
        reason += f" by {_with_unit(abs(value - gate.limit), gate)}"
    if is_close(gate, figure):
        of = "repeats" if gate.figure in LIMITS and not of_answers(gate) else "rows"
        of = "requests" if gate.figure in SERVED else of
        how = "this is by the estimate" if passed == meets else "strict is set under [gates]"
        ends = f"{_number(figure.low)} to {_with_unit(figure.high, gate)}"
        reason += f"; {how}, and the interval, {ends} from {figure.samples} {of}, holds the limit: measure more {of}"
    return reason


def _lacking(gate: Gate) -> str:
    """What a figure needs that was not taken."""
    if gate.figure in ON_GPU:
        return ": it needs the GPU's driver to tell it, and pip install 'shipworthy[gpu]'"
    if of_answers(gate) and gate.figure != "agreement_percent":
        return ": it needs evaluation rows with labels under [data]"
    return ""


def _with_unit(value: float, gate: Gate) -> str:
    return f"{_number(value)} {gate.unit}".rstrip()


def choose(judged: tuple[Judged, ...], evidence: tuple[Evidence, ...], sizes: dict[str, int], goal: str) -> Choice:
    """The variant that ships.

    Best in the goal among those that passed. Differences inside the intervals are no differences: among the variants
    whose interval reaches the best one's, the best by the metric wins, then the smaller, then the one with fewer passes.

    Args:
        judged: the verdicts on every variant.
        evidence: its figures, in the same order.
        sizes: name of a variant to the number of passes in its chain.
        goal: a word of ``[optimize] goal``.
    """
    measured = {one.variant_name: one for one in evidence}
    passed = [measured[one.variant_name] for one in judged if one.passed]
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
            -_quality(one),
            _median(one, "size_mb"),
            sizes[one.variant_name],
            _rank(one.figure(name), more=more),
            one.variant_name,
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
        ours, before, metric = pick.quality, original.quality, pick.metric
        if ours and before and metric.name == "accuracy":
            text += f", {ours.median:.2f} % right where that has {before.median:.2f} %"
        elif ours and before:
            text += f", {metric.name} {_number(ours.median)} {metric.unit}".rstrip()
            text += f" where that has {_number(before.median)} {metric.unit}".rstrip()
    others = [one.variant_name for one in level if one is not pick]
    if others:
        text += f"; level with {', '.join(others)} within the spread, and more accurate, smaller or simpler"
    return text


def _number(value: float) -> str:
    """Four digits that tell, and no powers of ten for people to count."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"  # noqa: PLR2004


def _quality(evidence: Evidence) -> float:
    """More is better."""
    figure = evidence.quality
    return 0.0 if figure is None else figure.median if evidence.metric.more else -figure.median


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
