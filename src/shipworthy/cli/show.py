"""A shipment on the terminal: the table of the field, what was refused and why, the proof, and what to do next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape as no_markup
from rich.table import Table

from shipworthy.measure.gate import is_close
from shipworthy.measure.report import wording
from shipworthy.measure.report.rows import Table as Field
from shipworthy.measure.report.rows import field, rows
from shipworthy.records import Model, Report, Served, Shipment
from shipworthy.settings import Settings
from shipworthy.text import printable, printable_lines

WIDTH_WITHOUT_TERMINAL = 120
WIDEST = 1000
STYLES = {"ships": "bold green", "refused": "dim", "passed": "", "unjudged": ""}
PARITY = "numbers.parity"
SEVERITIES = {"error": "bold red", "warning": "yellow", "note": "dim"}


class Paper(Console):
    """What we print on: plain where that is no terminal; lines are as long as they are."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(highlight=False, soft_wrap=True, width=width)

    def on_broken_pipe(self) -> None:
        """Let the verb say what becomes of it; rich would exit with 1."""
        raise BrokenPipeError


def show(shipment: Shipment, settings: Settings) -> None:
    """Print it to standard output; plain text when that is no terminal."""
    console = Paper()
    if not console.is_terminal:
        console = Paper(WIDTH_WITHOUT_TERMINAL)
    console.print()
    head(console, shipment.model)
    _findings(console, shipment.report)
    _field(console, shipment)
    _curves(console, shipment)
    _refusals(console, shipment)
    if shipment.served:
        _served(console, shipment.served)
    _places(console, shipment)
    _end(console, shipment, settings)


def escape(text: str) -> str:
    """Text of others, which neither rich nor the terminal takes for an order."""
    return no_markup(printable_lines(text))


def head(console: Console, model: Model) -> None:
    """What the model is: its file, and what it takes and gives where somebody has read it."""
    origin = f"{model.source.framework}, sha256 {model.source.digest[:12]}"
    console.print(f"[bold]{model.name}[/]  {escape(model.source.path)} ({origin})")
    if not model.is_read:
        return
    for kind, specs in (("takes", model.signature.inputs), ("gives", model.signature.outputs)):
        console.print(f"  {kind:<8}{escape(', '.join(printable(str(spec)) for spec in specs))}")
    console.print(f"  {'onnx':<8}opset {model.opset}, IR version {model.ir_version}, sha256 {model.digest[:12]}")


def _findings(console: Console, report: Report) -> None:
    """What is to be mended, what is silenced, and whether the model is still the trained one; other notes are counted."""
    told = [one for one in report.findings if one.severity != "note" or one.silenced or one.law == PARITY]
    for one in told:
        style = SEVERITIES[one.severity]
        why = f" (silenced: {escape(one.silenced)})" if one.silenced else ""
        console.print(f"  {'check':<8}[{style}]{one.severity}[/] {one.law}: {escape(one.place)}: {escape(one.evidence)}{why}")
        if one.mend and one.severity != "note" and not one.silenced:
            console.print(f"  {'':<8}do next: {escape(one.mend)}")
    if len(told) < len(report.findings):
        console.print(f"  {'check':<8}{report.summary}: the report has all")


def _field(console: Console, shipment: Shipment) -> None:
    if shipment.optimized is None:
        return
    content: Field = rows(shipment)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in content.columns:
        table.add_column(column.header, justify=column.align, no_wrap=True)
    for row in content.rows:
        *cells, verdict = row.cells
        # What a variant was refused for stands below the table, with the limit and the figure.
        table.add_row(*map(escape, cells), verdict.partition(":")[0], style=STYLES[row.state])
    # A terminal too narrow wraps the lines: a table that fits would lose digits.
    needed = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    console.print(table, width=needed, crop=False, no_wrap=True)
    if shipment.measured is None:
        for variant in shipment.optimized.variants:
            console.print(f"  {variant.name:<24}{escape(variant.path)}")


def _curves(console: Console, shipment: Shipment) -> None:
    """The latency of a call by its rows: a line for each variant and number of threads."""
    curves = shipment.measured.curves if shipment.measured else ()
    batches = sorted({point.rows for curve in curves for point in curve.points})
    if not batches:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("P50 ms of a call of", no_wrap=True)
    for batch in batches:
        table.add_column(f"{batch} row{'s' if batch > 1 else ''}", justify="right", no_wrap=True)
    for curve in curves:
        for threads in sorted({point.threads for point in curve.points}):
            taken = {point.rows: point.latency.median for point in curve.points if point.threads == threads}
            places = wording.decimals("p50_ms", list(taken.values()))
            cells = (wording.number(taken[batch], places) if batch in taken else wording.NONE for batch in batches)
            table.add_row(escape(f"{curve.variant_name}, {threads} thread{'s' if threads > 1 else ''}"), *cells)
    needed = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    console.print(table, width=needed, crop=False, no_wrap=True)


