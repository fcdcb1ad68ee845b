"""Law ``environment.pins``: what serving installs tomorrow is what it was measured with. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import PYTHON, listed
from shipworthy.check.law import Law
from shipworthy.records import Finding

PINS = Law(
    name="environment.pins",
    severity="warning",
    holds="every package of serving is pinned, or at least has an upper bound",
    breaks="the next build of the image installs other versions than those that were tested, and nobody has changed anything",
    mend="write what is installed where it works: pip freeze > requirements.txt",
)


def judge(case: Case) -> Iterator[Finding]:
    """One finding on all that is open, one note on what has bounds but no pin."""
    packages = [one for one in case.serving.packages if one.name != PYTHON]
    place = ", ".join(case.serving.where) or "serving"
    loose = [one for one in packages if not one.bounded]
    ranged = [one for one in packages if one.bounded and one.pinned is None]
    if loose:
        yield PINS.found(place, f"{len(loose)} of {len(packages)} packages have no upper bound: {listed(loose)}")
    if ranged:
        yield PINS.note(place, f"{len(ranged)} of {len(packages)} packages are ranges, not pins: {listed(ranged)}")
