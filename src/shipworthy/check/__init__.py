"""check: what came in, and what would break. One law a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check import format as format_law
from shipworthy.check import parity, signature
from shipworthy.check.intake import read_proto, reference, take_in
from shipworthy.check.subject import Subject
from shipworthy.data import Dataset
from shipworthy.protocols import Array, Quiet, Sink
from shipworthy.records import Finding, Model, Progress, Report, Target

LAWS = {"format": format_law.law, "signature": signature.law, "parity": parity.law}


def run(
    model: Model,
    data: Dataset | None = None,
    framework: Callable[[dict[str, Array]], list[Array]] | None = None,
    sink: Sink | None = None,
) -> Report:
    """All findings of all laws on one model.

    Args:
        model: from ``take_in``.
        data: evaluation rows; without them no law about numbers can speak.
        framework: from ``reference``: the trained framework's own answers.
        sink: told which law is at work.

    Raises:
        Refused: the model file is gone or broken.
    """
    sink = sink or Quiet()
    runner = OnnxRuntimeRunner(Path(model.path), Target())
    subject = Subject(model, read_proto(Path(model.path)), runner, data, framework)
    findings: list[Finding] = []
    for done, (name, law) in enumerate(LAWS.items()):
        sink.emit(Progress(stage="check", text=name, done=done, total=len(LAWS)))
        findings.extend(law(subject))
    runner.close()
    return Report(model=model.digest, laws=tuple(LAWS), findings=tuple(findings))


__all__ = ["LAWS", "reference", "run", "take_in"]
