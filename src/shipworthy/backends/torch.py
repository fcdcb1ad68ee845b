"""PyTorch models (.pt2, .safetensors): conversion to ONNX, and the model's own predictions.

Everything happens in a process of its own (``torch_child``): torch takes seconds to import and 300 MB. What turns a file
into a model executes code, be it the user's factory or pickles inside of a .pt2; callers ask for trust first.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipworthy.backends import errand, fine_tune
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Model
from shipworthy.settings import Settings

WEIGHTS, PROGRAM = ".safetensors", ".pt2"
SUFFIXES = (PROGRAM, WEIGHTS)
# Pickles: of a module, of its weights, or TorchScript; the suffix does not tell which.
PICKLES = (".pt", ".pth", ".ckpt", ".bin")
PACKAGES = ("torch", "onnxscript", "safetensors")
TORCH = errand.Errand("shipworthy.backends.torch_child", "PyTorch")


@dataclass(frozen=True)
class Recipe:
    """What a file of weights lacks to be a model: code, and rows to trace it with.

    ``factory`` is ``FILE.py:FUNCTION``, whose function gives the ``torch.nn.Module`` without arguments. ``rows`` is an .npz
    file with an array for every parameter of the module's ``forward`` that has no default; ``names`` maps such a parameter
    to its array, where the names differ. A .pt2 needs none of this.
    """

    factory: str = ""
    rows: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, Any]:
        """All of it that shapes a conversion: what earlier work is recognised by.

        Raises:
            Refused: a file is gone.
        """
        code = file_digest(fine_tune.file_of(self.factory)) if self.factory else ""
        return {"factory": self.factory, "code": code, "rows": file_digest(self.rows) if self.rows else "", "names": self.names}


NOTHING = Recipe()


@dataclass(frozen=True)
class Tuning(fine_tune.Tuning):
    """A trained PyTorch model that can go on training; ``recipe`` is the one that it was converted with."""

    recipe: Recipe = NOTHING


def recipe(settings: Settings) -> Recipe:
    """What the settings say of a model of PyTorch; nothing where they name no factory.

    Raises:
        Refused: the factory is not ``FILE.py:FUNCTION``, or there is no such file.
    """
    if not settings.model.factory:
        return NOTHING
    named = settings.data
    rows = named.evaluation or named.calibration or named.baseline
    factory = fine_tune.located(settings.model.factory, settings.folder)
    return Recipe(factory, settings.file(rows).absolute() if rows else None, named.inputs)


def tuning(settings: Settings, model: Model) -> Tuning | None:
    """How the model goes on training; ``None`` where it cannot: no ``fine_tune``, no trust, or not weights of PyTorch.

    Raises:
        Refused: ``fine_tune`` is not ``FILE.py:FUNCTION``, or a file is gone or is another one now.
    """
    path, wanted = Path(model.source.path), settings.optimize
    if not wanted.fine_tune or not settings.model.trust or path.suffix != WEIGHTS:
        return None
    if file_digest(path) != model.source.digest:
        raise Refused(f"{path} changed while it was taken in", next="run the same command again")
    made, training = recipe(settings), fine_tune.located(wanted.fine_tune, settings.folder)
    digests = [file_digest(fine_tune.file_of(spec)) for spec in (made.factory, training)]
    code = hashlib.sha256(" ".join(digests).encode()).hexdigest()
    return Tuning(path.absolute(), model.digest, training, wanted.fine_tune_steps, code, made)


def convert(path: Path, result: Path, opset: int, ir_version: int, recipe: Recipe) -> dict[str, str]:
    """Write the model in ``path`` as ONNX to ``result``; what it takes is named as in ``forward``, in float32.

    One output is called ``output``, several ``output_0``, ``output_1`` and so on. The first dimension of every input is
    free; of a .pt2, where its maker has left it free.

    Returns:
        What converted it: package to version.

    Raises:
        Refused: the extra is missing, it is not such a model, the recipe does not fit it, or it has no ONNX form.
        Failed: the process of torch died or took too long.
    """
    if path.suffix == WEIGHTS and not recipe.factory:
        raise Refused(
            f"{path} holds weights, and no model",
            found="no factory under [model]",
            expected="the function that makes the module they belong to",
            next='name it: factory = "train.py:make_model" under [model] (or --set model.factory=train.py:make_model)',
        )
    if path.suffix == WEIGHTS and recipe.rows is None:
        raise Refused(
            f"{path} cannot be traced",
            found="no rows that show what the model takes",
            next="name an .npz file with an array for every input: evaluation under [data]",
        )
    job = {"deed": "convert", "result": str(result), "opset": opset, "ir_version": ir_version} | _trained(path, recipe)
    with tempfile.TemporaryDirectory() as folder:
        answer = errand.send(TORCH, Path(folder), job)
    return dict(answer["packages"])


def predict(path: Path, inputs: Arrays, recipe: Recipe) -> list[Array]:
    """What the trained model itself answers, in the order of the converted model's outputs.

    Args:
        path: the trained file.
        inputs: one array an input of the converted model, rows along the first axis.
        recipe: as for ``convert``.

    Raises:
        Refused: as ``convert``, or the model does not take the rows.
        Failed: as ``convert``.
    """
    job = {"deed": "predict"} | _trained(path, recipe)
    with tempfile.TemporaryDirectory() as folder:
        return errand.ask(TORCH, Path(folder), job, inputs)


def refuse_pickle(path: Path) -> Refused:
    """The error for a file that only unpickling could open."""
    return Refused(
        f"{path} is a pickle of PyTorch's, which is not loaded",
        found=path.suffix,
        expected=f"weights ({WEIGHTS}) beside the code of the model, or an exported program ({PROGRAM})",
        next='where it was trained: safetensors.torch.save_file(model.state_dict(), "model.safetensors"); then name that file '
        'as path and factory = "train.py:make_model" under [model]',
    )


def missing() -> Refused | None:
    """The error when the extra is not installed; looks without importing anything."""
    return errand.missing(PACKAGES, "PyTorch models", "torch")


def _trained(path: Path, recipe: Recipe) -> dict[str, Any]:
    """What the child has to know of the model.

    Raises:
        Refused: the extra is missing.
    """
    if lacking := missing():
        raise lacking
    rows = str(recipe.rows.absolute()) if recipe.rows else ""
    return {"path": str(path.absolute()), "factory": recipe.factory, "names": dict(recipe.names), "rows": rows}
