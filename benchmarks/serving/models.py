"""The models that are served: digits as trained, its INT8 variant, and the architecture of ResNet-50."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.wires import Names, Row

ROOT = Path(__file__).resolve().parents[2]
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
EXPANSION = 4


@dataclass(frozen=True)
class Model:
    """A file, its names, different rows for it, and how far an answer may lie from onnxruntime's."""

    path: Path
    names: Names
    rows: list[Row]
    tolerance: float


def digits(folder: Path) -> dict[str, Model]:
    """The digits example as ``light`` and its statically quantized variant as ``int8``; made where they are missing.

    ``long`` is ``light`` asked with numbers of full length (``5.4308247566``), as scaled features have them: pixels are whole
    numbers (``5.0``), the shortest JSON there is.
    """
    paths = {case: folder / f"{name}.onnx" for case, name in (("light", "digits"), ("int8", "digits_int8"))}
    if not all(path.exists() for path in paths.values()):
        made = folder / "variants"
        where = [str(ROOT / "examples" / "digits"), "--output", str(made), "--workspace", str(folder / "workspace")]
        subprocess.run([sys.executable, "-m", "shipworthy", "optimize", *where], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(made / "digits-original.onnx", paths["light"])
        shutil.copy(made / "digits-int8_static.onnx", paths["int8"])
    pixels = np.random.default_rng(0).integers(0, 17, (64, 1, 64)).astype(np.float32)
    paths["long"], shades = paths["light"], (16 * np.random.default_rng(0).random(pixels.shape)).astype(np.float32)
    return {
        case: Model(path, Names(path.stem, "X", "probabilities"), list(shades if case == "long" else pixels), tolerance=1e-4)
        for case, path in paths.items()
    }


def resnet50(folder: Path) -> Model:
    """ResNet-50 with random weights, batch norms folded, free batch: 25.5 million parameters, 102 MB."""
    path = folder / "resnet50.onnx"
    if not path.exists():
        onnx.save(_Network().build(), path)
    images = np.random.default_rng(1).standard_normal((4, 1, 3, 224, 224)).astype(np.float32)
    return Model(path, Names("resnet50", "image", "logits"), list(images), tolerance=1e-3)


class _Network:
    """Nodes and weights as they are added; every method gives the name of its output."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        x = self._add("Relu", self._conv("image", 3, 64, 7, stride=2))
        x = self._add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = 64
        for stage, (width, blocks) in enumerate(STAGES):
            for block in range(blocks):
                x = self._block(x, channels, width, stride=2 if stage and not block else 1)
                channels = width * EXPANSION
        x = self._add("Flatten", self._add("GlobalAveragePool", x))
        weights = [self._weight((channels, 1000), channels), self._weight((1000,), channels)]
        self._nodes.append(helper.make_node("Gemm", [x, *weights], ["logits"]))
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 3, 224, 224])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 1000])
        graph = helper.make_graph(self._nodes, "resnet50", [image], [logits], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _block(self, x: str, channels: int, width: int, stride: int) -> str:
        """A bottleneck: 1x1, 3x3 (with the stride), 1x1, and the way past them."""
        out = width * EXPANSION
        y = self._add("Relu", self._conv(x, channels, width, 1))
        y = self._add("Relu", self._conv(y, width, width, 3, stride=stride))
        y = self._conv(y, width, out, 1, gain=0.25)
        past = x if channels == out else self._conv(x, channels, out, 1, stride=stride)
        self._nodes.append(helper.make_node("Add", [y, past], [name := f"sum{len(self._nodes)}"]))
        return self._add("Relu", name)

    def _conv(self, x: str, channels: int, out: int, side: int, *, stride: int = 1, gain: float = 1.0) -> str:
        fan_in = channels * side * side
        weights = [self._weight((out, channels, side, side), fan_in, gain), self._weight((out,), fan_in, gain)]
        pads = [side // 2] * 4
        self._nodes.append(
            helper.make_node("Conv", [x, *weights], [name := f"conv{len(self._nodes)}"], strides=[stride] * 2, pads=pads)
        )
        return name

    def _weight(self, shape: tuple[int, ...], fan_in: int, gain: float = 1.0) -> str:
        """Random values whose scale keeps activations near 1 through all layers."""
        values = self._random.standard_normal(shape).astype(np.float32) * np.float32(gain * np.sqrt(2 / fan_in))
        self._weights.append(numpy_helper.from_array(values, name := f"w{len(self._weights)}"))
        return name

    def _add(self, kind: str, x: str, **attributes: list[int]) -> str:
        self._nodes.append(helper.make_node(kind, [x], [name := f"{kind.lower()}{len(self._nodes)}"], **attributes))
        return name
