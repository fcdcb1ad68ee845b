"""The page: what a reader wants first stands first, and nothing is fetched to read it."""

from __future__ import annotations

from importlib import resources

from shipworthy.measure.report import curves, evidence, findings, memory, palette, plots, rows, wording
from shipworthy.measure.report.markup import Markup, join, tag
from shipworthy.measure.report.rows import Entry
from shipworthy.records import Shipment
from shipworthy.text import printable, printable_lines

_HEAD = Markup(
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)


def html(shipment: Shipment) -> str:
    """The whole report as one page of HTML.

    It runs no script and loads nothing, is light or dark as the reader's screen is, and prints. A shipment that was
    stopped gets a page of what there is, with what stopped it on top.
    """
    version = f" v{shipment.release.version}" if shipment.release else ""
    title = f"{shipment.name}{version}: {'passed' if shipment.passed else 'stopped'}"
    css = Markup(palette.variables(":root") + resources.files(__package__).joinpath("page.css").read_text("utf-8"))
    parts = (
        _headline(shipment),
        _field(shipment),
        _pictures(shipment),
        curves.section(shipment),
        memory.section(shipment),
        evidence.verdicts(shipment),
        evidence.production(shipment),
        findings.findings(shipment),
        evidence.skipped(shipment),
        evidence.chain(shipment),
        evidence.machines(shipment),
        evidence.figures(shipment),
        _footer(shipment),
    )
    head = tag("head", _HEAD, tag("title", title), tag("style", css))
    return join(Markup("<!doctype html>\n"), tag("html", head, tag("body", tag("main", *parts)), lang="en"))


# ---------------------------------------------------------------- headline


def _headline(shipment: Shipment) -> Markup:
    release, passed = shipment.release, shipment.passed
    pill = tag("span", "✓ PASSED" if passed else "✗ STOPPED", class_=f"pill {'good' if passed else 'bad'}")
    version = tag("span", f" v{release.version}", class_="version") if release else Markup()
    choice = shipment.choice
    reason = tag("p", choice.reason, class_="reason") if choice and choice.variant else Markup()
    return tag(
        "header",
        tag("div", pill, "Shipment report", class_="over"),
        tag("h1", shipment.name, version),
        reason,
        tag("p", " · ".join(_facts(shipment)), class_="facts"),
        Markup() if passed else _stop(shipment),
        _tiles(shipment),
    )


def _facts(shipment: Shipment) -> list[str]:
    facts = [f"from {shipment.model.source.framework}, {shipment.model.source.path}"]
    if shipment.release:
        facts.append(f"released {wording.when(shipment.release.created_at)} by {shipment.release.created_by}")
    move = shipment.promotion
    if move:
        before = "" if move.before is None else f" from v{move.before}"
        after = "taken away" if move.after is None else f"moved{before} to v{move.after}"
        facts.append(f"{move.alias} {after} by {move.by}")
    elif shipment.release:
        facts.append("no alias was moved to it")
    return facts


def _stop(shipment: Shipment) -> Markup:
    what, rest = _told(shipment)
    steps = [] if "do next:" in shipment.stopped else _next_steps(shipment)
    parts = [tag("p", what, class_="what")]
    if rest:
        parts.append(tag("p", rest, class_="code"))
    if steps:
        parts += [tag("h2", "What to do"), tag("ul", *(tag("li", step) for step in steps))]
    return tag("section", *parts, class_="stop", aria_label="What stopped it")


def _told(shipment: Shipment) -> tuple[str, str]:
    """What stopped it: the sentence, and the lines of detail."""
    choice, stopped = shipment.choice, shipment.stopped
    if choice and choice.variant is None and stopped == choice.reason:
        what, _, reasons = stopped.partition(": ")
        return what, reasons.replace("; ", "\n")
    what, _, rest = stopped.partition("\n")
    return what, rest


def _next_steps(shipment: Shipment) -> list[str]:
    """What to do about a stop that does not say so itself, from how far the shipment came."""
    if shipment.report.errors:
        return [f"{printable(one.place)}: {printable_lines(one.mend or one.evidence)}" for one in shipment.report.errors]
    if shipment.choice and shipment.choice.variant is None:
        missed = [verdict.gate for one in shipment.choice.judged for verdict in one.verdicts if not verdict]
        gates = ", ".join(dict.fromkeys(f"{gate.figure} {wording.limit(gate)}" for gate in missed))
        return [
            f"Read the verdicts below: no variant met every gate ({gates}).",
            "Improve the model, allow more passes in [optimize], or move a limit in [gates] if it was wrong.",
        ]
    if shipment.served and not shipment.served.passed:
        return ["Compare measured and served figures below; the release stays registered, and no alias points to it."]
    return ["Mend what the message names and run shipworthy ship again; stages that are done are reused."]


