"""Law ``environment.python``: the packages of serving have builds for its Python, and run on its numpy. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from shipworthy.check.environment import table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import PYTHON, Package, meet
from shipworthy.check.environment.together import refuses, requires
from shipworthy.check.law import Law
from shipworthy.records import Finding

PYTHONS = Law(
    name="environment.python",
    severity="error",
    holds="every pinned package has a build for the Python and the numpy of serving",
    breaks="pip finds nothing to install or compiles for an hour, or the import fails: _ARRAY_API not found",
    mend="pin versions that have builds for this Python",
)
NUMPY = "numpy"


def judge(case: Case) -> Iterator[Finding]:
    """Each pinned package against Python, and against numpy 2."""
    for package in case.serving.packages:
        if package.near:
            for python in _pythons(case):
                yield from _python(package, python, package.near)
            yield from _numpy(case, package, package.near)


def _pythons(case: Case) -> list[Package]:
    """The Python that the lists name; else the newest that the board has."""
    named = case.serving.find(PYTHON)
    boards = [row for row in table.table().jetpack if case.target.kind in row.kinds]
    if named or not boards:
        return list(named)
    newest = max(boards, key=lambda row: Version(row.release))
    return [Package(PYTHON, SpecifierSet(f"=={newest.python}.*"), f"JetPack {newest.release}")]


def _python(package: Package, python: Package, version: Version) -> Iterator[Finding]:
    says = table.says(package.name, version)
    if says is None:
        return
    if says.python and not meet(python.specifier, SpecifierSet(says.python)):
        yield PYTHONS.found(
            f"package {package.name}",
            f"{package} requires Python {says.python}; serving has {python}",
            f"pin an older {package.name}, or run serving on Python {says.python}",
        )
    elif says.newest and not python.may_be(f"<={says.newest}.99"):
        yield PYTHONS.found(
            f"package {package.name}",
            f"{package} has no wheel for a Python after {says.newest}; serving has {python}",
            f"pin a newer {package.name}, or run serving on Python {says.newest}",
        )


def _numpy(case: Case, package: Package, version: Version) -> Iterator[Finding]:
    """A build against numpy 1 beside numpy 2, which may also come in where nothing bounds it."""
    row = next((one for one in table.table().numpy2 if one.package == package.name), None)
    if row is None or version >= Version(row.since):
        return
    mend = f"numpy<2 in the list of serving, or pip install '{package.name}>={row.since}'"
    numpy = case.serving.find(NUMPY)
    for one in numpy:
        if one.may_be(">=2") and not refuses(case, package, one):
            sure = one.pinned is not None or not one.may_be("<2")
            yield PYTHONS.found(
                f"package {package.name}",
                f"{package} is built for numpy 1; serving {'has' if sure else 'may get'} {one}",
                mend,
                "error" if sure else "warning",
            )
    beyond = Package(NUMPY, SpecifierSet(">=2"), "not listed")
    if not numpy and requires(case, package, NUMPY) and not refuses(case, package, beyond):
        yield PYTHONS.found(
            f"package {package.name}",
            f"{package} is built for numpy 1; no list bounds numpy, so pip takes numpy 2",
            mend,
            "warning",
        )
