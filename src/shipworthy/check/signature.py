"""Law ``signature``: clients can call the model, and the server can batch it."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.subject import Subject
from shipworthy.records import Finding

EXPORT = "export it with a free first dimension (torch: dynamic_shapes; tf2onnx: --inputs NAME[-1,...])"


def law(subject: Subject) -> Iterator[Finding]:
    """The first dimension of every input and output is the batch, and free."""
    signature = subject.model.signature
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            yield Finding(
                law="signature",
                severity="error",
                place="model",
                evidence=f"it has no {kind}: there is nothing to serve",
                mend=f"export it with at least one {kind}",
            )
        for spec in specs:
            if not spec.shape:
                evidence = "has no dimension at all"
            elif spec.shape[0] is not None:
                evidence = f"its first dimension is fixed at {spec.shape[0]}"
            else:
                continue
            yield Finding(
                law="signature",
                # Exporters write a fixed first dimension for outputs that do follow the batch; a scalar never does.
                severity="error" if kind == "input" or not spec.shape else "warning",
                place=f"{kind} {spec}",
                evidence=f"{evidence}: requests cannot be batched",
                mend=EXPORT,
            )
    for spec in signature.inputs:
        free = [axis for axis, n in enumerate(spec.shape) if n is None and axis > 0]
        if free:
            yield Finding(
                law="signature",
                severity="note",
                place=f"input {spec}",
                evidence=f"dimensions {free} are free beside the batch: requests of different shapes run in separate batches",
            )
