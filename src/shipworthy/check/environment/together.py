"""Law ``environment.together``: what serving lists can be installed side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from shipworthy.check.environment import gpu, table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import Package, disagree, listed, meet
from shipworthy.check.law import Law
from shipworthy.records import Finding

TOGETHER = Law(
    name="environment.together",
    severity="error",
    holds="the packages of serving can be installed side by side: no two contradict each other, and one CUDA suits all",
    breaks="pip refuses the list, or installs it and one package overwrites or starves the other",
    mend="change one of the two",
)
# Both fill the folder of the same name; whichever comes last wins.
SAME_FOLDER = ("onnxruntime", "onnxruntime-gpu")


def judge(case: Case) -> Iterator[Finding]:
    """Lines against each other, one folder for two, requirements, and CUDA."""
    for name, lines in case.serving.by_name.items():
        if twice := disagree(lines):
            yield TOGETHER.found(
                f"package {name}", f"no version is both {twice[0]} and {twice[1]}", "strike out one of the two lines"
            )
    both = [case.serving.find(name) for name in SAME_FOLDER]
    if all(both):
        yield TOGETHER.found(
            f"package {' and '.join(SAME_FOLDER)}",
            f"{both[0][0]} and {both[1][0]} fill one folder: the last that is installed overwrites the other",
            "pip uninstall onnxruntime onnxruntime-gpu; pip install the one that the target needs",
        )
    for package in case.serving.packages:
        for needed, other in _refused(case, package):
            yield TOGETHER.found(
                f"package {package.name} and {other.name}",
                f"{package} requires {needed}; listed is {other}",
                f"pip install '{needed}', or another version of {package.name}",
            )
    yield from _cuda(case)


def refuses(case: Case, package: Package, other: Package) -> bool:
    """Whether a package requires what a line of another cannot give."""
    return any(name == other.name and not meet(wanted, other.specifier) for name, wanted in _required(case, package))


def requires(case: Case, package: Package, name: str) -> bool:
    """Whether pip installs that package with this one."""
    return any(name == one for one, _ in _required(case, package))


def _refused(case: Case, package: Package) -> Iterator[tuple[str, Package]]:
    """Its requirements that another line of the list cannot meet, with that line."""
    for name, wanted in _required(case, package):
        for other in case.serving.find(name):
            if not meet(wanted, other.specifier):
                yield f"{name}{wanted}", other


def _required(case: Case, package: Package) -> Iterator[tuple[str, SpecifierSet]]:
    """What a package requires without its extras: names, normalised, and ranges."""
    for line in case.needs(package):
        try:
            requirement = Requirement(line)
            holds = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue  # metadata of long ago
        if holds:
            yield canonicalize_name(requirement.name), requirement.specifier


def _cuda(case: Case) -> Iterator[Finding]:
    needs = gpu.cuda(case.serving)
    if not gpu.apart(needs):
        return
    groups = listed([f"CUDA {one}" for one in needs], 8)
    yield TOGETHER.found("CUDA", f"no CUDA suits all: {groups}", _nearest(needs))


def _nearest(needs: list[gpu.Need]) -> str:
    """The first release of the oldest of them that suits the others."""
    oldest = min(needs, key=lambda need: max(need.majors))
    rest = [need.majors for need in needs if need is not oldest]
    common = frozenset.intersection(*rest) if rest else frozenset()
    rows = [row for row in table.table().gpu if row.package == oldest.package.name and common & set(row.cuda)]
    if rows:
        newer = f"{oldest.package.name}>={rows[0].since}"
        return f"pip install '{newer}', which has a build for CUDA {max(common & set(rows[0].cuda))}"
    return "pin versions whose builds are for one CUDA: the table in docs/environment.md"
