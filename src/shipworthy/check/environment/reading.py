"""Opens lists of packages by their kind; law ``environment.readable``: what could not be read is said, never raised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipworthy.check.environment import conda, mlflow, pyproject, requirements, text
from shipworthy.check.environment.listing import Listing
from shipworthy.check.law import Law
from shipworthy.records import Finding

READABLE = Law(
    name="environment.readable",
    severity="error",
    holds="every list of packages that is named can be read to its end",
    breaks="nobody knows what serving will install, and no other law of this area can speak of it",
    mend="write the list anew: pip freeze > requirements.txt",
)
SHOWN = 3


@dataclass(frozen=True)
class Read:
    """The lists of one side as one, and what is to be said about reading them."""

    listing: Listing
    findings: tuple[Finding, ...]


def read(paths: Sequence[Path]) -> Read:
    """All lists of one side; one that cannot be read is a finding, and the others count all the same."""
    whole = Listing()
    findings: list[Finding] = []
    for path in paths:
        try:
            one = open_list(path)
        except text.Unreadable as error:
            findings.append(READABLE.found(str(path), error.why, error.mend))
            continue
        findings += _said(path, one)
        whole += one
    return Read(whole, tuple(findings))


def open_list(path: Path) -> Listing:
    """What one list says: a folder is MLflow's, other kinds go by their suffix.

    Raises:
        Unreadable: it cannot be read at all.
    """
    try:
        folder = path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null
        raise text.unreadable(path, error) from None
    if folder:
        return mlflow.read(path)
    if path.suffix == ".toml":
        return pyproject.read(path)
    if path.suffix in {".yaml", ".yml"}:
        return conda.read(path)
    return requirements.read(path)


def _said(path: Path, listing: Listing) -> Iterator[Finding]:
    if listing.unread:
        yield READABLE.found(str(path), f"not read: {_shown(listing.unread)}", severity="warning")
    if listing.unjudged:
        yield READABLE.note(str(path), f"named, but without a version to judge: {_shown(listing.unjudged)}")
    extras = sorted({one.extra for one in listing.packages if one.extra})
    if extras:
        yield READABLE.note(str(path), f"extras count for training only, for serving may install none: {', '.join(extras)}")
    if not listing.packages and not listing.unread:
        yield READABLE.found(str(path), "it names no package", severity="warning")


def _shown(lines: Sequence[str]) -> str:
    return "; ".join(lines[:SHOWN]) + (f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")
