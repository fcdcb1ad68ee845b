"""What the rules of this area look at, and what is installed where we run."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from shipworthy.check.environment import table
from shipworthy.check.environment.listing import Listing, Package
from shipworthy.records import Target


@dataclass(frozen=True)
class Installed:
    """A package of this interpreter: its version, what it requires (PEP 508), and its files in MB of 10**6 bytes."""

    version: str
    needs: tuple[str, ...]
    size_mb: float


@dataclass(frozen=True)
class Case:
    """One model before the rules: the lists of both sides, where it will run, its file, and what is installed here.

    ``head`` are the opset and the IR version of an ONNX file; ``None`` for other formats. ``installed`` has those packages
    of the lists that are installed here.
    """

    serving: Listing
    training: Listing = field(default_factory=Listing)
    target: Target = field(default_factory=Target)
    model: Path = Path("model.onnx")
    head: tuple[int, int] | None = None
    installed: dict[str, Installed] = field(default_factory=dict)

    def needs(self, package: Package) -> tuple[str, ...]:
        """What this package requires of others: as it says itself where it is installed here, else as the table knows."""
        if package.near is None:
            return ()
        here = self.installed.get(package.name)
        if here and str(package.pinned) == here.version:
            return here.needs
        row = table.says(package.name, package.near)
        return row.needs if row else ()


def installed(names: frozenset[str]) -> dict[str, Installed]:
    """Those of these packages that this interpreter has."""
    found = {}
    for name in names:
        try:
            one = metadata.distribution(name)
            size = sum(file.size or 0 for file in one.files or ())
            found[name] = Installed(one.version, tuple(one.requires or ()), round(size / 1e6, 1))
        except (metadata.PackageNotFoundError, OSError, ValueError):
            continue
    return found
