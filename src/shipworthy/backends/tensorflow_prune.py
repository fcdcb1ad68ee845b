"""Weights at zero in a model of Keras 2 while it goes on training, by TensorFlow Model Optimization.

Only in a process that may import TensorFlow. That package knows no Keras 3.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from pathlib import Path
from typing import Any, Protocol

from shipworthy.backends import fine_tune, tensorflow_model
from shipworthy.backends.fine_tune import Tuning
from shipworthy.errors import Refused

PACKAGES = ("tensorflow", "tf_keras", "tensorflow_model_optimization")
# Most steps between two looks at which weights are the smallest.
EVERY = 10


class Schedule(Protocol):
    """A share of zeros, from ``initial`` to ``final``, polynomial of ``power`` between ``begin`` and ``end`` of all steps."""

    @property
    def initial(self) -> float:
        """From 0 to 1, as ``final``, ``begin`` and ``end``."""
        ...

    @property
    def final(self) -> float:
        """Of all numbers in the model."""
        ...

    @property
    def power(self) -> float:
        """How much faster it grows at first."""
        ...

    @property
    def begin(self) -> float:
        """Before it nothing is zero."""
        ...

    @property
    def end(self) -> float:
        """From it on all is that will be."""
        ...


def missing() -> str:
    """Why it cannot be used here; empty when it can. Imports nothing."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"no module '{absent[0]}': pip install --no-deps tf-keras tensorflow-model-optimization, and pip install dm-tree"


def sparse(tuning: Tuning, schedule: Schedule, original: Path, result: Path) -> None:
    """Train on, with a growing share of the weights at zero: the smallest of each layer.

    Args:
        tuning: the model and how it trains.
        schedule: the share of zeros among all numbers in the model.
        original: the ONNX of the model, whose operator set and version the result has.
        result: where the ONNX is written.

    Raises:
        Refused: packages are missing, the weights that may be zero are too few, or the user's code fails, stops before the
            last step, or ends in NaN.
    """
    if lacking := missing():
        raise Refused("pruning a model of Keras 2 needs TensorFlow Model Optimization", found=lacking)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a file of the user's may say otherwise
    optimization: Any = importlib.import_module("tensorflow_model_optimization")
    model = tensorflow_model.keras_model(tuning.path, "tf_keras", trust=True)
    pruned, wrapped = _wrapped(optimization.sparsity.keras, model, schedule, tuning.steps)
    for layer in wrapped:
        layer.pruning_step.assign(0)
    for step in fine_tune.steps(tuning.fine_tune, pruned, tuning.steps):
        for layer in wrapped:  # not left to the layers: a step of the user's need not be one call of the model
            layer.pruning_step.assign(step)
            layer.pruning_obj.conditional_mask_update()
            layer.pruning_obj.weight_mask_op()
    stripped = optimization.sparsity.keras.strip_pruning(pruned)
    fine_tune.refuse_diverged((weight.name, weight.numpy()) for weight in stripped.weights)
    tensorflow_model.write_onnx(tensorflow_model.of_keras(stripped), result, *fine_tune.form(original))


def steps_of(schedule: Schedule, steps: int) -> tuple[int, int, int]:
    """Between which steps it is looked which weights are the smallest, and every how many; steps are counted from 1.

    The last look is a whole number of looks behind the first: else it would be passed over, and with it the final share.
    """
    begin = min(int(schedule.begin * steps), steps - 1)
    end = max(math.ceil(schedule.end * steps), begin + 1)
    every = next(one for one in range(min(EVERY, end - begin), 0, -1) if (end - begin) % one == 0)
    return begin, end, every


def _wrapped(api: Any, model: Any, schedule: Schedule, steps: int) -> tuple[Any, list[Any]]:
    """The model with its layers of large weights wrapped, and the wrappers."""
    layers: Any = importlib.import_module("tf_keras").layers
    kinds = (layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose, layers.Conv3D, layers.Dense)
    chosen = {layer.name for layer in model.layers if type(layer) in kinds}
    numbers = sum(math.prod(weight.shape) for layer in model.layers if layer.name in chosen for weight in layer.weights[:1])
    scale = sum(math.prod(weight.shape) for weight in model.weights) / max(1, numbers)
    if schedule.final * scale >= 1:
        raise Refused(
            "too few of the model's numbers are weights that can be zero",
            found=f"{100 / scale:.1f} % of them, in {len(chosen)} layers Conv or Dense",
            expected=f"more than {100 * schedule.final:.0f} %",
        )
    begin, end, every = steps_of(schedule, steps)
    decay = api.PolynomialDecay(
        initial_sparsity=schedule.initial * scale,
        final_sparsity=schedule.final * scale,
        begin_step=begin,
        end_step=end,
        power=schedule.power,
        frequency=every,
    )

    def wrap(layer: Any) -> Any:
        return api.prune_low_magnitude(layer, pruning_schedule=decay) if layer.name in chosen else layer

    pruned = importlib.import_module("tf_keras").models.clone_model(model, clone_function=wrap)
    return pruned, [layer for layer in pruned.layers if hasattr(layer, "pruning_step")]
