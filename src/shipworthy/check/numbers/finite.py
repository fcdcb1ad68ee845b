"""Law ``numbers.finite``: no NaN and no infinity, on real rows and on the ends of what the inputs' type can hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shipworthy.backends.onnxruntime_inside import Inside
from shipworthy.check.law import Law
from shipworthy.check.numbers import graph
from shipworthy.check.numbers.trial import Trial, picked, row_by_row
from shipworthy.check.subject import Subject
from shipworthy.check.words import title
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Finding

# A limit this near to the largest real input is one that production may meet.
NEAR_TIMES = 1000.0
# The four kinds of extreme rows, and the search for where the large ones begin to matter.
CALLS = 12
# The largest inputs that are tried, as a power of the largest number of the type: 6e28 of float32. Beyond, the sums of any
# layer overflow, which is true of every model and says nothing on one; squares, cubes and exponentials do so below.
LARGE = 0.75
# Operators that take the size of their answer as floats, and from which input on.
SIZED = {"Resize": 1, "Upsample": 1, "Range": 0}

FINITE = Law(
    name="numbers.finite",
    severity="error",
    holds="answers to finite inputs are finite: to real rows, zeros, the smallest numbers of the type and very large ones",
    breaks="clients get NaN or infinity, which JSON cannot say, and whatever is computed from such an answer is lost",
    mend="clip or check what the node reads: an epsilon below a division or a logarithm, a clip before an exponential",
)
CLIP = "refuse or clip inputs beyond that before the model, or in it: a Clip node behind the input"


@dataclass(frozen=True)
class Breach:
    """Outputs that are not finite, with the first word on what they are; no outputs where the runtime gave none."""

    outputs: tuple[str, ...]
    kind: str

    @property
    def place(self) -> str:
        """What the finding calls it."""
        return f"output {', '.join(self.outputs)}" if self.outputs else "model"


def of_rows(
    subject: Subject, inside: Inside, trial: Trial, inputs: dict[str, Array], answers: Mapping[str, Array]
) -> Iterator[Finding]:
    """NaN and infinity in the answers to real rows: an error an output, with the node that made the first."""
    count = len(next(iter(inputs.values())))
    for name, answer in answers.items():
        bad = np.logical_not(_finite(answer))
        if not bad.any():
            continue
        where, rows = trial.said(inputs), inputs
        if trial.free and row_by_row({name: answer}, count):
            by_row = bad.reshape(count, -1).any(axis=1)
            first = int(np.argmax(by_row))
            where = f"{int(by_row.sum())} of {count} rows, first in row {first}"
            rows = picked(inputs, np.array([first]))
        yield FINITE.found(f"output {name}", f"{_kind(answer)} in {where}{_maker(subject, inside, [name], rows, None)}")


def of_extremes(subject: Subject, inside: Inside, trial: Trial) -> Iterator[Finding]:
    """Zeros, the smallest numbers and very large ones in place of every float input of one usual call."""
    usual = trial.rows(trial.least)
    floats = _floats(subject, usual)
    if not floats:
        return
    if not trial.affords(CALLS):
        yield FINITE.note("model", f"extreme inputs are not tried: a call takes {trial.seconds:.1f} s")
        return
    first = _breach(subject, usual, ())
    if first and not trial.real:
        maker = _maker(subject, inside, first.outputs, usual, None)
        yield FINITE.found(first.place, f"{trial.said(usual)} give {first.kind}{maker}", severity="warning")
    known = first.outputs if first else ()
    for text, smallest in (("zeros", False), ("the smallest numbers of the type", True)):
        rows = _extreme(usual, floats, None if smallest else 0.0, alternate=smallest)
        if breach := _breach(subject, rows, known):
            maker = _maker(subject, inside, breach.outputs, rows, usual)
            yield FINITE.found(breach.place, f"inputs of {text} give {breach.kind}{maker}", severity="warning")
            break
    for alternate in (False, True):
        if found := _largest(subject, inside, usual, known, trial, alternate=alternate):
            yield found
            return


def _largest(
    subject: Subject, inside: Inside, usual: dict[str, Array], known: Collection[str], trial: Trial, *, alternate: bool
) -> Finding | None:
    """What very large numbers do, and the power of ten up to which all answers are finite."""
    floats = _floats(subject, usual)
    top = min(float(np.finfo(usual[name].dtype.name).max) for name in floats) ** LARGE
    rows = _extreme(usual, floats, top, alternate=alternate)
    breach = _breach(subject, rows, known)
    if breach is None:
        return None
    good, bad = -1, int(np.ceil(np.log10(top)))
    while bad - good > 1:
        middle = (good + bad) // 2
        tried = _extreme(usual, floats, 10.0**middle, alternate=alternate)
        if found := _breach(subject, tried, known):
            bad, rows, breach = middle, tried, found
        else:
            good = middle
    size, limit = min(10.0**bad, top), 10.0**good
    maker = _maker(subject, inside, breach.outputs, rows, usual)
    evidence = f"inputs of {size:.2g}{' and its negative in turn' if alternate else ''} give {breach.kind}{maker}"
    evidence += f"; up to {limit:.0e} answers are finite" if good >= 0 else ""
    largest = max(float(np.abs(trial.data.inputs[name]).max(initial=0)) for name in floats) if trial.real else 0.0
    if size > NEAR_TIMES * largest:
        return FINITE.found(breach.place, evidence, CLIP, "note")
    return FINITE.found(breach.place, f"{evidence}; the largest real input is {largest:.2g}", CLIP, "warning")


def _floats(subject: Subject, usual: Arrays) -> list[str]:
    """The inputs to replace; not those that say how large an answer is to be: it would not fit in memory."""
    sizes = {name for node in subject.proto.graph.node for name in node.input[SIZED.get(node.op_type, len(node.input)) :]}
    return [name for name, array in usual.items() if array.dtype.kind == "f" and name not in sizes]


def _extreme(usual: Arrays, floats: Sequence[str], size: float | None, *, alternate: bool) -> dict[str, Array]:
    """The usual call with all float inputs of that size, or the least above zero; positive, or of both signs in turn."""
    made = dict(usual)
    for name in floats:
        info = np.finfo(usual[name].dtype.name)
        values = np.full(usual[name].size, info.smallest_subnormal if size is None else min(size, float(info.max)), info.dtype)
        if alternate:
            values[1::2] = -values[1::2]
        made[name] = values.reshape(usual[name].shape)
    return made


def _breach(subject: Subject, inputs: Arrays, known: Collection[str]) -> Breach | None:
    """What is not finite in the answers, beside what is so already for a usual call."""
    try:
        answers = subject.runner.run(inputs)
    except Failed as error:
        return Breach((), f"no answer: {error.found}")
    lost = {name: answer for name, answer in answers.items() if name not in known and not _finite(answer).all()}
    return Breach(tuple(lost), _kind(*lost.values())) if lost else None


def _maker(subject: Subject, inside: Inside, outputs: Sequence[str], inputs: Arrays, usual: Arrays | None) -> str:
    """The first node whose answer is not finite, as the end of a sentence; empty where it cannot be found.

    Where the same tensor is so for the ``usual`` call, too, the graph means it (masks of attention): it is passed over.
    """
    proto = subject.proto
    nodes = graph.upstream(proto.graph, outputs)
    types = graph.inferred(proto, inputs)
    makers = {name: node for node in nodes for name in node.output}
    try:
        for group in graph.groups(graph.tensors(nodes, types), types):
            seen = inside.look(group, inputs)
            lost = [name for name in group if not _finite(seen[name]).all()]
            if lost and usual is not None:
                before = inside.look(lost, usual)
                lost = [name for name in lost if _finite(before[name]).all()]
            if lost:
                return f", made first by {title(makers[lost[0]])}"
    except (Failed, Refused):
        return ""  # the node is a help: the finding stands without it
    return ""


def _finite(answer: Array) -> Array:
    if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fV":
        return np.ones(np.shape(answer), bool)
    return np.asarray(np.isfinite(answer))


def _kind(*answers: Array) -> str:
    return "NaN" if any(np.isnan(answer.astype(np.float64)).any() for answer in answers) else "infinity"
