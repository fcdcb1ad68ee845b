"""Law ``format``: the file is valid ONNX that runtimes in production take."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from shipworthy.check.intake import IR_VERSION, OPSETS
from shipworthy.check.subject import Subject
from shipworthy.records import Finding


def law(subject: Subject) -> Iterator[Finding]:
    """ONNX's own checker with full shape inference; opset and IR version within what every target takes."""
    try:
        onnx.checker.check_model(subject.proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield Finding(
            law="format",
            severity="error",
            place=subject.model.source.path,
            evidence=(str(error).strip().splitlines() or ["the ONNX checker refuses the model"])[0][:300],
            mend="export the model again with a current exporter",
        )
    model = subject.model
    if model.opset not in OPSETS:
        yield Finding(
            law="format",
            severity="warning",
            place=f"opset {model.opset}",
            evidence=f"outside {OPSETS.start} to {OPSETS.stop - 1}, which every target takes",
            mend=f"export with opset {OPSETS.stop - 1}, or onnx.version_converter.convert_version(model, {OPSETS.stop - 1})",
        )
    if model.ir_version > IR_VERSION:
        yield Finding(
            law="format",
            severity="warning",
            place=f"IR version {model.ir_version}",
            evidence=f"above {IR_VERSION}; older runtimes refuse the file",
            mend=f"model.ir_version = {IR_VERSION} before onnx.save",
        )
