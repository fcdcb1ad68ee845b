"""The law that a file can be read at all, as what its name says."""

from __future__ import annotations

from shipworthy.check.law import Law

READABLE = Law(
    name="format.readable",
    severity="error",
    holds="the file can be read as what its name says",
    breaks="nothing can load it",
    mend="copy or write the file again: a truncated download, or another file under this name, looks like this",
)
