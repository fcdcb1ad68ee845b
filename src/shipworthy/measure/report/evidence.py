"""The sections that prove the headline: verdicts, production, digests, machine, and how figures were taken."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shipworthy.measure.report import rows, wording
from shipworthy.measure.report.markup import Markup, join, tag
from shipworthy.measure.report.rows import Entry
from shipworthy.measure.report.wording import NONE
from shipworthy.records import Exchange, Machine, Served, Shipment, Verdict


def verdicts(shipment: Shipment) -> Markup:
    """Every gate on every variant: the limit, the figure, the verdict and the reason."""
    if not shipment.choice or not any(one.verdicts for one in shipment.choice.judged):
        return Markup()
    lines = []
    for one in shipment.choice.judged:
        for n, verdict in enumerate(one.verdicts):
            first = [tag("th", one.variant_name, scope="rowgroup", rowspan=len(one.verdicts))] if n == 0 else []
            lines.append(tag("tr", *first, *_verdict(verdict)))
    shown = table(("variant", *_VERDICT_HEADS), lines, right=(2, 3))
    return join(tag("h2", "Verdicts"), tag("p", "Each limit of [gates] against each variant."), shown)


def production(shipment: Shipment) -> Markup:
    """The evaluation rows as measured in development and as answered by the live server."""
    served = shipment.served
    if not served:
        return Markup()
    measured = _percent(served.measured_accuracy_percent)
    lines = [_row("measured in development", measured, *[NONE] * 5)]
    lines += [_row(f"served, {one.encoding}", *_exchange(one)) for one in served.exchanges]
    heads = ("where", "accuracy %", "largest difference", "requests answered", "rows", "P50 ms", "P99 ms")
    judged = Markup()
    if served.verdicts:
        judged = table(_VERDICT_HEADS, [tag("tr", *_verdict(verdict)) for verdict in served.verdicts], right=(1, 2))
    return join(
        tag("h2", "Development and production"),
        tag("p", _gap(served)),
        table(heads, lines, right=range(1, 7)),
        judged,
    )


def skipped(shipment: Shipment) -> Markup:
    """The variants that were not made, and why."""
    if not shipment.optimized or not shipment.optimized.skips:
        return Markup()
    lines = [
        tag("tr", tag("th", skip.name, scope="row"), tag("td", skip.reason, class_="text")) for skip in shipment.optimized.skips
    ]
    return join(tag("h2", "Variants that were not made"), table(("variant", "reason"), lines))


def chain(shipment: Shipment) -> Markup:
    """The digests from the trained file to the release; each in full as the element's title."""
    model, choice, release = shipment.model, shipment.choice, shipment.release
    links = [("trained file", Path(model.source.path).name, model.source.digest)]
    if model.is_read:
        links.append((f"model, opset {model.opset}", model.name, model.digest))
    if choice and choice.variant:
        links.append(("variant", choice.variant_name or "", choice.variant))
    if release:
        links += [("bundle", release.name, release.bundle), ("release", f"{release.name} v{release.version}", "")]
    items = (
        tag("li", tag("b", kind), tag("span", name), tag("code", wording.short(digest), title=digest) if digest else Markup())
        for kind, name, digest in links
    )
    return join(
        tag("h2", "From the trained file to the release"),
        tag("p", "SHA-256 of each step, first twelve digits; point at one for all of it."),
        tag("ol", *items, class_="chain"),
        _passes(shipment),
    )


def machines(shipment: Shipment) -> Markup:
    """Where the figures were taken, of what data, and with which versions; where the release is tracked."""
    pairs: list[tuple[str, str]] = []
    seen: list[Machine] = []
    for one in shipment.measured.evidence if shipment.measured else ():
        if one.machine not in seen:
            seen.append(one.machine)
            pairs += _machine(one.machine)
            threads = f"{one.target.threads} thread{'' if one.target.threads == 1 else 's'}"
            pairs.append(("target", f"{one.target.name}: {one.target.device}, {wording.runs_on(one.target)}, {threads} a call"))
            pairs += [("evaluation data", one.data), ("measured", wording.when(one.measured_at))]
    if shipment.model.source.packages:
        pairs.append(("converted with", _versions(shipment.model.source.packages)))
    tracked = shipment.tracked
    if tracked:
        pairs.append(("in MLflow", f"{tracked.model_name} version {tracked.model_version}, alias {tracked.alias}"))
        pairs.append(("MLflow run", f"{tracked.run_id}, experiment {tracked.experiment}, at {tracked.tracking_uri}"))
    if not pairs:
        return Markup()
    items = (join(tag("dt", name), tag("dd", text)) for name, text in pairs)
    return join(tag("h2", "Machine and versions"), tag("dl", *items, class_="card pairs"))


