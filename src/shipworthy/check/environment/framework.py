"""Law ``environment.framework``: the exporter knows the framework, and ONNX what the exporter writes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from shipworthy.check.environment import table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import Listing, Package
from shipworthy.check.law import Law
from shipworthy.records import Finding

FRAMEWORK = Law(
    name="environment.framework",
    severity="warning",
    holds="the exporter works with the versions beside it, and the onnx beside it knows the opset that it writes",
    breaks="the export fails, or writes what cannot be checked, on the day when a model has to be trained again",
    mend="upgrade the exporter",
)


def judge(case: Case) -> Iterator[Finding]:
    """Pairs that are known to break, and exporters that write more than the onnx beside them knows."""
    for listing, exports in ((case.training, True), (case.serving, False)):
        for package in listing.packages:
            if package.near:
                yield from _pairs(package, listing, exports=exports)
                yield from _newer(package, listing)


def _pairs(package: Package, listing: Listing, *, exports: bool) -> Iterator[Finding]:
    for row in table.table().pair:
        if row.package != package.name or not SpecifierSet(row.range).contains(package.near or "", prereleases=True):
            continue
        others = listing.find(row.other)
        if not row.other_range:
            # A server needs no exporter: what is missing is missed only where a model is exported.
            if exports and not others:
                yield FRAMEWORK.found(
                    f"package {package.name}", f"{package} without {row.other}: {row.says}", row.mend, row.severity
                )
            continue
        for other in others:
            if other.near and SpecifierSet(row.other_range).contains(other.near, prereleases=True):
                yield FRAMEWORK.found(f"package {package.name}", f"{package} with {other}: {row.says}", row.mend, row.severity)


def _newer(package: Package, listing: Listing) -> Iterator[Finding]:
    row = table.at(table.table().exporter, package.name, package.near) if package.near else None
    for onnx in listing.find("onnx") if row else ():
        knows = table.writes(onnx.near) if onnx.near else None
        if row and knows and row.opset > knows.opset and not row.follows_onnx:
            newer = next((one.release for one in table.table().onnx if one.opset >= row.opset), "")
            yield FRAMEWORK.found(
                f"package {package.name}",
                f"{row.how} of {package} writes opset {row.opset}; {onnx} knows opsets up to {knows.opset}",
                f"pip install 'onnx>={newer}'" if newer else f"export with opset {knows.opset}",
            )
