"""A server as a child process: started, awaited, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from shipworthy.errors import Failed

STOP_SECONDS = 35.0
TAIL_BYTES = 2000


@contextmanager
def running(command: list[str], start_seconds: float) -> Iterator[str]:
    """The URL of the server that ``command`` starts, which runs as long as the context.

    The command prints one JSON line with the key ``url`` when it answers, and ends when its standard input closes.

    Args:
        command: program and arguments.
        start_seconds: how long to wait for that line.

    Raises:
        Failed: it did not start, said nothing in time, or ended by itself; with the end of what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise Failed("the server's process cannot be started", found=f"{command[0]}: {error.strerror}") from error
        try:
            yield _await_url(process, start_seconds, errors)
            if process.poll() is not None:
                raise _failed(f"the server ended by itself with exit code {process.returncode}", errors)
        finally:
            _end(process)


def _await_url(process: subprocess.Popen[bytes], start_seconds: float, errors: IO[bytes]) -> str:
    first: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, first), name="server-output", daemon=True).start()
    try:
        line = first.get(timeout=start_seconds)
    except queue.Empty:
        raise _failed(f"the server did not answer within {start_seconds:g} s", errors) from None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["url"])
    if line:
        raise _failed("the server did not say its URL", errors, line.decode(errors="replace").strip()[:500])
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    raise _failed(f"the server ended before it answered, with exit code {process.poll()}", errors)


def _read_lines(stream: IO[bytes], first: queue.Queue[bytes]) -> None:
    """Hand the first line on (empty: there was none) and drop the others, so that the pipe never fills."""
    with stream:
        first.put(stream.readline())
        while stream.read(65536):
            pass


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _failed(what: str, errors: IO[bytes], found: str = "") -> Failed:
    errors.seek(max(0, errors.seek(0, 2) - TAIL_BYTES))
    said = errors.read().decode(errors="replace").strip()
    return Failed(what, found="\n".join(part for part in (found, said) if part), next="run the same command by hand")
