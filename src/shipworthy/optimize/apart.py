"""One pass in a process of its own: a library that crashes natively takes no search with it.

What is to be done lies pickled in a file that only our own parent writes; what went wrong is pickled beside it. What the
libraries say goes to the log.
"""

from __future__ import annotations

import math
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shipworthy import child
from shipworthy.backends.runners import load
from shipworthy.data import made_up
from shipworthy.errors import Failed
from shipworthy.protocols import Arrays
from shipworthy.records import Signature, Target

JOB, ERROR, LOG = "job.pickle", "error.pickle", "log.txt"
LOG_TAIL = 20_000
LEAST_SECONDS = 1.0


class Step(Protocol):
    """What a pass has, and a look at a model, too."""

    def apply(self, model: Path, result: Path, calibration: Arrays | None) -> None:
        """Read ``model``, write ``result``."""
        ...


@dataclass(frozen=True)
class Job:
    """A pass, and what it is applied to; ``step`` ``None``: nothing is to be done but to look at the result.

    ``promise`` is the signature that the result has to have, and the target that it has to run on; ``None``: it is no model.
    """

    step: Step | None
    model: Path
    result: Path
    calibration: Arrays | None
    promise: tuple[Signature, Target] | None = None


def run(job: Job, seconds: float) -> None:
    """Do it in a fresh process.

    Raises:
        Failed: the process died or took too long.
        Exception: whatever the pass has raised.
    """
    folder = job.result.parent
    (folder / JOB).write_bytes(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    command = ("-c", "from shipworthy.optimize.apart import main; main()", str(folder / JOB))
    try:
        code = child.run(command, folder / LOG, None if math.isinf(seconds) else max(LEAST_SECONDS, seconds))
    except TimeoutError:
        raise Failed("it took too long", found=f"{seconds:.0f} s, the rest of the budget", next="raise --budget") from None
    if (folder / ERROR).exists():
        raise pickle.loads((folder / ERROR).read_bytes())  # noqa: S301  our own child wrote it
    if code:
        raise Failed("its process died", found=child.fate(code, folder / LOG))


def log(job: Job) -> str:
    """What the libraries have said, the end of it."""
    try:
        return (job.result.parent / LOG).read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def main() -> None:
    """Do what the file on the command line says; only our parent writes such files."""
    child.exit_with_parent()
    path = Path(sys.argv[1])
    job: Job = pickle.loads(path.read_bytes())  # noqa: S301
    path.unlink()  # calibration rows may be large
    try:
        if job.step:
            job.step.apply(job.model, job.result, job.calibration)
        if job.promise:
            _ensure(job.result, *job.promise)
    except Exception as error:  # noqa: BLE001  whatever it was, the parent tells it
        try:
            told = pickle.dumps(error)
            pickle.loads(told)  # noqa: S301
        except Exception:  # noqa: BLE001  an error that does not travel
            told = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        draft = path.with_name(ERROR + ".draft")
        draft.write_bytes(told)
        draft.rename(path.with_name(ERROR))


def _ensure(result: Path, signature: Signature, target: Target) -> None:
    """What every pass promises: the variant loads, answers, and has kept the signature."""
    runner = load(result, target)
    try:
        if runner.signature != signature:
            raise Failed("the pass changed the signature", found=str(runner.signature), expected=str(signature))
        runner.run(made_up(signature, 2).inputs)
    finally:
        runner.close()
