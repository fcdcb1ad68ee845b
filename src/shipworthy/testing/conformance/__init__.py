"""Whether a server keeps the protocols it speaks: laws as cases, asked of any server, judged by its answers.

    from shipworthy.testing.conformance import Server, examine

    found = examine(Server("http://127.0.0.1:8000", "127.0.0.1:8001"), model="digits")
    assert found.conforms, [one for one in found.results if one.state == "broken"]

Nothing here is shared with our own server: its messages are written and read anew, by JSON key and field number.
"""

from __future__ import annotations

from shipworthy.testing.conformance.case import Answer, Ask, Call, Case, Group, Verdict, judge
from shipworthy.testing.conformance.examine import Examination, Result, examine
from shipworthy.testing.conformance.laws import GROUPS
from shipworthy.testing.conformance.report import as_dict, markdown
from shipworthy.testing.conformance.subject import Subject
from shipworthy.testing.conformance.transport import Server

__all__ = [
    "GROUPS",
    "Answer",
    "Ask",
    "Call",
    "Case",
    "Examination",
    "Group",
    "Result",
    "Server",
    "Subject",
    "Verdict",
    "as_dict",
    "examine",
    "judge",
    "markdown",
]
