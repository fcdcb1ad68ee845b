"""Law ``signature``: clients can call the model, and the server can batch it."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.subject import Subject
from shipworthy.records import Finding

EXPORT = "export it with a free first dimension (torch: dynamic_shapes; tf2onnx: --inputs NAME[-1,...])"


def law(subject: Subject) -> Iterator[Finding]:
    """The first dimension of every input and output is the batch, and free."""
    signature = subject.model.signature
    for kind, specs, severity in (("input", signature.inputs, "error"), ("output", signature.outputs, "warning")):
        for spec in specs:
            if not spec.shape:
                evidence = "has no dimension at all"
            elif spec.shape[0] is not None:
                evidence = f"its first dimension is fixed at {spec.shape[0]}"
            else:
                continue
            yield Finding(
                law="signature",
                severity="error" if severity == "error" else "warning",
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
