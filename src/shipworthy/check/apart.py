"""The areas in a process of their own: a library that crashes, hangs or eats all memory becomes a finding.

One child goes through the areas and writes a line for each that it has finished. When it ends early, the area that it was
at has a finding, and another child goes on with those after it. What is to be done lies pickled in a file that only our
own parent writes.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from shipworthy import child, records
from shipworthy.backends import source, torch
from shipworthy.check import areas
from shipworthy.check.intake import reference
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.data import Dataset
from shipworthy.errors import ShipworthyError, from_plain, to_plain
from shipworthy.records import Finding, MemoryPoint, Model, Report

# An area that takes longer hangs: that of numbers runs the model many times, and asks its framework.
SECONDS = {"numbers": 900, "graph": 300}
SECONDS_OTHERWISE = 120
# The areas that would load once more what an area has ended over.
FOLLOWS = {"format": ("graph",)}
# Address space, not memory: runtimes reserve far more than they touch.
SPACE_BYTES = 16 * 10**9
JOB, SAID, LOG = "job.pickle", "said.jsonl", "log.txt"

CONTAINED = Law(
    name="format.contained",
    severity="error",
    holds="no checker or runtime crashes, hangs or runs out of memory over the model",
    breaks="a server process that loads the model dies with all its requests",
    mend="do not load this file anywhere; export the model again, and report the crash to the library that is named",
)
LAWS = (CONTAINED,)


@dataclass(frozen=True)
class Job:
    """What a child looks at, by which areas: a file (``origin``), or the model that it became."""

    areas: tuple[str, ...]
    origin: Origin
    model: Model | None = None
    data: Dataset | None = None
    recipe: torch.Recipe = torch.NOTHING


def inspect(origin: Origin, names: Sequence[str] = tuple(areas.OF_FILES)) -> Report:
    """``areas.inspect`` in a process of its own."""
    return _run(Job(tuple(names), origin), source.digest(origin.path))


def run(model: Model, origin: Origin, data: Dataset | None = None, recipe: torch.Recipe = torch.NOTHING) -> Report:
    """``areas.run`` in a process of its own, which asks the framework of ``origin`` itself, by its ``recipe``.

    Raises:
        Refused: as ``reference``; the trained file changed meanwhile.
    """
    return _run(Job(tuple(areas.OF_MODELS), origin, model, data, recipe), model.digest)


def main() -> None:
    """Do what the file on the command line says; only our parent writes such files."""
    child.exit_with_parent()
    path = Path(sys.argv[1])
    job: Job = pickle.loads(path.read_bytes())  # noqa: S301
    resource.setrlimit(resource.RLIMIT_AS, (SPACE_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends us in the middle of a library's loop, too
    with path.with_name(SAID).open("a", encoding="utf-8") as said:
        try:
            for line in _look(job):
                _say(said, line)
        except ShipworthyError as error:  # no finding: the call cannot be carried out, as when the file has changed meanwhile
            _say(said, {"error": to_plain(error)})


def _look(job: Job) -> Iterator[dict[str, Any]]:
    """Go through the areas: a line for each, with what it has found."""
    with ExitStack() as stack:
        subject: Any = job.origin
        if job.model:
            signal.alarm(SECONDS_OTHERWISE)
            framework = reference(job.model, trust=job.origin.trust, recipe=job.recipe)
            subject = stack.enter_context(areas.opened(job.model, job.data, framework, job.origin.target))
        for name in job.areas:
            signal.alarm(SECONDS.get(name, SECONDS_OTHERWISE))
            look: Callable[[Any], Iterator[Finding | MemoryPoint]] = (areas.OF_MODELS if job.model else areas.OF_FILES)[name]
            lines = [[type(one).__name__, records.dump(one)] for one in look(subject)]
            signal.alarm(0)
            yield {"area": name, "said": lines}


def _say(said: TextIO, line: dict[str, Any]) -> None:
    """Data, no pickle: what a child says that has read a hostile file must run nothing in its parent."""
    said.write(json.dumps(line) + "\n")
    said.flush()


def _run(job: Job, digest: str) -> Report:
    findings: list[Finding] = []
    memory: list[MemoryPoint] = []
    rest = job.areas
    while rest:
        with tempfile.TemporaryDirectory(prefix="shipworthy-check-") as name:
            folder = Path(name)
            fate = _spawn(replace(job, areas=rest), folder)
            for line in _lines(folder / SAID):
                if "error" in line:
                    raise from_plain(line["error"])
                rest = rest[1:]
                for kind, plain in line["said"]:
                    if kind == MemoryPoint.__name__:
                        memory.append(records.load(MemoryPoint, plain))
                    else:
                        findings.append(records.load(Finding, plain))
        if rest:
            ended, *others = rest
            findings.append(CONTAINED.found(f"area {ended}", fate))
            rest = tuple(area for area in others if area not in FOLLOWS.get(ended, ()))
    return Report(model=digest, laws=job.areas, findings=tuple(findings), memory=tuple(memory))


def _spawn(job: Job, folder: Path) -> str:
    """Run one child to its end; how it has ended."""
    (folder / JOB).write_bytes(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    command = ("-c", "from shipworthy.check.apart import main; main()", str(folder / JOB))
    limit = sum(SECONDS.get(area, SECONDS_OTHERWISE) for area in job.areas) + 60
    try:
        code = child.run(command, folder / LOG, limit)
    except TimeoutError:
        return f"no end after {limit} s"
    if code == -signal.SIGALRM:
        return f"no end after {SECONDS.get(job.areas[0], SECONDS_OTHERWISE)} s"
    return child.fate(code, folder / LOG)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole]
