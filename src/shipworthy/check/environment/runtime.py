"""Law ``environment.runtime``: the onnxruntime that serving pins loads what is exported. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shipworthy.check.environment import table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import Listing, Package
from shipworthy.check.intake import IR_VERSION, OPSET
from shipworthy.check.law import Law
from shipworthy.records import Finding, Severity

RUNTIME = Law(
    name="environment.runtime",
    severity="error",
    holds="the onnxruntime of serving loads the opset and the IR version of the model",
    breaks="the server does not start: onnxruntime refuses models that are newer than itself",
    mend="pin a newer onnxruntime, or export with an older opset",
)
PACKAGES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Written:
    """What a model has, or will have, and who says so; ``sure`` when it is read from the model itself."""

    opset: int
    ir: int
    who: str
    sure: bool


def judge(case: Case) -> Iterator[Finding]:
    """The model, or what exporters write by default, against each onnxruntime of serving."""
    for package in case.serving.find(*PACKAGES):
        for written in _written(case):
            yield from _against(package, written)


def _written(case: Case) -> list[Written]:
    if case.head:
        return [Written(*case.head, "the model", sure=True)]
    found = [Written(OPSET, IR_VERSION, "what Shipworthy converts to", sure=True)] if case.model.suffix != ".onnx" else []
    exporters = _exporters(case.training if case.training.packages else case.serving)
    known = {one.opset for one in found}
    return found + [one for one in exporters if one.opset not in known]


def _exporters(listing: Listing) -> list[Written]:
    """What the exporters of a list write when they are asked for no opset; onnx itself where there is no other."""
    found = []
    knows = [known.opset for one in listing.find("onnx") if one.near and (known := table.writes(one.near))]
    for package in listing.packages:
        row = table.at(table.table().exporter, package.name, package.near) if package.near else None
        if row:
            opset = min([row.opset, *knows]) if row.follows_onnx else row.opset
            found.append(Written(opset, 0, f"{row.how} of {package}", sure=False))
    for package in listing.find("onnx") if not found else ():
        writes = table.writes(package.near) if package.near else None
        if writes:
            found.append(Written(writes.opset, writes.ir, f"onnx.helper.make_model of {package}", sure=False))
    return found


def _against(package: Package, written: Written) -> Iterator[Finding]:
    rows = [row for row in table.table().onnxruntime if package.may_be(f"=={row.release}.*")]
    low = [row for row in rows if written.opset > row.opset or written.ir > row.ir]
    # With no lower bound at all pip takes the newest: the law of pins speaks of that.
    begins = package.near or any(one.operator in {">=", ">", "~=", "<", "<="} for one in package.specifier)
    if not low or not begins:
        return
    worst = low[0]
    severity: Severity = "error" if written.sure and low == rows else "warning"
    has = f"opset {written.opset}" + (f" and IR version {written.ir}" if written.ir else "")
    allows = "is" if package.near else "may be"
    yield RUNTIME.found(
        f"package {package.name}",
        f"{written.who} has {has}; {package} {allows} {worst.release}, which loads at most opset {worst.opset} and "
        f"IR version {worst.ir}",
        _mend(package, written, low[0]),
        severity,
    )


def _mend(package: Package, written: Written, row: table.Onnx) -> str:
    enough = table.first_that_loads(package.name, written.opset, written.ir)
    older = f"export with opset {row.opset} and IR version {row.ir} at most"
    if not enough:
        return f"{older}: no {package.name} that we know loads more"
    return f"pip install '{package.name}>={enough}', or {older}"
