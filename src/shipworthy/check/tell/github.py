"""The workflow commands of GitHub Actions, which shows them as annotations of the model's file.

What is escaped: the source of GitHub's runner (``ActionCommand.cs``).
"""

from __future__ import annotations

from shipworthy.records import Finding, Report, Severity
from shipworthy.text import inert, printable, printable_lines

COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def github(report: Report, path: str) -> str:
    """An annotation for each finding, the gravest first: GitHub shows only the first ten of a kind.

    Silenced ones are plain lines in the log, each with its reason, and so is the summary at the end.

    Args:
        report: the findings.
        path: the model's file, relative to the root of the repository.
    """
    heard = [one for findings in report.by_area.values() for one in findings]
    heard.sort(key=lambda one: list(COMMANDS).index(one.severity))
    commands = (_command(one, path) for one in heard)
    return "\n".join([*commands, *map(_plain, report.silenced), report.summary])


def _plain(one: Finding) -> str:
    return inert(printable(f"silenced {one.law}: {one.place}: {one.evidence} (reason: {one.silenced})"))


def _command(one: Finding, path: str) -> str:
    mend = f"\nmend: {one.mend}" if one.mend else ""
    message = _escaped(f"{printable(one.place)}: {printable_lines(one.evidence + mend)}")
    return f"::{COMMANDS[one.severity]} file={_property(path)},title={_property(one.law)}::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(printable(text)).replace(":", "%3A").replace(",", "%2C")
