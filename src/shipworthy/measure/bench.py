"""The parent's side of a probe: a fresh process for one variant, commands to it, a bound on every wait."""

from __future__ import annotations

import selectors
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO, Any, Self, cast

import msgspec

from shipworthy.errors import Failed

PATIENCE_SECONDS = 600.0
STDERR_TAIL = 2000


class Bench:
    """A probe process; a context manager, gone afterwards whatever happens."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[bytes]
        self._stderr: IO[bytes]

    def __enter__(self) -> Self:
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shipworthy.measure.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and sleep until its answer comes.

        Raises:
            Failed: the probe died, did not answer in ten minutes, or said that it could not.
        """
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            pipe.write(msgspec.json.encode({"do": do, **arguments}) + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise self._died() from None
        answer: dict[str, Any] = msgspec.json.decode(self._line())
        if "error" in answer:
            raise Failed(f"variant '{self._name}' could not be measured: {answer['error']}", found=answer.get("found", ""))
        return answer

    def _line(self) -> bytes:
        pipe = cast("IO[bytes]", self._process.stdout)
        with selectors.DefaultSelector() as waiting:
            waiting.register(pipe, selectors.EVENT_READ)
            if not waiting.select(PATIENCE_SECONDS):
                raise Failed(
                    f"variant '{self._name}' did not answer in {PATIENCE_SECONDS:.0f} s",
                    next="take fewer batch_rows or shorter repeat_seconds under [measure]",
                )
        line = pipe.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        return line

    def _died(self) -> Failed:
        code = self._process.wait()
        self._stderr.seek(0)
        tail = self._stderr.read().decode(errors="replace")[-STDERR_TAIL:].strip()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failed(
            f"the process that measured variant '{self._name}' died",
            found=f"{how}{'; its last words: ' + tail.splitlines()[-1] if tail else ''}",
            next="signal 9 is often the kernel out of memory; otherwise take the pass out of passes under [optimize]",
        )


def spread(benches: dict[str, Bench], repeat: int) -> list[str]:
    """The order of one repeat: every variant once, another first each time, so that no place is always the quiet one."""
    names = list(benches)
    shift = repeat % len(names)
    return names[shift:] + names[:shift]
