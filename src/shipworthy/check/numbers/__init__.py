"""Area ``numbers``: the answers are those that the framework gives, finite, and the same whoever else asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shipworthy.backends import onnxruntime_inside
from shipworthy.backends.onnxruntime_inside import Inside
from shipworthy.check.law import Law
from shipworthy.check.numbers import batch, closeness, finite, half, parity, repeats, runtime
from shipworthy.check.numbers.parity import compare
from shipworthy.check.numbers.trial import Trial, answers, prepare
from shipworthy.check.subject import Subject
from shipworthy.errors import Failed
from shipworthy.records import Finding

LAWS: tuple[Law, ...] = (
    parity.PARITY,
    runtime.RUNTIME,
    finite.FINITE,
    batch.BATCH,
    repeats.REPEATS,
    half.HALF,
)


def look(subject: Subject) -> Iterator[Finding]:
    """Every law, on the rows of the evaluation data, or on made-up ones where a law needs none that are real."""
    signature = subject.model.signature
    if not signature.inputs or not signature.outputs:
        return  # the law signature.ends speaks of it
    try:
        trial = prepare(subject)
    except Failed as error:
        yield _fails(subject, error)
        return
    with onnxruntime_inside.opened(Path(subject.model.path), {spec.name for spec in signature.outputs}) as inside:
        yield from _laws(subject, trial, inside)


def _laws(subject: Subject, trial: Trial, inside: Inside) -> Iterator[Finding]:
    close = closeness.of(subject.proto)
    unsteady = [*repeats.look(subject, trial, close)]
    unstable = {one.place.removeprefix("output ") for one in unsteady if one.severity != "note"}
    unasked, failed = parity.unasked(subject, trial), False
    if trial.real:
        inputs, ours = answers(subject.runner, trial)
        if unasked is None:
            compared = parity.ask(subject, trial, inputs, ours)
            failed = compared.failed and not unstable
            yield from runtime.blame(subject, inside, compared, close) if failed else compared.findings
        yield from finite.of_rows(subject, inside, trial, inputs, ours)
    if unasked:
        yield unasked
    yield from unsteady
    yield from batch.look(subject, trial, close, unstable)
    if not unstable and not failed:
        yield from runtime.look(subject, inside, trial, close)
    yield from finite.of_extremes(subject, inside, trial)
    yield from half.look(subject, inside, trial)


def _fails(subject: Subject, error: Failed) -> Finding:
    if subject.data is not None:
        return runtime.RUNTIME.found("model", f"the runtime cannot run the rows of {subject.data.origin}: {error.found}")
    return runtime.RUNTIME.note(
        "model", f"the runtime cannot run made-up rows, so no law of numbers is tried without --data: {error.found}"
    )


__all__ = ["LAWS", "compare", "look"]
