"""Whether a request fits a model, whatever the protocol: names, dtypes, shapes, rows; and what an output can say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shipworthy.errors import Refused
from shipworthy.records import Signature, TensorSpec

Entry = tuple[str, str, tuple[int, ...]]
"""An input as a request announces it: its name, its datatype in the protocol's word, its shape."""


def check(entries: Sequence[Entry], signature: Signature, words: Mapping[str, str]) -> int:
    """The rows of a request whose inputs fit the model: the first dimension, where that is free, else 1.

    Args:
        entries: the inputs as the request announces them.
        signature: what the model takes.
        words: dtype to the protocol's word for it.

    Raises:
        Refused: an input is missing, unknown or there twice, of another dtype or shape, or the rows differ or are none.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    names = [name for name, _, _ in entries]
    if sorted(names) != sorted(specs):
        raise Refused(
            "the inputs are not those of the model, each once",
            found=", ".join(names)[:500] or "none",
            expected=", ".join(str(spec) for spec in signature.inputs),
        )
    for name, word, shape in entries:
        _refuse_misfit(name, word, shape, specs[name], words)
    return rows({name: shape for name, _, shape in entries}, signature)


def rows(shapes: Mapping[str, tuple[int, ...]], signature: Signature) -> int:
    """Rows lie along the first axis of every input: where that is free, all inputs have as many, and at least one.

    Args:
        shapes: of every input, by name; each fits the signature.
        signature: what the model takes.

    Returns:
        The rows; 1 where no input has a free first dimension.

    Raises:
        Refused: the inputs differ in their rows, or there are none.
    """
    counts = {spec.name: shapes[spec.name][0] for spec in signature.inputs if spec.shape and spec.shape[0] is None}
    if len(set(counts.values())) > 1:
        raise Refused(
            "the inputs differ in their number of rows",
            found=", ".join(f"'{name}' {count}" for name, count in counts.items())[:500],
            expected="the same first dimension everywhere",
        )
    if 0 in counts.values():
        raise Refused(f"tensor '{next(iter(counts))}' has no rows", expected="a first dimension of at least 1")
    return next(iter(counts.values()), 1)


def fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """Whether an array of this shape is one that ``spec`` speaks of."""
    return len(shape) == len(spec.shape) and all(n is None or n == m for n, m in zip(spec.shape, shape, strict=True))


def wanted(names: Sequence[str], signature: Signature) -> tuple[str, ...]:
    """The outputs to give: those named, in their order; all, when none is.

    Raises:
        Refused: an output does not exist, or is asked for twice.
    """
    known = tuple(spec.name for spec in signature.outputs)
    seen: set[str] = set()
    for name in names:
        if name not in known or name in seen:
            what = "is asked for twice" if name in seen else "does not exist"
            raise Refused(f"output '{name[:100]}' {what}", expected=f"each at most once of: {', '.join(known)}")
        seen.add(name)
    return tuple(names) or known


def scores(signature: Signature) -> TensorSpec:
    """The output that gives a score for each class.

    Raises:
        Refused: the model has none, or several.
    """
    found = [spec for spec in _floats(signature) if len(spec.shape) == 2]  # noqa: PLR2004
    return _only(found, signature, "scores to classify by", "one output of floats [rows, classes]")


def number_a_row(signature: Signature) -> TensorSpec:
    """The output that gives one number for each row.

    Raises:
        Refused: the model has none, or several.
    """
    found = [spec for spec in _floats(signature) if len(spec.shape) == 1 or spec.shape[1:] == (1,)]
    return _only(found, signature, "one number a row to answer a regression with", "one output of floats [rows] or [rows, 1]")


def _refuse_misfit(name: str, word: str, shape: tuple[int, ...], spec: TensorSpec, words: Mapping[str, str]) -> None:
    if any(n < 0 for n in shape):
        raise Refused(f"tensor '{name}': a dimension is negative", found=str(list(shape))[:200], expected="0 or more")
    if not fits(shape, spec) or word != words[spec.dtype]:
        raise Refused(
            f"tensor '{name}' does not fit the model",
            found=f"{word[:100]} {list(shape)}"[:200],
            expected=f"{words[spec.dtype]} {[-1 if n is None else n for n in spec.shape]}",
        )


def _floats(signature: Signature) -> list[TensorSpec]:
    return [spec for spec in signature.outputs if spec.dtype.startswith("float")]


def _only(found: list[TensorSpec], signature: Signature, what: str, expected: str) -> TensorSpec:
    if len(found) == 1:
        return found[0]
    raise Refused(
        f"this model does not have {what}",
        found="; ".join(map(str, signature.outputs))[:500],
        expected=expected,
        next="ask with Predict, which gives every output",
    )
