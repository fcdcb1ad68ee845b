"""Area ``graph``: operators, what is left of the training, what is wasted, and what folding and fusion would gain."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.graph import cost, elsewhere, kernels, precision, training, waste
from shipworthy.check.graph.view import view
from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.records import Finding

LAWS: tuple[Law, ...] = (*kernels.LAWS, *elsewhere.LAWS, *training.LAWS, *precision.LAWS, *waste.LAWS, *cost.LAWS)


def look(subject: Subject) -> Iterator[Finding]:
    """Every law on the graph of a model; ``kernels.look`` is for its file."""
    seen = view(subject.proto)
    yield from elsewhere.look(subject, seen)
    yield from training.look(seen)
    yield from precision.look(seen)
    yield from waste.look(seen)
    yield from cost.look(subject, seen)
