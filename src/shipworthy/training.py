"""Running the user's training script when the trained file is missing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from shipworthy.errors import Refused
from shipworthy.protocols import Sink
from shipworthy.records import Progress
from shipworthy.settings import Settings

TAIL = 1500
TICK_SECONDS = 0.5


def train(settings: Settings, sink: Sink) -> None:
    """Make the trained file, unless it is there.

    The script runs in its own folder, in a process that ends when this one does.

    Raises:
        Refused: no trained file and no script, the script failed, or it left no trained file.
    """
    path = settings.file(settings.model.path)
    if path.exists():
        return
    script = settings.file(settings.model.train) if settings.model.train else None
    if script is None or not script.is_file():
        raise Refused(
            f"there is no file {path}",
            found=f"and no script {script}" if script else "and no train script under [model] that could make it",
            next="correct path under [model], or name the script that makes the file as train",
        )
    command = [sys.executable, "-m", "shipworthy.child", str(script.absolute())]
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=script.parent
        ) as process:
            start = time.monotonic()
            while process.poll() is None:
                sink.emit(Progress(stage="train", text=f"{script} ({time.monotonic() - start:.0f} s)"))
                _sleep_until_done(process)
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    if process.returncode:
        raise Refused(
            f"{script} failed",
            found=f"exit code {process.returncode}; its last words: {said[-TAIL:]}",
            next=f"run it by hand: {sys.executable} {script}",
        )
    if not path.exists():
        raise Refused(f"{script} left no {path}", expected="the file that path under [model] names", next="correct one of them")


def _sleep_until_done(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(TICK_SECONDS)
    except subprocess.TimeoutExpired:
        return
