"""The user's own training, a step at a time: ``FILE.py:FUNCTION(model, steps)``, which yields after every step.

What the passes that train on have in common, whatever the framework.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shipworthy.backends.errand import first_line
from shipworthy.errors import Refused
from shipworthy.protocols import Array


@dataclass(frozen=True)
class Tuning:
    """A trained model that can go on training; passes that change its weights hold one.

    ``path`` is the trained file, ``original`` the digest of its ONNX. ``fine_tune`` is ``FILE.py:FUNCTION``; its function
    takes the model and a number of steps, trains the model in place and yields after every step. ``code`` is the digest of
    the user's files.
    """

    path: Path
    original: str
    fine_tune: str
    steps: int
    code: str

    @property
    def options(self) -> dict[str, Any]:
        """What of it shapes a result, without places on this machine."""
        return {"fine_tune": Path(self.fine_tune).name, "steps": self.steps, "code": self.code}


def located(spec: str, folder: str) -> str:
    """``FILE.py:FUNCTION`` with the file's place below ``folder``.

    Raises:
        Refused: it is not that, or there is no such file.
    """
    file, _, function = spec.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise Refused(f"'{spec}' names no function", expected="FILE.py:FUNCTION, as train.py:make_model")
    path = (Path(folder) / file).absolute()
    if not path.is_file():
        raise Refused(f"there is no file {path}", found=f"'{spec}'", next="correct it; it is relative to the settings file")
    return f"{path}:{function}"


def file_of(spec: str) -> Path:
    """The file of ``FILE.py:FUNCTION``."""
    return Path(spec.rpartition(":")[0])


def form(original: Path) -> tuple[int, int]:
    """The operator set and the version of an ONNX file, which what is made from its model keeps."""
    before = onnx.load_model(original, load_external_data=False)
    return next(one.version for one in before.opset_import if one.domain in {"", "ai.onnx"}), before.ir_version


def refuse_diverged(weights: Iterable[tuple[str, Array]]) -> None:
    """Let weights through that training has left finite.

    Raises:
        Refused: one of them is not.
    """
    for name, values in weights:
        if not np.isfinite(values).all():
            raise Refused(
                "training has ended in numbers that are not finite", found=name, next="let fine_tune learn more slowly"
            )


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
    """The function that ``FILE.py:FUNCTION`` names; runs the file, once, with its folder on the path for what it imports.

    Raises:
        Refused: the file fails, or has no such function.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    made = sys.modules.get(path.stem)
    if made is None or getattr(made, "__file__", None) != str(path):
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None  # noqa: S101 - it ends in .py
        assert found.loader is not None  # noqa: S101
        made = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = made  # dataclasses and pickles look their module up
        try:
            found.loader.exec_module(made)
        except Exception as error:  # the user's code raises what it likes
            del sys.modules[path.stem]
            raise Refused(f"{path} cannot be run", found=first_line(error), next=f"run it by hand: python {path}") from error
    if not callable(got := getattr(made, name, None)):
        raise Refused(f"{path} has no function '{name}'", next="correct the name after the colon")
    return got  # type: ignore[no-any-return]