def _refusals(console: Console, shipment: Shipment) -> None:
    for skip in shipment.optimized.skips if shipment.optimized else ():
        console.print(f"  [yellow]skipped[/] {skip.name}: {escape(skip.reason)}")
    for judged in shipment.choice.judged if shipment.choice else ():
        for verdict in judged.verdicts:
            if not verdict:
                console.print(f"  [yellow]refused[/] {judged.variant_name}: {escape(verdict.reason)}")
    if shipment.choice and shipment.choice.variant:
        console.print(f"  [green]chosen[/]  {escape(shipment.choice.reason)}")
        for variant in shipment.optimized.variants if shipment.optimized else ():
            for note in variant.notes:
                console.print(f"  note    {variant.name}: {escape(note)}")
        for reason in _close(shipment, shipment.choice.variant_name):
            console.print(f"  [yellow]close[/]   {escape(reason)}")


def _close(shipment: Shipment, name: str | None) -> list[str]:
    """What a variant has met, or may just so have met."""
    evidence = (
        next((one for one in shipment.measured.evidence if one.variant_name == name), None) if shipment.measured else None
    )
    judged = next((one for one in shipment.choice.judged if one.variant_name == name), None) if shipment.choice else None
    if evidence is None or judged is None:
        return []
    pairs = ((verdict, evidence.figure(verdict.gate.figure)) for verdict in judged.verdicts)
    return [verdict.reason for verdict, figure in pairs if figure and is_close(verdict.gate, figure)]


def _served(console: Console, served: Served) -> None:
    if served.measured_accuracy_percent is None:
        console.print("  served  the release answers over HTTP")
    else:
        style = "green" if served.passed else "bold red"
        gap = f"[{style}]gap {served.gap_points:.2f} points[/] between development and production"
        console.print(f"  [{style}]served[/]  {gap}; measured {served.measured_accuracy_percent:.2f} %")
    for one in served.exchanges:
        accuracy = "" if one.accuracy_percent is None else f"{one.accuracy_percent:.2f} %, "
        answered = f"{one.answered} of {one.requests} requests answered, P50 {one.p50_ms:.2f} ms, P99 {one.p99_ms:.2f} ms"
        console.print(
            f"  {'':<8}{one.encoding:<7} {accuracy}{answered}, outputs within {one.largest_difference:.2g} of the measured"
        )


def _places(console: Console, shipment: Shipment) -> None:
    if shipment.release:
        release = shipment.release
        console.print(f"  release {release.name} version {release.version}, bundle sha256 {release.bundle[:12]}")
    if shipment.promotion:
        moved = shipment.promotion
        before = f"version {moved.before}" if moved.before else "none"
        console.print(f"  alias   {moved.name}@{moved.alias} is version {moved.after} (was {before}): {escape(moved.reason)}")
    if shipment.tracked:
        seen = shipment.tracked
        where = f"models:/{seen.model_name}@{seen.alias} version {seen.model_version}"
        console.print(f"  mlflow  {where} in {escape(_short_uri(seen.tracking_uri))}")
    if shipment.reused:
        console.print(f"  reused  {', '.join(shipment.reused)}: nothing that shapes them has changed")


def _end(console: Console, shipment: Shipment, settings: Settings) -> None:
    console.print()
    if shipment.stopped:
        console.print(f"[bold red]stopped[/]  {escape(shipment.stopped)}")
    elif shipment.choice:
        chosen = next((one for one in field(shipment) if one.state == "ships"), None)
        if chosen and chosen.speed_up:
            size, before = chosen.value("size_mb") or 0, field(shipment)[0].value("size_mb") or 0
            gain = f"{chosen.speed_up:.2f} times as fast as the original, {before / size:.2f} times smaller" if size else ""
            verb = "ships" if shipment.promotion else "passes"
            console.print(f"[bold green]{shipment.name} {verb} as {chosen.name}[/]: {gain}")
    console.print(f"report   {escape(short(shipment.html))}")
    if shipment.promotion and shipment.release and not shipment.stopped:
        _next(console, shipment, settings)


def _next(console: Console, shipment: Shipment, settings: Settings) -> None:
    program = name_of_program()
    port = settings.serve.port or 8000
    console.print("next")
    console.print(f"  {program} serve {shipment.name}")
    console.print(f"  curl http://127.0.0.1:{port}/v2/models/{shipment.name}")
    if shipment.tracked and shipment.tracked.tracking_uri.startswith("sqlite"):
        mlflow = "mlflow" if shutil.which("mlflow") else str(Path(program).parent / "mlflow")
        console.print(f"  {mlflow} ui --backend-store-uri {escape(_short_uri(shipment.tracked.tracking_uri))}")
    else:
        console.print(f"  {program} ship {short(settings.folder)} --json")


def name_of_program() -> str:
    """What to type to call us."""
    return "shipworthy" if shutil.which("shipworthy") else short(sys.argv[0])


def short(path: str) -> str:
    """The path as seen from here, when that is shorter to type."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return path


def _short_uri(uri: str) -> str:
    """A database file as seen from here."""
    before, slashes, path = uri.partition("sqlite:///")
    return f"{before}{slashes}{short(path)}" if slashes else uri