def _tiles(shipment: Shipment) -> Markup:
    """The differences that the choice makes, as large numbers; what was not measured is left out."""
    entries = rows.field(shipment)
    chosen = next((entry for entry in entries if entry.state == "ships"), None)
    tiles: list[Markup] = []
    if chosen:
        original = entries[0]
        if chosen.speed_up is not None:
            tiles.append(
                _tile("speed-up", wording.times(chosen.speed_up), "", _change(original, chosen, "p50_ms", "P50", "ms"))
            )
        before, after = original.value("size_mb"), chosen.value("size_mb")
        if before and after is not None:
            tiles.append(_tile("size", wording.times(after / before), "", _change(original, chosen, "size_mb", "file", "MB")))
        by = rows.metric(shipment)
        before, after = original.value(by.figure), chosen.value(by.figure)
        if before is not None and after is not None:
            note = _change(original, chosen, by.figure, "", by.unit)
            places = wording.decimals(by.figure, [before, after])
            unit = "points" if by.unit == "%" else by.unit
            tiles.append(_tile(rows.answers(by), wording.signed(after - before, places), unit, note))
    served = shipment.served
    if served:
        answered = sum(one.answered for one in served.exchanges)
        note = f"{answered:,} of {sum(one.requests for one in served.exchanges):,} requests answered"
        gap = wording.NONE if served.gap_points is None else wording.signed(served.gap_points, 2)
        tiles.append(_tile("production gap", gap, "" if served.gap_points is None else "points", note))
    return tag("dl", *tiles, class_="tiles") if tiles else Markup()


def _tile(name: str, value: str, unit: str, note: str) -> Markup:
    worth = tag("dd", value, *([" ", tag("small", unit)] if unit else []))
    return tag("div", tag("dt", name), worth, tag("dd", note, class_="note"), class_="tile")


def _change(original: Entry, chosen: Entry, name: str, words: str, unit: str) -> str:
    before, after = original.value(name), chosen.value(name)
    if before is None or after is None:
        return ""
    places = wording.decimals(name, [before, after])
    if original is chosen:
        return f"{words} {wording.number(after, places)} {unit}, the original ships".lstrip()
    return f"{words} {wording.number(before, places)} → {wording.number(after, places)} {unit}".strip()


# ---------------------------------------------------------------- the field


def _field(shipment: Shipment) -> Markup:
    table = rows.rows(shipment)
    if not table.rows:
        return Markup()
    heads = (
        tag(
            "th",
            column.title,
            *([tag("span", column.unit, class_="unit")] if column.unit else []),
            scope="col",
            class_=column.align,
        )
        for column in table.columns
    )
    body = []
    for row in table.rows:
        cells = [tag("th", row.cells[0], scope="row")]
        cells += [tag("td", text, class_=column.align) for column, text in zip(table.columns[1:], row.cells[1:], strict=True)]
        body.append(tag("tr", *cells, class_=f"is-{row.state}"))
    return join(
        tag("h2", "The field"),
        tag(
            "p",
            "Every variant, measured side by side. Latency is that of one row in process; speed-up is paired repeat by repeat.",
        ),
        tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body)), class_="card"),
    )


def _pictures(shipment: Shipment) -> Markup:
    figures = []
    for draw in (plots.accuracy_latency, plots.size_memory):
        wide = draw(shipment, plots.WIDE)
        if wide:
            narrow = draw(shipment, plots.NARROW)
            figures.append(tag("figure", _shown(wide, "wide"), _shown(narrow, "narrow"), class_="card"))
    return join(*figures)


def _shown(svg: str, on: str) -> Markup:
    return Markup(svg.replace('class="sw"', f'class="sw {on}"', 1))


def _footer(shipment: Shipment) -> Markup:
    reused = f"Reused from an earlier run: {', '.join(shipment.reused)}. " if shipment.reused else ""
    return tag(
        "footer", f"{reused}This page loads nothing and runs nothing; the records it was made from travel with the bundle."
    )
