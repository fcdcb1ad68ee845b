"""Area ``environment``: the packages of training and of serving fit each other, the model and the target.

``reading`` opens the lists by their kind (``requirements``, ``pyproject``, ``conda``, ``mlflow``) and gives a ``Listing`` of
``Package`` s; the rules, one law a file, take a ``Case`` and say findings. What releases take of each other stands with
source and date in table.toml, and is printed in docs/environment.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.environment import apart, cuda, framework, head, pins, pythons, reading, runtime, surplus, together
from shipworthy.check.environment.case import Case, installed
from shipworthy.check.environment.reading import READABLE
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.records import Finding

LAWS: tuple[Law, ...] = (
    READABLE,
    pins.PINS,
    apart.APART,
    runtime.RUNTIME,
    framework.FRAMEWORK,
    cuda.CUDA,
    pythons.PYTHONS,
    together.TOGETHER,
    surplus.TRAINING_ONLY,
    surplus.INSTALLED,
)
_RULES = (pins, apart, runtime, framework, cuda, pythons, together, surplus)

__all__ = ["LAWS", "look"]


def look(origin: Origin) -> Iterator[Finding]:
    """The lists that the origin names, against each other, its file, its target, and what is installed here."""
    if not origin.serving and not origin.training:
        yield READABLE.note("[check] environment", "no list of packages is named: --environment requirements.txt names one")
        return
    serving, training = reading.read(origin.serving), reading.read(origin.training)
    yield from (*serving.findings, *training.findings)
    listed = serving.listing.always()
    case = Case(
        serving=listed,
        training=training.listing,
        target=origin.target,
        model=origin.path,
        head=head.read(origin.path) if origin.path.suffix == ".onnx" else None,
        installed=installed(frozenset(one.name for one in listed.packages)),
    )
    for rule in _RULES:
        yield from rule.judge(case)
