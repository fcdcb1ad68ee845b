"""Law ``numbers.repeats``: the same rows have the same answers, run after run and with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check.law import Law
from shipworthy.check.numbers.closeness import Closeness, difference, same_bits
from shipworthy.check.numbers.trial import LAW_SECONDS, MOST_ROWS, Trial
from shipworthy.check.subject import Subject
from shipworthy.protocols import Array
from shipworthy.records import Finding, Target

# The first, the same again, and with another number of threads.
CALLS = 3

REPEATS = Law(
    name="numbers.repeats",
    severity="error",
    holds="the same rows have the same answers, run after run and with any number of threads",
    breaks="no answer can be reproduced, and what was measured is not what is served",
    mend="take the random nodes out: export for inference, without dropout or sampling",
)


def look(subject: Subject, trial: Trial, closeness: Closeness) -> Iterator[Finding]:
    """The same call again, and in a session with another number of threads."""
    if not trial.affords(CALLS):
        yield REPEATS.note("model", f"not tried: a call takes {trial.seconds:.1f} s")
        return
    rows = trial.rows(trial.count(LAW_SECONDS, MOST_ROWS, CALLS))
    first, again = subject.runner.run(rows), subject.runner.run(rows)
    threads = 1 if subject.target.threads > 1 else 2
    other = OnnxRuntimeRunner(Path(subject.model.path), replace(Target(), threads=threads))
    elsewhere = other.run(rows)
    other.close()
    said = trial.said(rows)
    for name, answer in first.items():
        tries = [("a second run", again[name]), (f"{threads} thread{'s' if threads > 1 else ''}", elsewhere[name])]
        yield from _judged(name, answer, tries, closeness, said)


def _judged(name: str, first: Array, tries: list[tuple[str, Array]], closeness: Closeness, said: str) -> Iterator[Finding]:
    """One finding at most: of the try that is farthest off."""
    how, answer = max(tries, key=lambda one: (closeness.excess(one[1], first), not same_bits(one[1], first)))
    if same_bits(answer, first):
        return
    evidence = f"{how} on {said}: {difference(answer, first)}"
    if closeness.excess(answer, first) <= 1:
        yield REPEATS.note(f"output {name}", f"{evidence}, which is rounding: the bits are not the same each time")
    else:
        yield REPEATS.found(
            f"output {name}", evidence, severity="warning" if closeness.levels_explain(answer, first) else "error"
        )
