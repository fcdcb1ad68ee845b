"""The command line: one file a verb, each verb one call of the library.

Exit codes: 0 passed, 1 a gate or a law said no, 2 the call was wrong, 3 we failed; 130 after Ctrl-C.
A verb's file is imported when that verb is called, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import click

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.text import printable_lines

VERBS = {
    "ship": "take a model the whole way: check to a verified, promoted release",
    "check": "find what would break in production",
    "optimize": "find the smaller and faster variants that pass",
    "measure": "measure every variant on this machine, and judge it by the gates",
    "release": "put the best variant that passes into the registry",
    "serve": "answer predictions over HTTP and gRPC",
    "key": "make a key for callers of a server",
    "conformance": "say which laws of the serving protocols any server keeps, and which not",
    "init": "write a commented shipworthy.toml by looking at a model",
    "completion": "print the completion script of a shell",
}
INTERRUPTED = 130


class Verbs(click.Group):
    """A group that knows its verbs' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs, in the order a model meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb of that name."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"shipworthy.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or name the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib  # noqa: PLC0415  (only when a verb was mistyped)

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; verbs: {', '.join(VERBS)}"
            raise click.UsageError(f"there is no verb '{args[0]}'{hint}", ctx) from error


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="WHAT is a folder with a shipworthy.toml, that file, a model file, or a model in MLflow (models:/NAME@ALIAS, "
    "runs:/ID/PATH). "
    "Exit codes: 0 passed, 1 a gate said no, 2 the call was wrong, 3 we failed.",
)
@click.version_option(package_name="shipworthy", message="shipworthy %(version)s")
def cli() -> None:
    """Take a trained model to production, and prove at every step that it is fit to ship."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(given, prog_name="shipworthy", standalone_mode=False)
        if sys.stdout is not None:  # closed before we began
            sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        code = _say({"error": error.format_message(), "next": _usage(error)}, given, 2)
    except (click.Abort, KeyboardInterrupt):
        text = "interrupted; the same command goes on where this one stopped: finished stages are kept"
        code = _say({"error": text}, given, INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone: nothing to tell
        code = 0
    except ShipworthyError as error:
        if "--debug" in given:
            raise
        code = _say(error.as_dict(), given, error.exit_code)
    except Exception as error:
        if "--debug" in given:
            raise
        what = {
            "error": f"internal error: {type(error).__name__}: {error}",
            "next": "run it again with --debug and report what it prints",
        }
        code = _say(what, given, Failed.exit_code)
    sys.exit(code or 0)


def _say(parts: dict[str, str], given: list[str], code: int) -> int:
    """One clear error: JSON on standard output for machines, sentences on standard error for people."""
    if "--json" in given or "--format=json" in given or ("--format", "json") in pairwise(given):
        click.echo(json.dumps(parts))
        return code
    lines = [f"{click.style('error:', fg='red', bold=True)} {printable_lines(parts['error'])}"]
    for key, label in (("found", "found:"), ("expected", "expected:"), ("next", "do next:")):
        if parts.get(key):
            lines.append(f"  {click.style(f'{label:<10}', bold=True)}{printable_lines(parts[key])}")
    click.echo("\n".join(lines), err=True)
    return code


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else "shipworthy --help"
