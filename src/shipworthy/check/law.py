"""A law: one thing that must hold before a model goes to production. Its findings bear its name."""

from __future__ import annotations

from dataclasses import dataclass

from shipworthy.records import Finding, Severity


@dataclass(frozen=True)
class Law:
    """One law: what is read by ``docs/check.md``, by SARIF and by whoever silences it.

    ``name`` is its area and its own word, as ``format.opset``; ``severity`` that of a breach, unless the finding says
    another; ``holds`` what must be so, and ``breaks`` what goes wrong in production where it is not, as clauses without a
    full stop; ``mend`` the usual mend: a command or an edit.
    """

    name: str
    severity: Severity
    holds: str
    breaks: str
    mend: str

    def found(self, place: str, evidence: str, mend: str | None = None, severity: Severity | None = None) -> Finding:
        """A breach of it: where, how it shows, and a mend that is nearer than the usual one."""
        return Finding(
            law=self.name,
            severity=severity or self.severity,
            place=place,
            evidence=evidence,
            mend=self.mend if mend is None else mend,
        )

    def note(self, place: str, evidence: str) -> Finding:
        """Something worth knowing that breaks nothing."""
        return self.found(place, evidence, "", "note")
