"""The report of ``check`` on the terminal: what was found by area, the gravest first, and what to do next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shipworthy.cli import show as shipped
from shipworthy.cli.options import Way, lists
from shipworthy.records import Finding, MemoryPoint, Shipment
from shipworthy.settings import Settings
from shipworthy.targets import whole_mb
from shipworthy.text import inert, printable, printable_lines

# Longer lines are hard to read.
WIDEST = 110
INDENT = 11


def show(shipment: Shipment, settings: Settings, way: Way) -> None:
    """Print it to standard output; plain text of 80 columns when that is no terminal."""
    console = shipped.Paper()
    width = min(console.width, WIDEST)
    report = shipment.report
    console.print()
    shipped.head(console, shipment.model)
    for area, findings in report.by_area.items():
        console.print(Text(f"\n{printable(area)}", style="bold"))
        _print(console, findings, width)
    if report.silenced:
        console.print(Text("\nsilenced", style="bold"))
        _print(console, report.silenced, width)
    if report.memory:
        target = printable(settings.target(way.target).name)
        console.print(Text(f"\nmemory of a process on {target}, as predicted, in MB", style="bold"))
        console.print(_memory(report.memory))
    _end(console, shipment, way)


def wrapped(one: Finding, width: int) -> Iterator[tuple[str, str]]:
    """A finding in lines of at most ``width`` columns, each with its style: severity, law and place; evidence; mend."""
    first = f"  {one.severity:<{INDENT - 2}}{printable(one.law)}  "
    head, *more = _wrapped(printable(one.place), width, first) or [first.rstrip()]
    yield head, shipped.SEVERITIES[one.severity]
    yield from ((line, "") for line in more)
    label, text = ("reason", one.silenced) if one.silenced else ("mend", one.mend)
    for line in printable_lines(one.evidence).split("\n"):
        yield from ((part, "") for part in _wrapped(line, width, " " * INDENT))
    if text:
        yield from ((part, "") for part in _wrapped(printable_lines(text), width, f"{'':{INDENT}}{label}: "))


def _wrapped(text: str, width: int, first: str) -> list[str]:
    made = textwrap.wrap(
        text,
        max(width, 2 * INDENT),
        initial_indent=first,
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,  # flags and names are to be copied
    )
    return [inert(line) for line in made]


def _print(console: Console, findings: Iterable[Finding], width: int) -> None:
    for one in findings:
        for line, style in wrapped(one, width):
            console.print(Text(line, style=style))


def _memory(points: Sequence[MemoryPoint]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("  rows of a call", "weights", "activations", "whole process"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in points:
        table.add_row(f"{one.rows:,}", f"{one.weights_mb:,.1f}", f"{one.activations_mb:,.1f}", f"{whole_mb(one):,.1f}")
    return table


def _end(console: Console, shipment: Shipment, way: Way) -> None:
    report = shipment.report
    console.print()
    if report.errors:
        console.print(Text(report.summary, style="bold red"))
    elif any(one.severity != "note" and not one.silenced for one in report.findings):
        console.print(Text(report.summary, style="bold yellow"))
    else:
        console.print(Text(f"nothing to mend: {report.summary}", style="bold green"))
    if shipment.reused:
        console.print(f"reused   {', '.join(shipment.reused)}: nothing that shapes them has changed")
    console.print(Text(f"report   {printable(shipped.short(shipment.html))}"))
    if report.errors:
        console.print("next     mend the errors, and run the same command again; one that is to stay")
        console.print(Text("         can be silenced with a reason, as [[check.silence]] in shipworthy.toml"))
    else:
        console.print(Text(f"next     {printable(_ship(way))}"))


def _ship(way: Way) -> str:
    """The command that goes on from here, with what this one was told."""
    words = [shipped.name_of_program(), "ship", str(way.what)]
    words += ["--target", way.target] if way.target else []
    words += ["--trust"] if way.trust else []
    words += ["--data", str(way.data)] if way.data else []
    words += ["--factory", way.factory] if way.factory else []
    changes = [*way.changes, *(f"{key}={value}" for key, value in lists(way).items())]
    return shlex.join(words + [word for change in changes for word in ("--set", change)])
