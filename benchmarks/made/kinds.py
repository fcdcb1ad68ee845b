"""Made models, one of each kind of network that people serve, with random weights: their memory does not depend on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier

from shipworthy import check

Shape = tuple[int | str | None, ...]


class Network:
    """Nodes and weights as they are added; every method gives the name of its output."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """A node of any kind; the name of its first output."""
        names = [f"{kind.lower()}{len(self._nodes)}_{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def weight(self, *shape: int) -> str:
        """Random values, small ones."""
        values = (0.05 * self._random.standard_normal(shape)).astype(np.float32)
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        """An initializer."""
        self._weights.append(numpy_helper.from_array(values, name := f"w{len(self._weights)}"))
        return name

    def dense(self, x: str, taken: int, given: int) -> str:
        """A matrix product and a bias, as exporters write it where rows have more than one axis."""
        return self.add("Add", self.add("MatMul", x, self.weight(taken, given)), self.weight(given))

    def conv(self, x: str, taken: int, given: int, side: int, *, stride: int = 1, groups: int = 1) -> str:
        """A convolution that keeps height and width but for the stride, and its ReLU."""
        weights = [self.weight(given, taken // groups, side, side), self.weight(given)]
        pads = [side // 2] * 4
        return self.add("Relu", self.add("Conv", x, *weights, strides=[stride] * 2, pads=pads, group=groups))

    def build(self, given: Shape, result: str, taken: Shape) -> onnx.ModelProto:
        """The model, from ``x`` to ``y``."""
        self._nodes.append(helper.make_node("Identity", [result], ["y"]))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, given)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, taken)
        graph = helper.make_graph(self._nodes, "made", [x], [y], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mlp() -> onnx.ModelProto:
    """Five layers of 2048 by Gemm: weights, and hardly anything else."""
    net, x, taken = Network(), "x", 1024
    for given in (2048, 2048, 2048, 2048):
        x = net.add("Relu", net.add("Gemm", x, net.weight(taken, given), net.weight(given)))
        taken = given
    return net.build((None, 1024), net.add("Gemm", x, net.weight(taken, 1000), net.weight(1000)), (None, 1000))


def cnn() -> onnx.ModelProto:
    """Plain 3x3 convolutions at 128x128: activations, and hardly any weights."""
    net, x, taken = Network(), "x", 3
    for given, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x, taken = net.conv(x, taken, given, 3, stride=stride), given
    return net.build((None, 3, 128, 128), net.add("Flatten", net.add("GlobalAveragePool", x)), (None, 128))


def depthwise() -> onnx.ModelProto:
    """Inverted residuals of depthwise convolutions at 112x112, as MobileNet."""
    net = Network()
    x, taken = net.conv("x", 3, 32, 3, stride=2), 32
    for given, stride, repeats in ((32, 1, 1), (64, 2, 2), (96, 2, 3), (160, 2, 3), (320, 2, 2)):
        for block in range(repeats):
            wide = net.conv(x, taken, 6 * taken, 1)
            deep = net.conv(wide, 6 * taken, 6 * taken, 3, stride=stride if block == 0 else 1, groups=6 * taken)
            y = net.add("Conv", deep, net.weight(given, 6 * taken, 1, 1), net.weight(given))
            x = net.add("Add", x, y) if taken == given and (block or stride == 1) else y
            taken = given
    return net.build((None, 3, 224, 224), net.add("Flatten", net.add("GlobalAveragePool", x)), (None, 320))


def transformer(blocks: int = 4, width: int = 384, heads: int = 6, words: int = 128) -> onnx.ModelProto:
    """Blocks of attention and two dense layers over 128 tokens, as an exporter writes them."""
    net, x, head = Network(), "x", width // heads
    split, joined = net.constant(np.int64([0, words, heads, head])), net.constant(np.int64([0, words, width]))
    scale = net.constant(np.float32(head**-0.5))
    for _ in range(blocks):
        normal = net.add("LayerNormalization", x, net.weight(width), net.weight(width), axis=-1)
        query, key, value = (
            net.add("Transpose", net.add("Reshape", net.dense(normal, width, width), split), perm=perm)
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = net.add("Softmax", net.add("Mul", net.add("MatMul", query, key), scale), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
        x = net.add("Add", x, net.dense(net.add("Reshape", mixed, joined), width, width))
        normal = net.add("LayerNormalization", x, net.weight(width), net.weight(width), axis=-1)
        wide = net.dense(normal, width, 4 * width)
        curve = net.add("Erf", net.add("Div", wide, net.constant(np.float32(2**0.5))))
        bent = net.add("Mul", wide, net.add("Add", curve, net.constant(np.float32(1))))
        x = net.add("Add", x, net.dense(net.add("Mul", bent, net.constant(np.float32(0.5))), 4 * width, width))
    return net.build((None, words, width), x, (None, words, width))


def lstm() -> onnx.ModelProto:
    """Two layers of LSTM over 100 steps, 512 wide."""
    net, taken, wide = Network(), 128, 512
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    for _ in range(2):
        weights = [net.weight(1, 4 * wide, taken), net.weight(1, 4 * wide, wide), net.weight(1, 8 * wide)]
        x = net.add("Squeeze", net.add("LSTM", x, *weights, hidden_size=wide), net.constant(np.int64([1])))
        taken = wide
    return net.build((None, 100, 128), net.add("Transpose", x, perm=[1, 0, 2]), (None, 100, wide))


def forest() -> onnx.ModelProto:
    """A random forest of 200 trees, as scikit-learn's converter writes it."""
    rows, labels = _table()
    return _converted(RandomForestClassifier(200, random_state=0).fit(rows, labels > 0))


def trees() -> onnx.ModelProto:
    """100 trees of a regression, deeper ones."""
    return _converted(ExtraTreesRegressor(100, random_state=0).fit(*_table()))


def _table() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    rows = random.standard_normal((4000, 20)).astype(np.float32)
    return rows, rows[:, :5].sum(axis=1) + random.standard_normal(4000)


def _converted(estimator: object) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        joblib.dump(estimator, folder / "trees.joblib")
        return onnx.load(check.take_in(folder / "trees.joblib", "trees", folder, trust=True).path)


def _named(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    """The same with a name for the batch dimension, as exporters of PyTorch write it: then kernels work in place."""

    def named() -> onnx.ModelProto:
        model = make()
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        return model

    return named


MAKERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": mlp,
    "cnn": cnn,
    "depthwise": depthwise,
    "transformer": transformer,
    "transformer, named batch": _named(transformer),
    "lstm": lstm,
    "forest": forest,
    "trees": trees,
}
