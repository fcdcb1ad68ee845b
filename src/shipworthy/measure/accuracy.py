"""How often a model is right. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shipworthy.errors import Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec

MATRIX = 2


def prediction_output(signature: Signature, wanted: str = "") -> TensorSpec:
    """The output that is compared with labels: the one named, else the first of labels, else the first of scores.

    Raises:
        Refused: no output of that name, or none that can be compared.
    """
    if wanted:
        for spec in signature.outputs:
            if spec.name == wanted:
                return spec
        raise Refused(
            f"the model has no output '{wanted}'",
            found="outputs " + ", ".join(f"'{spec.name}'" for spec in signature.outputs),
            next="correct prediction under [data] in shipworthy.toml",
        )
    labels = [s for s in signature.outputs if len(s.shape) == 1 and not s.dtype.startswith("float")]
    scores = [s for s in signature.outputs if len(s.shape) == MATRIX and s.dtype.startswith("float")]
    for spec in [*labels, *scores]:
        return spec
    raise Refused(
        "no output of the model can be compared with labels",
        found=", ".join(str(spec) for spec in signature.outputs),
        expected="one label a row, or one score a class",
        next="name the output as prediction under [data], or leave the labels out",
    )


def hits(outputs: Arrays, labels: Array, output: str) -> int:
    """How many rows are right; see ``right``.

    Raises:
        Refused: labels that the output cannot be compared with.
    """
    return int(right(outputs[output], labels, output).sum())


def right(answer: Array, labels: Array, output: str) -> npt.NDArray[np.bool_]:
    """Which rows are right: equal to the answer where it holds labels, to the place of the best score where scores.

    Args:
        answer: an output, rows along the first axis.
        labels: one label a row, [rows]; places of classes (0, 1, …) where the answer holds scores.
        output: its name, for messages.

    Raises:
        Refused: labels that the output cannot be compared with.
    """
    return np.asarray(predicted(answer, labels, output) == labels, dtype=np.bool_)


def predicted(answer: Array, labels: Array, output: str) -> Array:
    """The label that the answer gives each row, [rows], of the same kind as ``labels``; arguments as ``right`` has them.

    Raises:
        Refused: labels that the output cannot be compared with.
    """
    if is_scores(answer):
        fit_scores(answer, labels, output)
        return np.asarray(np.argmax(answer, axis=1))
    if (answer.dtype.kind in "OU") != (labels.dtype.kind in "OU"):
        raise Refused(
            "labels and predictions are of different kinds",
            found=f"labels {labels.dtype}, output '{output}' {answer.dtype}",
            expected="the same kind",
            next="write the labels as the training had them",
        )
    if labels.ndim != 1 or answer.size != labels.size:
        raise Refused(
            f"output '{output}' cannot be compared with labels",
            found=f"{list(answer.shape)} for {len(labels)} rows, labels {list(labels.shape)}",
            expected="one label a row, or one score a class",
            next="name another output as prediction under [data]",
        )
    return answer.reshape(len(labels))


def is_scores(answer: Array) -> bool:
    """Whether it holds scores: floats, some a row."""
    return answer.ndim == MATRIX and answer.dtype.kind == "f"


def fit_scores(answer: Array, labels: Array, output: str) -> None:
    """See that the labels are places of the classes that the answer has scores of.

    Raises:
        Refused: they are not.
    """
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise Refused(
            "the labels cannot be compared with scores",
            found=f"labels {labels.dtype} {list(labels.shape)}",
            expected="whole numbers: the place of the right class in the scores",
            next="write the labels as class numbers",
        )
    classes = answer.shape[1]
    if classes == 1 or labels.min() < 0 or labels.max() >= classes:
        raise Refused(
            "the labels cannot be compared with scores",
            found=f"labels from {labels.min()} to {labels.max()}, output '{output}' with scores {list(answer.shape)}",
            expected="one score a class, and labels that are the places of the classes: 0, 1, …",
            next="write the labels as class numbers from 0, or name an output of labels as prediction under [data]",
        )
