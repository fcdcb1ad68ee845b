"""Area ``signature``: clients can call the model, and the server can batch it."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.graph.view import needed, view
from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.records import Finding, TensorSpec

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
    mend="shipworthy check MODEL.onnx --fix writes a copy whose first dimension is free, where that can be; "
    "or export it so (torch: dynamic_shapes; tf2onnx: --inputs NAME[-1,...])",
)
FREE = Law(
    name="signature.free",
    severity="note",
    holds="no dimension but the batch is free",
    breaks="requests of different shapes run in separate batches",
    mend="",
)
UNUSED = Law(
    name="signature.unused",
    severity="warning",
    holds="every input leads to an output",
    breaks="clients must send what no answer depends on",
    mend="export the model without that input",
)
WEIGHTS = Law(
    name="signature.weights",
    severity="warning",
    holds="no weight is an input as well",
    breaks="whoever calls the runtime can replace it, so the runtime folds and fuses nothing that reads it",
    mend="shipworthy check MODEL.onnx --fix writes a copy where weights are weights only",
)
WIDE = Law(
    name="signature.float64",
    severity="warning",
    holds="no input is float64",
    breaks="every request is twice as large as in float32, and OpenVINO does not take it",
    mend="export the model with float32 inputs (scikit-learn: convert with FloatTensorType)",
)
HALF = Law(
    name="signature.float16",
    severity="warning",
    holds="every input and output can travel as JSON",
    breaks="FP16 has no JSON in the Open Inference Protocol: clients without its binary extension or gRPC are refused",
    mend="keep float32 at the borders of the model (shipworthy optimize: the pass fp16 does)",
)
LAWS = (ENDS, BATCH, FREE, UNUSED, WEIGHTS, WIDE, HALF)


def look(subject: Subject) -> Iterator[Finding]:
    """What clients send and get, one input or output after the other."""
    signature = subject.model.signature
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            yield ENDS.found("model", f"it has no {kind}: there is nothing to serve")
        for spec in specs:
            yield from _batch(kind, spec)
            if spec.dtype == "float16":
                yield HALF.found(f"{kind} {spec}", "FP16 travels as bytes only, not as JSON")
    for spec in signature.inputs:
        free = [axis for axis, n in enumerate(spec.shape) if n is None and axis > 0]
        if free:
            yield FREE.found(
                f"input {spec}",
                f"dimensions {free} are free beside the batch, and no range is declared for them: requests of different shapes "
                "run in separate batches, and what memory they need has no bound",
            )
        if spec.dtype == "float64":
            yield WIDE.found(f"input {spec}", "8 bytes a number")
    seen = view(subject.proto)
    _, read = needed(seen)
    for spec in signature.inputs:
        if spec.name not in read:
            yield UNUSED.found(f"input {spec}", "no output depends on it")
    weights = [one.name for one in subject.proto.graph.input if one.name in seen.weights]
    if weights:
        yield WEIGHTS.found(f"initializer {weights[0]}", f"{len(weights)} of {len(seen.weights)} weights are inputs as well")


def _batch(kind: str, spec: TensorSpec) -> Iterator[Finding]:
    if not spec.shape:
        evidence = "has no dimension at all"
    elif spec.shape[0] is not None:
        evidence = f"its first dimension is fixed at {spec.shape[0]}"
    else:
        return
    # Exporters write a fixed first dimension for outputs that do follow the batch; a scalar never does.
    severe = kind == "input" or not spec.shape
    yield BATCH.found(f"{kind} {spec}", f"{evidence}: requests cannot be batched", severity="error" if severe else "warning")
