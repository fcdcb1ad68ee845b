"""A child process that never outlives its parent, whatever ends that (Ctrl-C, kill -9).

The parent holds the write end of the child's standard input; when the parent is gone, the child reads its end.
``python -m shipworthy.child SCRIPT`` runs a script of the user's that way.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

LAST_WORDS = 1000


def run(arguments: Sequence[str], log: Path, seconds: float | None, environment: Mapping[str, str] | None = None) -> int:
    """Run Python with these arguments, and with our path for what it imports, to its end; its exit code.

    It is to call ``exit_with_parent``. When this returns or raises, nothing that it has started is left.

    Args:
        arguments: of the interpreter that runs us.
        log: a file to write, for all that the child says.
        seconds: how long it may take; ``None``: as long as it does.
        environment: variables beside ours.

    Raises:
        TimeoutError: it took longer.
    """
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | dict(environment or {})
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=said, stderr=said, env=variables, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()
            process.communicate()


def fate(code: int, log: Path) -> str:
    """How a child that said nothing else has ended, and with which words."""
    words = log.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}; its last words: {words or 'none'}"


def exit_with_parent() -> None:
    """From now on end this process at once when standard input closes."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="exit-with-parent", daemon=True).start()


def main() -> None:
    """Run the script named on the command line as ``__main__``, in its own folder."""
    script = Path(sys.argv[1]).resolve()
    exit_with_parent()
    sys.argv = [str(script)]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