def figures(shipment: Shipment) -> Markup:
    """Every figure of every variant: its median, the interval around it, the samples behind it and how it was taken."""
    entries = rows.field(shipment)
    names = dict.fromkeys(figure.name for entry in entries if entry.evidence for figure in entry.evidence.figures)
    lines = [line for name in names for line in _taken(name, entries)]
    if not lines:
        return Markup()
    heads = ("figure", "variant", "median", "interval", "samples", "how")
    return join(
        tag("h2", "How each figure was taken"),
        tag("p", "The median over the samples, and the interval around it."),
        table(heads, lines, right=(2, 3, 4)),
    )


# ---------------------------------------------------------------- parts

_VERDICT_HEADS = ("gate", "limit", "figure", "verdict", "reason")


def _verdict(verdict: Verdict) -> tuple[Markup, ...]:
    gate = verdict.gate
    said = (
        ("mark good", "✓ met")
        if verdict.passed
        else ("mark bad", "✗ missed" if verdict.figure is not None else "✗ not measured")
    )
    figure = NONE if verdict.figure is None else wording.single(gate.figure, verdict.figure, gate.unit)
    return (
        tag("td", wording.label(gate.figure), class_="mark"),
        tag("td", wording.limit(gate), class_="right"),
        tag("td", figure, class_="right"),
        tag("td", said[1], class_=said[0]),
        tag("td", verdict.reason, class_="text"),
    )


def _exchange(one: Exchange) -> tuple[str, ...]:
    places = wording.decimals("p50_ms", [one.p50_ms, one.p99_ms])
    return (
        _percent(one.accuracy_percent),
        f"{one.largest_difference:.3g}",
        f"{one.answered:,} of {one.requests:,}",
        f"{one.rows:,}",
        wording.number(one.p50_ms, places),
        wording.number(one.p99_ms, places),
    )


def _gap(served: Served) -> str:
    who = f"Release v{served.version} was started as a server and sent the evaluation rows."
    if served.gap_points is None:
        return f"{who} There are no labels, so the answers themselves were compared."
    if served.gap_points == 0:
        return f"{who} It is exactly as accurate as measured: the gap is 0.00 points."
    return f"{who} Measured minus served accuracy: {wording.signed(served.gap_points, 3)} points."


def _passes(shipment: Shipment) -> Markup:
    """The chain of passes of every variant, with the options each ran with."""
    variants = [one for one in (shipment.optimized.variants if shipment.optimized else ()) if one.chain]
    if not variants:
        return Markup()
    lines = []
    for one in variants:
        steps = " → ".join(
            step.name + "".join(f" {key}={wording.option(value)}" for key, value in step.options.items()) for step in one.chain
        )
        digest = tag("td", tag("code", wording.short(one.digest), title=one.digest), class_="mark")
        cells = digest, tag("td", steps, class_="text"), tag("td", ", ".join(one.devices))
        lines.append(tag("tr", tag("th", one.name, scope="row"), *cells))
    return join(tag("h3", "Passes of each variant"), table(("variant", "digest", "passes", "for"), lines))


def _machine(machine: Machine) -> list[tuple[str, str]]:
    memory = f"{machine.memory_mb:,} MB"
    return [
        ("processor", f"{machine.cpu}, {machine.cores} core{'' if machine.cores == 1 else 's'}, {memory}"),
        ("instructions", ", ".join(machine.isa) or NONE),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("packages", _versions(machine.packages)),
    ]


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or NONE


def _taken(name: str, entries: Iterable[Entry]) -> list[Markup]:
    """The lines of one figure; words that hold for all variants stand once."""
    found = [(entry.name, figure) for entry in entries if (figure := entry.figure(name))]
    places = wording.decimals(name, [figure.median for _, figure in found])
    same = len({figure.how for _, figure in found}) == 1
    lines = []
    for n, (variant, figure) in enumerate(found):
        cells = [
            tag("td", variant),
            tag("td", wording.number(figure.median, places), class_="right"),
            tag("td", wording.interval(figure, places), class_="right soft"),
            tag("td", f"{figure.samples:,}", class_="right"),
        ]
        if n == 0:
            head = tag("th", wording.label(name), tag("small", figure.unit), scope="rowgroup", rowspan=len(found))
            cells.insert(0, head)
        if n == 0 or not same:
            cells.append(tag("td", figure.how, class_="text soft", rowspan=len(found) if same else None))
        lines.append(tag("tr", *cells))
    return lines


def _percent(value: float | None) -> str:
    return NONE if value is None else wording.number(value, 2)


def _row(name: str, *cells: str) -> Markup:
    return tag("tr", tag("th", name, scope="row"), *(tag("td", cell, class_="right") for cell in cells))


def table(heads: Iterable[str], lines: Iterable[Markup], right: Iterable[int] = ()) -> Markup:
    """A table in a card; the columns numbered in ``right`` have their heads above right-aligned cells."""
    numbers = set(right)
    cells = (tag("th", head, scope="col", class_="right" if n in numbers else None) for n, head in enumerate(heads))
    return tag("div", tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *lines)), class_="card")
