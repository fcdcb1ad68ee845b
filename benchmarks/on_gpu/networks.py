"""The models that are compared: files for onnxruntime, and the same networks with the same weights for PyTorch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from serving import models

from shipworthy import check
from shipworthy.backends import torch as torch_files
from shipworthy.optimize.precision import Half
from shipworthy.protocols import Array

VISION = models.ROOT / "examples" / "vision"


@dataclass(frozen=True)
class Network:
    """``files`` has an ONNX file for each precision; ``rows`` are images that it is asked, float32, as many as one likes."""

    name: str
    files: dict[str, Path]
    rows: Array

    def batch(self, size: int) -> Array:
        """So many images, the same ones for everybody."""
        return np.ascontiguousarray(self.rows[np.arange(size) % len(self.rows)])


def made(name: str, folder: Path) -> Network:
    """``resnet50`` or ``vision``; FP16 by our own pass, so that the precision is in the graph, with 16 rows for the ranges."""
    folder.mkdir(parents=True, exist_ok=True)
    file, rows = (_resnet50 if name == "resnet50" else _vision)(folder)
    half = folder / f"{name}-fp16.onnx"
    (spec,) = onnx.load(file).graph.input
    Half("float16").apply(file, half, {spec.name: rows[:16]})
    return Network(name, {"fp32": file, "fp16": half}, rows)


def _resnet50(folder: Path) -> tuple[Path, Array]:
    rows = np.random.default_rng(2).standard_normal((32, 3, 224, 224)).astype(np.float32)
    return models.resnet50(folder).path, rows


def _vision(folder: Path) -> tuple[Path, Array]:
    if not (VISION / "model.safetensors").exists():
        subprocess.run([sys.executable, str(VISION / "train.py")], check=True, stdout=subprocess.DEVNULL)
    recipe = torch_files.Recipe(f"{VISION / 'train.py'}:make_model", VISION / "evaluation.npz")
    taken = check.take_in(VISION / "model.safetensors", "vision", folder / "taken", trust=True, recipe=recipe)
    return Path(taken.path), np.load(VISION / "evaluation.npz")["image"]


def module(name: str, file: Path) -> Any:
    """The torch module of a network, for evaluation; ``file`` is its ONNX in float32."""
    return (_vision_module() if name == "vision" else _resnet50_module(file)).eval()


def _vision_module() -> Any:
    from safetensors.torch import load_file  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location("vision_train", VISION / "train.py")
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    network = train.make_model()
    network.load_state_dict(load_file(VISION / "model.safetensors"))
    return network


def _resnet50_module(file: Path) -> Any:
    """The network that ``serving.models`` writes, normalisations folded as there, as one writes it in PyTorch."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    weights: Iterator[Any] = (torch.from_numpy(numpy_helper.to_array(one).copy()) for one in onnx.load(file).graph.initializer)

    def conv(taken: int, given: int, side: int, stride: int = 1) -> Any:
        layer = nn.Conv2d(taken, given, side, stride, padding=side // 2)
        layer.weight.data, layer.bias.data = next(weights), next(weights)
        return layer

    class Block(nn.Module):
        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            out = width * models.EXPANSION
            one, two = conv(channels, width, 1), conv(width, width, 3, stride)
            self.inner = nn.Sequential(one, nn.ReLU(inplace=True), two, nn.ReLU(inplace=True), conv(width, out, 1))
            self.past = nn.Identity() if channels == out else conv(channels, out, 1, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.inner(x) + self.past(x))

    layers, channels = [conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)], 64
    for stage, (width, blocks) in enumerate(models.STAGES):
        for block in range(blocks):
            layers.append(Block(channels, width, 2 if stage and not block else 1))
            channels = width * models.EXPANSION
    head = nn.Linear(channels, 1000)
    head.weight.data, head.bias.data = next(weights).T.contiguous(), next(weights)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
