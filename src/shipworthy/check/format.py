"""Area ``format``: the file is whole and valid ONNX that the target's runtime takes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from shipworthy.check.intake import IR_VERSION, OPSETS, read_proto
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.records import Finding

VALID = Law(
    name="format.valid",
    severity="error",
    holds="ONNX's own checker accepts the file, types and shapes inferred to the end",
    breaks="the runtime refuses the model at start, or answers with shapes that nobody expects",
    mend="export the model again with a current exporter",
)
OPSET = Law(
    name="format.opset",
    severity="warning",
    holds=f"the operator set is one that every target takes: {OPSETS.start} to {OPSETS.stop - 1}",
    breaks="an older runtime in production does not load what a newer exporter writes by default",
    mend=f"export with opset {OPSETS.stop - 1}, or onnx.version_converter.convert_version(model, {OPSETS.stop - 1})",
)
IR = Law(
    name="format.ir",
    severity="warning",
    holds=f"the IR version is one that every target takes: at most {IR_VERSION}",
    breaks="older runtimes refuse the file",
    mend=f"model.ir_version = {IR_VERSION} before onnx.save",
)
LAWS = (VALID, OPSET, IR)


def look(origin: Origin) -> Iterator[Finding]:
    """ONNX's own checker with full shape inference; opset and IR version within what every target takes."""
    if origin.path.suffix != ".onnx":
        return
    proto = read_proto(origin.path, origin.named)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield VALID.found(
            str(origin.named), (str(error).strip().splitlines() or ["the ONNX checker refuses the model"])[0][:300]
        )
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        yield OPSET.found(f"opset {opset}", f"outside {OPSETS.start} to {OPSETS.stop - 1}, which every target takes")
    if proto.ir_version > IR_VERSION:
        yield IR.found(f"IR version {proto.ir_version}", f"above {IR_VERSION}; older runtimes refuse the file")
