"""Area ``signature``: clients can call the model, and the server can batch it."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.records import Finding

ENDS = Law(
    name="signature.ends",
    severity="error",
    holds="the model has an input and an output",
    breaks="there is nothing to serve",
    mend="export it with at least one input and one output",
)
BATCH = Law(
    name="signature.batch",
    severity="error",
    holds="the first dimension of every input and output is the batch, and free",
    breaks="requests cannot be batched",
    mend="export it with a free first dimension (torch: dynamic_shapes; tf2onnx: --inputs NAME[-1,...])",
)
FREE = Law(
    name="signature.free",
    severity="note",
    holds="no dimension but the batch is free",
    breaks="requests of different shapes run in separate batches",
    mend="",
)
LAWS = (ENDS, BATCH, FREE)


def look(subject: Subject) -> Iterator[Finding]:
    """The first dimension of every input and output is the batch, and free."""
    signature = subject.model.signature
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            yield ENDS.found("model", f"it has no {kind}: there is nothing to serve")
        for spec in specs:
            if not spec.shape:
                evidence = "has no dimension at all"
            elif spec.shape[0] is not None:
                evidence = f"its first dimension is fixed at {spec.shape[0]}"
            else:
                continue
            # Exporters write a fixed first dimension for outputs that do follow the batch; a scalar never does.
            severe = kind == "input" or not spec.shape
            yield BATCH.found(
                f"{kind} {spec}", f"{evidence}: requests cannot be batched", severity="error" if severe else "warning"
            )
    for spec in signature.inputs:
        free = [axis for axis, n in enumerate(spec.shape) if n is None and axis > 0]
        if free:
            yield FREE.found(
                f"input {spec}",
                f"dimensions {free} are free beside the batch: requests of different shapes run in separate batches",
            )
