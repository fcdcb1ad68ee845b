"""Law ``numbers.batch``: a row has the same answer alone and among any others."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from shipworthy.check.law import Law
from shipworthy.check.numbers.closeness import Closeness, difference
from shipworthy.check.numbers.trial import LAW_SECONDS, MOST_ROWS, Trial, picked, row_by_row
from shipworthy.check.subject import Subject
from shipworthy.protocols import Array
from shipworthy.records import Finding

# Together, in reverse, and each alone.
CALLS = 3

BATCH = Law(
    name="numbers.batch",
    severity="error",
    holds="a row has the same answer alone, among others and in any order of them",
    breaks="the server puts the rows of many callers into one call: each gets answers that depend on the others",
    mend="export it for inference (torch: model.eval(), Keras: training=False); let no node reduce or normalise over axis 0",
)
LEVELS = "the scales of a dynamically quantized model are those of the whole call: quantize it statically, or serve rows alone"


def look(subject: Subject, trial: Trial, closeness: Closeness, unstable: Collection[str]) -> Iterator[Finding]:
    """Some rows together, in reverse, and one by one; outputs that differ from run to run are left out."""
    if not trial.free or not subject.model.signature.is_batched:
        yield BATCH.note(
            "model", "the server does not put rows together: the first dimension of an input or output is no free batch"
        )
        return
    count = trial.count(LAW_SECONDS, MOST_ROWS, CALLS) if trial.data.rows > 1 else 1
    if trial.data.rows == 1:
        yield BATCH.note("[data] evaluation", "one row alone says nothing on how rows are put together")
        return
    if not trial.affords(2 * CALLS):
        yield BATCH.note("model", f"not tried: a call takes {trial.seconds:.1f} s")
        return
    count = max(count, 2)
    rows = trial.rows(count)
    together = subject.runner.run(rows)
    missing = {name: answer for name, answer in together.items() if not row_by_row({name: answer}, count)}
    for name, answer in missing.items():
        yield BATCH.found(
            f"output {name}", f"{count} rows have an answer of shape {list(answer.shape)}: it has no row for each"
        )
    order = np.arange(count)[::-1]
    shuffled = subject.runner.run(picked(rows, order))
    alone = [subject.runner.run({name: array[one : one + 1] for name, array in rows.items()}) for one in range(count)]
    for name in together.keys() - missing.keys() - {*unstable}:
        pairs = [(f"row {one} alone", part[name], together[name][one : one + 1]) for one, part in enumerate(alone)]
        pairs += [
            (f"row {one} with the rows in reverse", shuffled[name][place : place + 1], together[name][one : one + 1])
            for place, one in enumerate(order)
        ]
        yield from _judged(name, pairs, closeness, f"among {trial.said(rows)}")


def _judged(name: str, pairs: list[tuple[str, Array, Array]], closeness: Closeness, said: str) -> Iterator[Finding]:
    how, answer, expected = max(pairs, key=lambda pair: closeness.excess(pair[1], pair[2]))
    if closeness.excess(answer, expected) <= 1:
        return
    evidence = f"{how} and {said}: {difference(answer, expected)}"
    if all(closeness.levels_explain(one, other) for _, one, other in pairs):
        yield BATCH.found(f"output {name}", evidence, LEVELS, "warning")
    else:
        yield BATCH.found(f"output {name}", evidence)
