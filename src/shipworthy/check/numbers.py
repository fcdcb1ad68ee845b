"""Area ``numbers``: the ONNX answers what the trained framework answers, on real rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.protocols import Array
from shipworthy.records import Finding

# float32 against the framework's float64: what rounding explains, with a margin; a wrong operator is far outside.
ABSOLUTE = 1e-4
RELATIVE = 1e-3
# Rows whose label may differ: ties and thresholds that float32 rounds to the other side.
LABELS_PERCENT = 0.5

PARITY = Law(
    name="numbers.parity",
    severity="error",
    holds="the ONNX answers what the trained framework answers, on real rows",
    breaks="production answers differ from those that were evaluated",
    mend="the conversion changed the model: convert it with another exporter, or another version of this one",
)
LAWS = (PARITY,)


def look(subject: Subject) -> Iterator[Finding]:
    """Compare every output on every row of the evaluation data."""
    if subject.reference is None:
        yield PARITY.note("model", "the model came as ONNX: there is no framework to compare it with")
        return
    if subject.data is None:
        yield PARITY.found(
            "[data] evaluation",
            "no rows to compare the ONNX with its framework on",
            "name an .npz file with real rows: --data, or evaluation under [data]",
            severity="warning",
        )
        return
    ours = subject.runner.run(subject.data.inputs)
    theirs = subject.reference(subject.data.inputs)
    for (name, answer), expected in zip(ours.items(), theirs, strict=False):
        yield compare(name, answer, expected)


def compare(name: str, answer: Array, expected: Array) -> Finding:
    """The finding on one output: an error where they differ, a note with the largest difference where they agree."""
    if answer.size != expected.size:
        return PARITY.found(f"output {name}", f"shape {list(answer.shape)} instead of {list(expected.shape)}")
    rows = len(answer)
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
    allowed = ABSOLUTE + RELATIVE * np.abs(wanted)
    bad = ~(difference <= allowed)  # NaN is bad too
    text = f"largest absolute difference {difference.max():.2g} over {rows} rows"
    if bad.any():
        return PARITY.found(f"output {name}", f"{text}; the first row that differs is {int(np.argwhere(bad)[0][0])}")
    return PARITY.note(f"output {name}", text)
