"""The verb ``conformance``."""

from __future__ import annotations

import json
import sys

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shipworthy.cli import options
from shipworthy.testing.conformance import Examination, Result, Server, as_dict, examine, markdown
from shipworthy.testing.conformance.report import TITLES, counts

WIDTH_WITHOUT_TERMINAL = 160
STYLES = {"held": "green", "broken": "bold red", "not offered": "dim", "not tried": "dim"}


@click.command("conformance")
@click.argument("url")
@click.option("--grpc", default="", metavar="HOST:PORT", help="Where it speaks gRPC; without it those laws are not tried.")
@click.option("--model", default="", help="The model to ask [default: the first that the server names].")
@click.option("--version", default="", help="Its version [default: the last that its metadata names].")
@click.option("--group", "groups", multiple=True, help="Only these laws, as oip or oip.binary; may be repeated.")
@click.option("--skip", multiple=True, metavar="ID", help="Leave a law out, as one that takes the server down.")
@click.option("--unload", is_flag=True, help="Unload the model for a moment, and load it again.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a page in Markdown.")
@options.as_json
@options.debug
@click.pass_context
def command(
    ctx: click.Context,
    /,
    url: str,
    grpc: str,
    groups: tuple[str, ...],
    skip: tuple[str, ...],
    as_markdown: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **flags: str | bool,
) -> None:
    """Say which laws of the Open Inference Protocol and of TensorFlow Serving the server at URL keeps, and which not.

    Any server: it is only asked what clients ask. Exit code 1 when a law that a specification requires is broken.
    """
    quiet = as_json or as_markdown
    found = examine(
        Server(url, grpc),
        model=str(flags["model"]),
        version=str(flags["version"]),
        groups=groups,
        skip=skip,
        unload=bool(flags["unload"]),
        seen=(lambda _: None) if quiet or not sys.stderr.isatty() else _progress,
    )
    if as_json:
        click.echo(json.dumps(as_dict(found)))
    elif as_markdown:
        click.echo(markdown({f"{found.server} {found.version}".strip(): found}), nl=False)
    else:
        _show(found, url)
    ctx.exit(0 if found.conforms else 1)


def _progress(result: Result) -> None:
    click.echo(f"\r{result.id:<40}", nl=False, err=True)


def _show(found: Examination, url: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=WIDTH_WITHOUT_TERMINAL)
    if sys.stderr.isatty():
        click.echo("\r" + " " * 40 + "\r", nl=False, err=True)
    console.print(f"[bold]{escape(found.server)} {escape(found.version)}[/] at {escape(url)}, model {escape(found.model)}")
    for key in dict.fromkeys(one.group for one in found.results):
        _group(console, [one for one in found.results if one.group == key])
    console.print(_summary(found))


def _group(console: Console, results: list[Result]) -> None:
    console.print(f"\n[bold]{TITLES[results[0].group]}[/]")
    if {one.state for one in results} == {"not offered"}:
        console.print(f"  [dim]not offered: {escape(results[0].found)}[/]")
        return
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for one in results:
        table.add_row(f"[{STYLES[one.state]}]{one.state}[/]", one.id, escape(one.law))
    console.print(table, soft_wrap=False)
    for one in results:
        if one.state == "broken":
            _broken(console, one)


def _broken(console: Console, one: Result) -> None:
    console.print(f"  [bold red]broken[/] {one.id} ({one.level})")
    for label, text in (
        ("law", one.law),
        ("source", one.source),
        ("asked", one.asked),
        ("expected", one.expected),
        ("found", one.found),
    ):
        console.print(f"    {label:<9} {escape(text)}")


def _summary(found: Examination) -> str:
    said = ", ".join(f"[{STYLES[state]}]{count} {state}[/]" for state, count in counts(found.results).items())
    required = sum(one.state == "broken" and one.level == "specification" for one in found.results)
    if not required:
        return f"\n{said}; every law tried that a specification requires is held"
    return f"\n{said}; [bold red]{required} of the broken are required by a specification[/]"
