"""Smaller weights of a PyTorch model while it goes on training; only in a process that may import torch.

``sparse`` sets the smallest weights to zero, ``narrow`` takes whole channels out; both write ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipworthy.backends import torch_channels
from shipworthy.backends.fine_tune import form, refuse_diverged, steps
from shipworthy.backends.torch import Tuning
from shipworthy.backends.torch_model import Trained, load

# Steps between two looks at which weights are the smallest.
EVERY = 10


def sparse(tuning: Tuning, share: Callable[[int], float], original: Path, result: Path) -> None:
    """Train on, with a growing share of the weights at zero: the smallest of all layers together.

    Args:
        tuning: the model and how it trains.
        share: of all numbers in the model, how many are zero after a step, from 0 to 1; must not fall.
        original: the ONNX of the model, whose operator set and version the result has.
        result: where the ONNX is written.

    Raises:
        Refused: the user's code fails, or stops before the last step; or training has ended in NaN.
    """
    import torch  # noqa: PLC0415

    trained = load(tuning.path, tuning.recipe)
    weights = [one for one in trained.module.parameters() if one.dim() > 1 and one.is_floating_point()]
    count = sum(one.numel() for one in trained.module.state_dict().values() if one.is_floating_point())
    masks: list[Any] = []
    for step in steps(tuning.fine_tune, trained.module, tuning.steps):
        with torch.no_grad():
            if step % EVERY == 0 or step == tuning.steps:
                masks = _masks(weights, math.ceil(share(step) * count))
            for weight, mask in zip(weights, masks, strict=False):
                weight.mul_(mask)
    _write(trained, original, result)


def narrow(tuning: Tuning, share: float, original: Path, result: Path) -> dict[str, str]:
    """Take ``share`` of the channels out, those with the smallest weights, and train on.

    Channels that depend on each other (by a sum, a normalisation, a layer by channel) stay or go together.

    Returns:
        Channels before and after, by the weight that makes them.

    Raises:
        Refused: the module cannot be traced, has no channels that may go, does not work without them; or as ``sparse``.
    """
    trained = load(tuning.path, tuning.recipe)
    cut = torch_channels.narrow(trained, share)
    for _ in steps(tuning.fine_tune, trained.module, tuning.steps):
        pass
    _write(trained, original, result)
    return cut


def _masks(weights: list[Any], zeros: int) -> list[Any]:
    """Ones and zeros for every weight, exactly ``zeros`` of them zero (all, if there are no more)."""
    import torch  # noqa: PLC0415

    sizes = torch.cat([one.detach().abs().flatten() for one in weights])
    mask = torch.ones_like(sizes)
    mask[torch.argsort(sizes, stable=True)[:zeros]] = 0
    parts = torch.split(mask, [one.numel() for one in weights])
    return [part.view_as(one) for part, one in zip(parts, weights, strict=True)]


def _write(trained: Trained, original: Path, result: Path) -> None:
    """The module as ONNX, for evaluation."""
    trained.module.eval()
    refuse_diverged((name, one.numpy(force=True)) for name, one in trained.module.state_dict().items())
    trained.write_onnx(result, *form(original))
