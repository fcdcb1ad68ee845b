"""The user's own metric: a function in a file or a module, called in a process of its own, for so long and no longer.

Outputs and labels lie in a folder, and what came of them is written there.
The function takes the outputs (name to array) and the labels, and gives a number; more of it is better.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import time
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from shipworthy import child
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.measure import metrics, rows
from shipworthy.measure.metrics import Numbers
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Metric
from shipworthy.settings import Settings

COMMAND = ("-c", "from shipworthy.measure.own import main; main()")
OUTPUTS, LABELS, RESULT, LOG = "own-outputs.npz", "own-labels.npz", "own.json", "own.txt"
PATIENCE_SECONDS = 300.0
# Draws of the bootstrap: so many, while the time lasts; fewer than the least say nothing.
DRAWS, LEAST_DRAWS, DRAWS_SECONDS = 200, 20, 10.0
TAIL = 300


def named(settings: Settings) -> Metric:
    """The metric of the settings; of the user's own, its file by its absolute path, and the digest of that.

    Raises:
        Refused: a function of the user's without trust, or in no file that there is.
    """
    name = settings.data.metric
    if ":" not in name:
        return metrics.named(name)
    if not settings.model.trust:
        raise Refused(
            f"the metric {name} executes code, and that is not allowed",
            found="trust = false under [model]",
            next="only if you wrote it yourself, set trust = true there, or give --trust",
        )
    place, _, function = name.rpartition(":")
    file = settings.file(place).absolute() if place.endswith(".py") else _file(place)
    if file is None or not file.is_file():
        raise Refused(
            f"there is no {'file' if place.endswith('.py') else 'module'} {place} for the metric {name}",
            expected="score.py:function, relative to the settings file, or package.module:function",
            next="correct metric under [data]",
        )
    where = str(file) if place.endswith(".py") else place
    return msgspec.structs.replace(metrics.named(f"{where}:{function}"), code=file_digest(file))


def _file(module: str) -> Path | None:
    """Where a module lies; nothing of it is executed."""
    path: list[str] | None = None
    spec = None
    for depth, _ in enumerate(parts := module.split(".")):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin else None


def score(name: str, outputs: Arrays, labels: Array, folder: Path) -> tuple[float, Numbers]:
    """What the user's function gives for all rows, and for draws of them; see ``quality.Scored``.

    Raises:
        Refused: it raised, gave no finite number, took too long, or ended its process.
    """
    rows.write(folder / OUTPUTS, outputs)
    rows.write(folder / LABELS, {"labels": labels})
    (folder / RESULT).unlink(missing_ok=True)
    shown = short(name)
    try:
        code = child.run((*COMMAND, str(folder), name), folder / LOG, PATIENCE_SECONDS)
    except TimeoutError:
        raise Refused(f"the metric {shown} took longer than {PATIENCE_SECONDS:g} s", next="make it faster") from None
    try:
        result: dict[str, Any] = msgspec.json.decode((folder / RESULT).read_bytes())
    except FileNotFoundError:
        result = {"what": "ended its process", "found": child.fate(code, folder / LOG)}
    if "what" in result:
        raise Refused(f"the metric {shown} {result['what']}", found=result["found"], next=f"call {shown} by hand on your rows")
    return result["value"], np.array(result["draws"], dtype=np.float64)


def short(name: str) -> str:
    """The metric's name without the folder of its file."""
    return name.rpartition("/")[2] if ".py:" in name else name


# ---------------------------------------------------------------- in the child


class _Wrong(Exception):
    """What the user is told."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(what)
        self.told = {"what": what, "found": found}


def main() -> None:
    """Call the function that the command line names, and write what it gives, or what went wrong."""
    child.exit_with_parent()
    folder, name = Path(sys.argv[1]), sys.argv[2]
    try:
        result = _called(folder, name)
    except _Wrong as error:
        result = error.told
    draft = folder / f"{RESULT}.draft"
    draft.write_bytes(msgspec.json.encode(result))
    draft.rename(folder / RESULT)


def _called(folder: Path, name: str) -> dict[str, Any]:
    outputs, labels = rows.read(folder / OUTPUTS), rows.read(folder / LABELS)["labels"]
    function = _function(name)
    value = _number(function, outputs, labels)
    draws: list[float | None] = []
    generator = np.random.default_rng(0)
    end = time.monotonic() + DRAWS_SECONDS
    while len(draws) < DRAWS and time.monotonic() < end:
        drawn = generator.integers(len(labels), size=len(labels))
        try:
            draws.append(_number(function, {key: one[drawn] for key, one in outputs.items()}, labels[drawn]))
        except _Wrong:  # some functions need a row of every class, say
            draws.append(None)
    return {"value": value, "draws": draws if len(draws) - draws.count(None) >= LEAST_DRAWS else []}


def _function(name: str) -> Any:
    place, _, function = name.rpartition(":")
    try:
        module = _loaded(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        found = getattr(module, function)
    except BaseException as error:
        raise _Wrong("could not be loaded", _where(error)) from error
    if not callable(found):
        raise _Wrong("is no function", f"{function} is a {type(found).__name__}")
    return found


def _loaded(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _number(function: Any, outputs: Arrays, labels: Array) -> float:
    try:
        given = function(outputs, labels)
    except BaseException as error:
        raise _Wrong(f"raised {type(error).__name__}", _where(error)) from error
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise _Wrong("gave no number", f"{type(given).__name__}") from None
    if not math.isfinite(value):
        raise _Wrong("gave no finite number", str(value))
    return value


def _where(error: BaseException) -> str:
    """What it says, and the last line of the user's that it passed."""
    said = f"{type(error).__name__}: {str(error)[:TAIL]}"
    passed = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith((__file__, "<frozen"))]
    return said + (f", at line {passed[-1].lineno} of {Path(passed[-1].filename).name}" if passed else "")
