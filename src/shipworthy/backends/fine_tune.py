"""The user's own training, a step at a time: ``FILE.py:FUNCTION(model, steps)``, which yields after every step."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from shipworthy.backends.errand import first_line
from shipworthy.errors import Refused


def steps(spec: str, model: Any, count: int) -> Iterator[int]:
    """Let the user's function train the model; gives the number of every step that it has made, from 1 to ``count``.

    Args:
        spec: ``FILE.py:FUNCTION``.
        model: what the function trains in place.
        count: after so many steps it is not asked again.

    Raises:
        Refused: the file or the function fails, or it stops before the last step.
    """
    name = Path(spec).name
    made = 0
    training: Any = None
    try:
        training = function(spec)(model, count)
        for _ in islice(training, count):
            made += 1
            yield made
    except Refused:
        raise
    except Exception as error:  # the user's code raises what it likes
        raise Refused(
            f"{name} failed after {made} steps",
            found=first_line(error),
            expected="fine_tune(model, steps), which yields after every step",
        ) from error
    finally:
        if hasattr(training, "close"):
            training.close()
    if made < count:
        raise Refused(f"{name} stopped early", found=f"{made} steps", expected=f"a yield for each of {count}")


def function(spec: str) -> Callable[..., Any]:
    """The function that ``FILE.py:FUNCTION`` names; runs the file, with its folder on the path for what it imports.

    Raises:
        Refused: the file fails, or has no such function.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None  # noqa: S101 - it ends in .py
    assert found.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except Exception as error:  # the user's code raises what it likes
        raise Refused(f"{path} cannot be run", found=first_line(error), next=f"run it by hand: python {path}") from error
    if not callable(got := getattr(module, name, None)):
        raise Refused(f"{path} has no function '{name}'", next="correct the name after the colon")
    return got  # type: ignore[no-any-return]
