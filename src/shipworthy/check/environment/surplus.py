"""Laws ``environment.training_only`` and ``environment.installed``: what serving carries, and what was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.environment import table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import PYTHON, Package, listed
from shipworthy.check.law import Law
from shipworthy.records import Finding

TRAINING_ONLY = Law(
    name="environment.training_only",
    severity="warning",
    holds="serving installs nothing that only training needs",
    breaks="images are larger, start later, and have more that can be attacked and must be patched",
    mend="strike it out of the list of serving",
)
INSTALLED = Law(
    name="environment.installed",
    severity="note",
    holds="what serving lists is what is installed where the model is checked and measured",
    breaks="the figures were taken with other versions than those that will serve",
    mend="",
)
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
# Frameworks that an ONNX model does not need any more.
FRAMEWORKS = frozenset(
    {"torch", "torchvision", "torchaudio", "tensorflow", "tensorflow-cpu", "keras", "tf-keras", "jax", "jaxlib"}
)


def judge(case: Case) -> Iterator[Finding]:
    """One finding for each package too many; one note on all that differ from here."""
    served = case.serving.has(*RUNTIMES)
    told: set[str] = set()
    for package in case.serving.packages:
        why = table.table().training_only.get(package.name, "")
        if not why and served and package.name in FRAMEWORKS:
            why = "the framework; an ONNX model runs without it"
        if why and package.name not in told:
            told.add(package.name)
            here = case.installed.get(package.name)
            weight = f", {here.size_mb:.0f} MB without what it requires" if here else ""
            yield TRAINING_ONLY.found(
                f"package {package.name}", f"{package} is {why}{weight}", f"strike it out of {package.where}"
            )
    yield from _differ(case)


def _differ(case: Case) -> Iterator[Finding]:
    pinned = [one for one in case.serving.packages if one.pinned and one.name != PYTHON]
    differ = [one for one in pinned if _here(case, one) != str(one.pinned)]
    if differ:
        shown = listed([f"{one.name} {one.pinned} (here {_here(case, one) or 'none'})" for one in differ])
        place = ", ".join(case.serving.where) or "serving"
        yield INSTALLED.note(place, f"{len(differ)} of {len(pinned)} pinned packages are others here: {shown}")


def _here(case: Case, package: Package) -> str:
    one = case.installed.get(package.name)
    return one.version if one else ""
