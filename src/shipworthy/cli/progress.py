"""What happens, while it happens: bars on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from shipworthy import records

LINE_EVERY_SECONDS = 5.0


class Bars:
    """One line a stage, with a bar where the end is known."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("[bold]{task.fields[stage]:<9}"),
            TimeElapsedColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console,
        )
        self._stage = ""
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def emit(self, record: records.Record) -> None:
        """Draw."""
        if not isinstance(record, records.Progress):
            return
        if record.stage != self._stage:
            self._finish()
            self._stage = record.stage
            self._task = self._bars.add_task(record.text, total=None, stage=record.stage)
        self._bars.update(self._task, description=record.text, completed=record.done, total=record.total or None)

    def _finish(self) -> None:
        if self._stage:
            self._bars.update(self._task, completed=1, total=1)


class Lines:
    """One line when a stage begins, and one every few seconds while it works."""

    def __init__(self) -> None:
        self._stage = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        pass

    def emit(self, record: records.Record) -> None:
        """Print."""
        if not isinstance(record, records.Progress):
            return
        now = time.monotonic()
        if record.stage == self._stage and now - self._said < LINE_EVERY_SECONDS:
            return
        self._stage, self._said = record.stage, now
        share = f" ({record.done} of {record.total})" if record.total else ""
        print(f"{record.stage}: {record.text}{share}", file=sys.stderr, flush=True)  # noqa: T201


def sink() -> Bars | Lines:
    """The sink that suits standard error; a context manager."""
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()
