"""SARIF 2.1.0 (OASIS Standard), which code scanning and editors read: https://docs.oasis-open.org/sarif/sarif/v2.1.0/.

Where the standard leaves a choice, the one that GitHub's code scanning asks for is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shipworthy.check.law import Law
from shipworthy.records import Finding, Report
from shipworthy.text import printable, printable_lines

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
# The words that places begin with, where they are of one thing in the model or beside it.
KINDS = {"area", "initializer", "input", "node", "operator", "output", "package", "tensor"}
# A model has no lines; code scanning shows no result without one.
START = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}


def sarif(report: Report, laws: Sequence[Law], name: str, path: str, version: str) -> str:
    """The report as one SARIF log: the laws as its rules, the findings as results, the silenced ones suppressed.

    Args:
        report: the findings.
        laws: all that there are.
        name: the model's; results of several models in one repository are told apart by it.
        path: the model's file: relative to the root of the repository, or absolute where it lies outside.
        version: ours.
    """
    places = {law.name: number for number, law in enumerate(laws)}
    seen: Counter[str] = Counter()
    ordered = [one for findings in report.by_area.values() for one in findings] + list(report.silenced)
    run = {
        "tool": {"driver": {"name": "shipworthy", "version": version, "rules": [_rule(law) for law in laws]}},
        "automationDetails": {"id": f"shipworthy-check/{printable(name)}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The folder that shipworthy was called in."}}},
        "results": [_result(one, places, path, seen) for one in ordered],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(law: Law) -> dict[str, Any]:
    return {
        "id": law.name,
        "shortDescription": {"text": _sentence(law.holds)},
        "fullDescription": {"text": f"Where it does not hold: {law.breaks}."},
        "help": {"text": f"Mend: {law.mend}" if law.mend else "There is nothing to mend."},
        "defaultConfiguration": {"level": law.severity},
        "properties": {"tags": [law.name.partition(".")[0]]},
    }


def _result(one: Finding, places: dict[str, int], path: str, seen: Counter[str]) -> dict[str, Any]:
    # Not the evidence: figures in it change from run to run, and the finding is the same.
    print_ = hashlib.sha256(f"{one.law}\n{one.place}".encode(errors="surrogatepass")).hexdigest()[:16]
    seen[print_] += 1
    mend = f"\nMend: {one.mend}" if one.mend else ""
    found = {
        "ruleId": one.law,
        "level": one.severity,
        "message": {"text": _message(f"{printable(one.place)}: {one.evidence}{mend}")},
        "locations": [_location(one.place, path)],
        # Of all fingerprints, code scanning reads only this one.
        "partialFingerprints": {"primaryLocationLineHash": f"{print_}:{seen[print_]}"},
        # The standard wants them of all results or of none.
        "suppressions": [{"kind": "external", "justification": printable_lines(one.silenced)}] if one.silenced else [],
    }
    return found | ({"ruleIndex": places[one.law]} if one.law in places else {})


def _location(place: str, path: str) -> dict[str, Any]:
    artifact = (
        {"uri": Path(path).as_uri()} if Path(path).is_absolute() else {"uri": quote(os.fsencode(path)), "uriBaseId": ROOT}
    )
    found: dict[str, Any] = {"physicalLocation": {"artifactLocation": artifact, "region": START}}
    kind, _, name = printable(place).partition(" ")
    logical = {"fullyQualifiedName": printable(place)} | ({"kind": kind, "name": name} if name and kind in KINDS else {})
    return found | ({"logicalLocations": [logical]} if place else {})


def _message(text: str) -> str:
    """Text that no reader takes for a placeholder ``{0}`` or a link ``[text](target)``."""
    return printable_lines(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
