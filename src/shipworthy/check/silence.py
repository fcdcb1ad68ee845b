"""Findings that the user lives with: ``[[check.silence]]`` in shipworthy.toml. Pure: a report in, a report out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec.structs import replace

from shipworthy.check.apart import CONTAINED
from shipworthy.check.law import Law
from shipworthy.errors import Refused
from shipworthy.records import Finding, Report
from shipworthy.sections import SilenceSettings

IDLE = Law(
    name="silence.idle",
    severity="note",
    holds="every [[check.silence]] in shipworthy.toml silences a finding",
    breaks="a silence that has outlived its finding hides the next one of that law",
    mend="take it out of shipworthy.toml, or correct its law and place",
)
LAWS = (IDLE,)


def refuse_unknown(silences: Sequence[SilenceSettings], laws: Sequence[Law]) -> None:
    """Nothing, where every silence names one of these laws or its area.

    Raises:
        Refused: one does not; the message names the nearest.
    """
    known = list(dict.fromkeys(name for law in laws for name in (law.name, law.name.partition(".")[0])))
    for one in silences:
        if one.law not in known:
            nearest = difflib.get_close_matches(one.law, known, n=1, cutoff=0.5)
            raise Refused(
                f"[[check.silence]]: there is no law '{one.law}'" + (f"; did you mean '{nearest[0]}'?" if nearest else ""),
                found=one.law,
                expected=f"the name of a law, or an area: {', '.join(name for name in known if '.' not in name)}",
                next="copy the name from the report of shipworthy check; docs/check.md lists all",
            )


def apply(report: Report, silences: Sequence[SilenceSettings]) -> Report:
    """The report, each finding that a silence is for with the first such one's reason."""
    found = (replace(one, silenced=next((s.reason for s in silences if _is_for(s, one)), "")) for one in report.findings)
    return replace(report, findings=tuple(found))


def told_idle(report: Report, silences: Sequence[SilenceSettings]) -> Report:
    """The whole report on a model, and a note on each silence that is for none of its findings."""
    idle = [one for one in silences if not any(_is_for(one, finding) for finding in report.findings)]
    notes = tuple(IDLE.found(f"[[check.silence]] {one.law}, place {one.place}", "no finding is silenced by it") for one in idle)
    return replace(report, findings=report.findings + notes)


def _is_for(silence: SilenceSettings, finding: Finding) -> bool:
    if finding.law == CONTAINED.name:  # what it is about would be loaded in our own process
        return False
    # A place that is copied from a report holds brackets, which a pattern would read as a set of letters.
    placed = silence.place == finding.place or fnmatchcase(finding.place, silence.place.replace("[", "[[]"))
    return placed and silence.law in {finding.law, finding.area}
