"""The areas of laws, and their calls in the process that we are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shipworthy.backends import source
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check import environment, graph, interface, memory, numbers, security, signature
from shipworthy.check import format as format_area
from shipworthy.check.graph import kernels
from shipworthy.check.intake import read_proto
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin, Subject
from shipworthy.data import Dataset
from shipworthy.protocols import Array, Quiet, Sink
from shipworthy.records import Finding, MemoryPoint, Model, Progress, Report, Target

Framework = Callable[[dict[str, Array]], list[Array]]

OF_FILES: dict[str, Callable[[Origin], Iterator[Finding]]] = {
    "format": format_area.look,
    "security": security.look,
    "environment": environment.look,
    "signature": interface.look,
    "graph": kernels.look,
}
OF_MODELS: dict[str, Callable[[Subject], Iterator[Finding | MemoryPoint]]] = {
    "signature": signature.look,
    "graph": graph.look,
    "numbers": numbers.look,
    "memory": memory.look,
}
LAWS: tuple[Law, ...] = (
    *format_area.LAWS,
    *security.LAWS,
    *environment.LAWS,
    *interface.LAWS,
    *signature.LAWS,
    *graph.LAWS,
    *numbers.LAWS,
    *memory.LAWS,
)


def inspect(origin: Origin, areas: Sequence[str] = tuple(OF_FILES), sink: Sink | None = None) -> Report:
    """All findings on a file that nobody has loaded.

    Args:
        origin: the file, and what it is to run beside.
        areas: some of ``OF_FILES``.
        sink: told which area is at work.
    """
    findings: list[Finding] = []
    for done, name in enumerate(areas):
        (sink or Quiet()).emit(Progress(stage="check", text=name, done=done, total=len(areas)))
        findings += OF_FILES[name](origin)
    return Report(model=source.digest(origin.path), laws=tuple(areas), findings=tuple(findings))


def run(
    model: Model,
    data: Dataset | None = None,
    framework: Framework | None = None,
    sink: Sink | None = None,
    target: Target | None = None,
) -> Report:
    """All findings on one model.

    Args:
        model: from ``take_in``.
        data: evaluation rows; without them no law about numbers can speak.
        framework: from ``reference``: the trained framework's own answers.
        sink: told which area is at work.
        target: where it will run; the plain CPU when none is named.

    Raises:
        Refused: the model file is gone or broken.
    """
    said: list[Finding | MemoryPoint] = []
    with opened(model, data, framework, target or Target()) as subject:
        for done, (name, look) in enumerate(OF_MODELS.items()):
            (sink or Quiet()).emit(Progress(stage="check", text=name, done=done, total=len(OF_MODELS)))
            said += look(subject)
    return Report(
        model=model.digest,
        laws=tuple(OF_MODELS),
        findings=tuple(one for one in said if isinstance(one, Finding)),
        memory=tuple(one for one in said if isinstance(one, MemoryPoint)),
    )


@contextmanager
def opened(model: Model, data: Dataset | None, framework: Framework | None, target: Target) -> Iterator[Subject]:
    """The model as the laws look at it, loaded into the runtime for so long."""
    runner = OnnxRuntimeRunner(Path(model.path), Target(threads=target.threads))
    try:
        yield Subject(model, read_proto(Path(model.path)), runner, data, framework, target)
    finally:
        runner.close()
