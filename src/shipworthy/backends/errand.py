"""A framework in a process of its own: a job goes there, an answer comes back, both as JSON in a folder; arrays are .npz.

``send`` is the parent's end, ``fulfil`` the child's. The child never outlives its parent.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy import child
from shipworthy.errors import Failed, Refused, ShipworthyError, from_plain, to_plain
from shipworthy.protocols import Array, Arrays

LIMIT_SECONDS = 600.0
JOB, ANSWER, LOG, INPUTS, OUTPUTS = "job.json", "answer.json", "log.txt", "inputs.npz", "outputs.npz"


@dataclass(frozen=True)
class Errand:
    """Who does the job: ``module`` calls ``fulfil``; ``framework`` is its name in messages."""

    module: str
    framework: str
    environment: Mapping[str, str] = field(default_factory=dict)


def send(errand: Errand, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Do one job in a fresh process that finds and leaves its files in ``folder``.

    Args:
        errand: who does it.
        folder: an empty folder, but for ``INPUTS``.
        job: plain data; ``path`` is the file that messages name.

    Raises:
        Refused: what the child has refused, or the framework has raised.
        Failed: the process died or took too long.
    """
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    try:
        code = child.run(("-m", errand.module, str(folder)), folder / LOG, LIMIT_SECONDS, errand.environment)
    except TimeoutError:
        what = f"{errand.framework} took too long over {job['path']}"
        raise Failed(what, found=f"no answer in {LIMIT_SECONDS:.0f} s") from None
    if not (folder / ANSWER).exists():
        raise Failed(f"the process of {errand.framework} died over {job['path']}", found=child.fate(code, folder / LOG))
    answer: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    if "error" in answer:
        raise from_plain(answer)
    return answer


def ask(errand: Errand, folder: Path, job: Mapping[str, Any], inputs: Arrays) -> list[Array]:
    """``send``, with arrays for the child, which gives arrays back: what the model answers to rows."""
    np.savez(folder / INPUTS, **inputs)  # type: ignore[arg-type]  # its stubs know only the flag beside the arrays
    send(errand, folder, job)
    with np.load(folder / OUTPUTS, allow_pickle=False) as arrays:
        return [arrays[name] for name in sorted(arrays.files, key=int)]


def missing(packages: Sequence[str], what: str, extra: str) -> Refused | None:
    """The error when the extra that brings the packages for ``what`` is not installed; looks without importing anything."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return Refused(
        f"{what} need an extra that is not installed",
        found=f"no module '{absent[0]}'",
        next=f"pip install 'shipworthy[{extra}]'",
    )


def fulfil(do: Callable[[dict[str, Any], Path], dict[str, Any]], framework: str) -> None:
    """Do the job in the folder on the command line; whatever goes wrong is the answer."""
    child.exit_with_parent()
    folder = Path(sys.argv[1])
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    try:
        answer = do(job, folder)
    except ShipworthyError as error:
        answer = to_plain(error)
    except Exception as error:  # noqa: BLE001 - frameworks and the user's code raise what they like
        traceback.print_exc()
        what = f"{framework} could not {job['deed']} {job['path']}"
        answer = to_plain(Refused(what, found=first_line(error)))
    draft = folder / "answer.draft"
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.rename(folder / ANSWER)


def answer_rows(folder: Path, answer: Callable[[dict[str, Array]], Sequence[Array]]) -> None:
    """The child's part of ``ask``."""
    with np.load(folder / INPUTS, allow_pickle=False) as arrays:
        outputs = answer({name: arrays[name] for name in arrays.files})
    np.savez(folder / OUTPUTS, **{str(place): output for place, output in enumerate(outputs)})  # type: ignore[arg-type]


def first_line(error: BaseException) -> str:
    """What an error is told as."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
