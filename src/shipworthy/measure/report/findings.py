"""What check found: by area, the gravest first, each with its mend; what is silenced apart, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from shipworthy.measure.report.evidence import table
from shipworthy.measure.report.markup import Markup, tag
from shipworthy.measure.report.wording import NONE
from shipworthy.records import Finding, Severity, Shipment
from shipworthy.text import printable, printable_lines

_MARKS: dict[Severity, str] = {"error": "mark bad", "warning": "mark warn", "note": "mark soft"}


def findings(shipment: Shipment) -> Markup:
    """The heading with the summary, a table for each area, and one of what is silenced."""
    report = shipment.report
    areas = f"Areas of laws that were applied: {', '.join(map(printable, report.laws)) or 'none'}."
    parts = [tag("h2", "Findings of check"), tag("p", tag("b", report.summary), f". {areas}")]
    for area, found in report.by_area.items():
        parts += [tag("h3", printable(area)), _table(found, "mend", [one.mend for one in found])]
    if report.silenced:
        reasons = [one.silenced for one in report.silenced]
        parts += [tag("h3", "silenced in shipworthy.toml"), _table(report.silenced, "reason", reasons)]
    return tag("section", *parts, class_="findings")


def _table(found: Sequence[Finding], last: str, texts: Sequence[str]) -> Markup:
    lines = (
        tag(
            "tr",
            tag("td", one.severity, class_=_MARKS[one.severity]),
            tag("th", printable(one.law), tag("small", printable(one.place)), scope="row"),
            tag("td", printable_lines(one.evidence), class_="text"),
            tag("td", printable_lines(text) or NONE, class_="text"),
        )
        for one, text in zip(found, texts, strict=True)
    )
    return table(("severity", "law and place", "evidence", last), lines)
