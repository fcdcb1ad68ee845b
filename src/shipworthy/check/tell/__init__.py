"""A report of check in the formats of other tools: ``sarif`` for code scanning, ``github`` for annotations. Pure."""

from shipworthy.check.tell.github import github
from shipworthy.check.tell.sarif import sarif

__all__ = ["github", "sarif"]
