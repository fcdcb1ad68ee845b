"""Law ``numbers.parity``: the ONNX answers what the trained framework answers, on real rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from shipworthy.check.law import Law
from shipworthy.check.numbers.trial import Trial, picked, row_by_row
from shipworthy.check.subject import Subject
from shipworthy.protocols import Array
from shipworthy.records import Finding

# float32 against the framework's float64: what rounding explains, with a margin; a wrong operator is far outside.
ABSOLUTE = 1e-4
RELATIVE = 1e-3
# Rows whose label may differ: ties and thresholds that float32 rounds to the other side.
LABELS_PERCENT = 0.5
# Rows that are enough to find out who is wrong.
WORST = 2

PARITY = Law(
    name="numbers.parity",
    severity="error",
    holds="the ONNX answers what the trained framework answers, on real rows",
    breaks="production answers differ from those that were evaluated",
    mend="the conversion changed the model: convert it with another exporter, or another version of this one",
)


@dataclass(frozen=True)
class Compared:
    """Rows, what the ONNX and the framework answer, and what the law says of it; ``row_by_row``: rows can be taken out."""

    inputs: dict[str, Array]
    ours: dict[str, Array]
    theirs: dict[str, Array]
    findings: tuple[Finding, ...]
    row_by_row: bool

    @property
    def failed(self) -> bool:
        """Whether an answer differs."""
        return any(one.severity == "error" for one in self.findings)

    def worst(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The rows that differ most, and the framework's answers to them; all of them where none can be taken out."""
        if not self.row_by_row or any(self.ours[name].size != theirs.size for name, theirs in self.theirs.items()):
            return self.inputs, self.theirs
        apart = sum((_by_row(self.ours[name], theirs) for name, theirs in self.theirs.items()), np.zeros(1))
        places = np.sort(np.argsort(np.negative(apart), kind="stable")[:WORST])
        return picked(self.inputs, places), picked(self.theirs, places)


def unasked(subject: Subject, trial: Trial) -> Finding | None:
    """Why nothing can be compared; ``None`` when it can."""
    if subject.reference is None:
        return PARITY.note("model", "the model came as ONNX: there is no framework to compare it with")
    if trial.real:
        return None
    return PARITY.found(
        "[data] evaluation",
        "no rows to compare the ONNX with its framework on"
        if subject.data is None
        else f"{subject.data.rows} rows are less than the {trial.least} of one call",
        "name an .npz file with real rows: --data, or evaluation under [data]",
        severity="warning",
    )


def ask(subject: Subject, trial: Trial, inputs: dict[str, Array], ours: dict[str, Array]) -> Compared:
    """The framework's answers beside ours to these rows, and one finding an output.

    Raises:
        Refused, Failed: the framework cannot answer.
    """
    reference = subject.reference
    theirs = dict(zip(ours, reference(inputs) if reference else (), strict=False))
    rows = len(next(iter(inputs.values())))
    of = f", of {trial.data.rows}" if rows < trial.data.rows else ""
    findings = (compare(name, ours[name], expected) for name, expected in theirs.items())
    cut = trial.free and row_by_row(ours, rows) and row_by_row(theirs, rows)
    return Compared(inputs, ours, theirs, tuple(replace(one, evidence=one.evidence + of) for one in findings), cut)


def compare(name: str, answer: Array, expected: Array) -> Finding:
    """The finding on one output: an error where they differ, a note with the largest difference where they agree."""
    if answer.size != expected.size:
        return PARITY.found(f"output {name}", f"shape {list(answer.shape)} instead of {list(expected.shape)}")
    if not answer.size:
        return PARITY.note(f"output {name}", f"nothing to compare: shape {list(answer.shape)}")
    rows = len(answer) if answer.ndim else 1
    if answer.dtype.kind != "f":
        wrong = int((answer.reshape(rows, -1) != expected.reshape(rows, -1)).any(axis=1).sum())
        text = f"{rows - wrong} of {rows} rows equal the framework's"
        if wrong == 0:
            return PARITY.note(f"output {name}", text)
        if 100 * wrong / rows > LABELS_PERCENT:
            return PARITY.found(f"output {name}", text)
        return PARITY.found(f"output {name}", text, "", severity="warning")
    wanted = expected.reshape(rows, -1).astype(np.float64)
    difference = np.abs(answer.reshape(rows, -1).astype(np.float64) - wanted)
    bad = ~(difference <= ABSOLUTE + RELATIVE * np.abs(wanted))  # NaN is bad too
    text = f"largest absolute difference {difference.max():.2g} over {rows} rows"
    largest = np.abs(wanted).max()
    if largest > 0:
        text += f" ({difference.max() / largest:.2g} of the largest answer)"
    if bad.any():
        return PARITY.found(f"output {name}", f"{text}; the first row that differs is {int(np.argwhere(bad)[0][0])}")
    return PARITY.note(f"output {name}", text)


def _by_row(answer: Array, expected: Array) -> Array:
    """How much each row is wrong, from 0 to 1."""
    rows = len(answer)
    if answer.dtype.kind != "f":
        return np.asarray((answer.reshape(rows, -1) != expected.reshape(rows, -1)).any(axis=1), np.float64)
    difference = np.abs(answer.reshape(rows, -1).astype(np.float64) - expected.reshape(rows, -1).astype(np.float64)).max(axis=1)
    difference[~np.isfinite(difference)] = np.finfo(np.float64).max
    return np.asarray(difference / max(difference.max(), 1e-300))
