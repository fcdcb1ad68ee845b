"""Law ``numbers.runtime``: the runtime answers what the graph says, optimised or not; and who is wrong when parity fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import onnx
from msgspec.structs import replace

from shipworthy.backends.onnxruntime_inside import Inside
from shipworthy.check.law import Law
from shipworthy.check.numbers import graph, kernels
from shipworthy.check.numbers.closeness import Closeness, difference
from shipworthy.check.numbers.parity import PARITY, Compared, compare
from shipworthy.check.numbers.trial import LAW_SECONDS, Trial
from shipworthy.check.subject import Subject
from shipworthy.check.words import title
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Finding

Look = Callable[[Sequence[str]], Mapping[str, Array]]

# Rows of an ordinary look, and the time for a search and for the reference where an answer is known to be wrong.
ROWS = 2
SEARCH_SECONDS = 30.0
REFERENCE_SECONDS = 10.0

RUNTIME = Law(
    name="numbers.runtime",
    severity="error",
    holds="the runtime runs the model, optimised or not alike, and each node answers what ONNX's reference evaluator does",
    breaks="answers change with the version of the runtime, or with the machine, and no framework can reproduce them",
    mend="use another version of the runtime, or turn its optimisations off (ORT_DISABLE_ALL) and report the node to it",
)
KERNEL = (
    "compare the node's answer with the framework's: where the runtime is wrong use another version of it, and report the node"
)


@dataclass(frozen=True)
class Verdict:
    """What was found on the runtime, and in words what that leaves for the conversion."""

    findings: tuple[Finding, ...]
    said: str


def look(subject: Subject, inside: Inside, trial: Trial, closeness: Closeness) -> tuple[Finding, ...]:
    """A few rows: optimised beside not optimised, and the nodes beside the reference."""
    rows = trial.rows(max(trial.least, min(ROWS, trial.data.rows)) if trial.free else trial.least)
    return _judge(subject, inside, rows, closeness, LAW_SECONDS, trial.said(rows)).findings


def blame(subject: Subject, inside: Inside, compared: Compared, closeness: Closeness) -> tuple[Finding, ...]:
    """The findings of parity with what the worst rows say of the reason, and those on the runtime."""
    inputs, theirs = compared.worst()
    verdict = _judge(subject, inside, inputs, closeness, REFERENCE_SECONDS, "the rows that differ most from the framework's")
    said, mend = verdict.said, PARITY.mend
    if verdict.findings:
        mend = RUNTIME.mend
        plain = inside.look([*theirs], inputs)
        if all(compare(name, plain[name], expected).severity != "error" for name, expected in theirs.items()):
            said += "; without optimisations the ONNX answers as the framework does: the conversion is right"
    findings = tuple(
        replace(one, evidence=f"{one.evidence}; {said}", mend=mend) if one.severity == "error" else one
        for one in compared.findings
    )
    return (*findings, *verdict.findings)


def _judge(subject: Subject, inside: Inside, rows: Arrays, closeness: Closeness, seconds: float, said: str) -> Verdict:
    proto = subject.proto
    ours = subject.runner.run(rows)
    try:
        plain = inside.look([*ours], rows)
        apart = {name: answer for name, answer in ours.items() if closeness.excess(answer, plain[name]) > 1}
        found = [_optimised(proto, inside, rows, closeness, name, ours[name], plain[name], said) for name in [*apart][:1]]
        nodes = kernels.compare(proto, inside, rows, closeness, seconds)
    except (Failed, Refused) as error:
        note = RUNTIME.note("model", f"the runtime cannot be compared with itself and the reference: {error.found}")
        return Verdict((note,), f"whose fault it is cannot be told: {error.found}")
    if nodes.departures:
        found.append(_departed(nodes, said))
    if found:
        return Verdict(tuple(found), f"the runtime is wrong, or the reference: see {RUNTIME.name} at {found[0].place}")
    others = "the runtime with and without its optimisations"
    if nodes.compared:
        others += f", and ONNX's reference in {nodes.compared} of {nodes.of} nodes,"
    return Verdict(
        (), f"{others} agree{'' if nodes.compared else ', and the reference has none of the nodes'}: the conversion is wrong"
    )


def _optimised(
    proto: onnx.ModelProto, inside: Inside, rows: Arrays, closeness: Closeness, name: str, ours: Array, plain: Array, said: str
) -> Finding:
    nodes = graph.upstream(proto.graph, [name])
    last, sure = bisect(
        nodes,
        [name],
        lambda names: inside.look(names, rows, optimised=True),
        lambda names: inside.look(names, rows),
        closeness,
    )
    evidence = f"output {name} with optimisations beside without on {said}: {difference(ours, plain)}"
    evidence += f"; they part at this node{'' if sure else ' or before it'}, of {len(nodes)}"
    levels = closeness.levels_explain(ours, plain)
    return RUNTIME.found(title(nodes[last]), evidence, severity="warning" if levels else "error")


def _departed(nodes: kernels.Kernels, said: str) -> Finding:
    """A warning: the reference has faults of its own."""
    first = nodes.departures[0]
    evidence = f"given the same inputs it departs from ONNX's reference evaluator on {said}: {first.evidence}"
    if len(nodes.departures) > 1:
        evidence += f"; so {len(nodes.departures) - 1} more of {nodes.compared} nodes compared"
    return RUNTIME.found(title(first.node), evidence, KERNEL, "warning")


def bisect(
    nodes: Sequence[onnx.NodeProto], goals: Sequence[str], one: Look, other: Look, closeness: Closeness
) -> tuple[int, bool]:
    """The first node after which two ways to run a graph are apart, by halving; whether the time was enough to be sure.

    After each node all that is handed on to later ones is compared: where it agrees, what differs in the end was made later.

    Args:
        nodes: those that the goals depend on, in order.
        goals: outputs that differ.
        one: gives tensors by name.
        other: gives them in the other way.
        closeness: how far they may be apart.
    """
    ends = perf_counter() + SEARCH_SECONDS
    good, bad = -1, len(nodes) - 1
    while bad - good > 1:
        if perf_counter() > ends:
            return bad, False
        middle = (good + bad) // 2
        names = graph.cut(nodes, middle, goals)
        seen, beside = one(names), other(names)
        if any(closeness.excess(seen[name], beside[name]) > 1 for name in names):
            bad = middle
        else:
            good = middle
    return bad, True
