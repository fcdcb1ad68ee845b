"""A framework in a process of its own: a job goes there, an answer comes back, both as JSON in a folder; arrays are .npz.

``send`` is the parent's end, ``fulfil`` the child's. The child never outlives its parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipworthy.child import exit_with_parent
from shipworthy.errors import Failed, Refused, ShipworthyError

LIMIT_SECONDS = 600.0
TAIL = 1000
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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **errand.environment}
    command = [sys.executable, "-m", errand.module, str(folder)]
    with (folder / LOG).open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment)
        try:
            code = process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            what = f"{errand.framework} took too long over {job['path']}"
            raise Failed(what, found=f"no answer in {LIMIT_SECONDS:.0f} s") from None
        finally:
            process.kill()
            process.communicate()
    if not (folder / ANSWER).exists():
        words = (folder / LOG).read_bytes()[-TAIL:].decode(errors="replace").strip()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        what = f"the process of {errand.framework} died over {job['path']}"
        raise Failed(what, found=f"{how}; its last words: {words or 'none'}")
    answer: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    if told := answer.get("error"):
        kind = Failed if answer["kind"] == "Failed" else Refused
        raise kind(told, **{key: answer[key] for key in ("found", "expected", "next") if key in answer})
    return answer


def fulfil(do: Callable[[dict[str, Any], Path], dict[str, Any]], framework: str) -> None:
    """Do the job in the folder on the command line; whatever goes wrong is the answer."""
    exit_with_parent()
    folder = Path(sys.argv[1])
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    try:
        answer = do(job, folder)
    except ShipworthyError as error:
        answer = {"kind": "Failed" if isinstance(error, Failed) else "Refused", **error.as_dict()}
    except Exception as error:  # noqa: BLE001 - frameworks and the user's code raise what they like
        traceback.print_exc()
        what = f"{framework} could not {job['deed']} {job['path']}"
        answer = {"kind": "Refused", "error": what, "found": first_line(error)}
    draft = folder / "answer.draft"
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.rename(folder / ANSWER)


def first_line(error: BaseException) -> str:
    """What an error is told as."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
