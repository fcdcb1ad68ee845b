"""What several folders of tests need: a small trained model with its rows, and ONNX files built node by node."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy import check
from shipworthy.backends import nvml
from shipworthy.data import Dataset
from shipworthy.records import Model

from .backends.nvml_fake import Cuda, Driver

TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "str": TensorProto.STRING,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
}
Spec = tuple[str, str, list[int | None]]


@dataclass(frozen=True)
class Digits:
    """A pipeline of a scaler and a small MLP: its file, what intake made of it, rows to train and to judge on."""

    file: Path
    model: Model
    train: Dataset
    evaluation: Dataset


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    import joblib  # noqa: PLC0415 - only the tests that use this fixture pay for it
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import MinMaxScaler  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("digits")
    rows, labels = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged: it need not
        pipeline = make_pipeline(MinMaxScaler(), MLPClassifier((64,), max_iter=20, random_state=0)).fit(
            rows[400:], labels[400:]
        )
    joblib.dump(pipeline, folder / "model.joblib")
    return Digits(
        file=folder / "model.joblib",
        model=check.take_in(folder / "model.joblib", "digits", folder / "models", trust=True),
        train=Dataset("train", "t" * 64, {"X": rows[400:]}),
        evaluation=Dataset("evaluation", "e" * 64, {"X": rows[:400]}, labels[:400]),
    )


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[Spec],
    outputs: list[Spec],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 21,
    ir_version: int = 10,
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """An ONNX model of these nodes; inputs and outputs as (name, dtype, shape)."""
    given, taken = ([helper.make_tensor_value_info(n, TYPES[t], s) for n, t, s in specs] for specs in (inputs, outputs))
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", given, taken, initializers)
    imports = [helper.make_opsetid(domain, version) for domain, version in ({"": opset} | (domains or {})).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., onnx.ModelProto]:
    return build


@pytest.fixture
def taken(tmp_path: Path) -> Callable[..., Model]:
    """Build a model as ``onnx_model`` does and take it in."""

    def take(*arguments: object, **options: object) -> Model:
        path = tmp_path / "built.onnx"
        path.write_bytes(build(*arguments, **options).SerializeToString())
        return check.take_in(path, "built", tmp_path / "models")

    return take


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Two GPUs that are not there."""
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Cuda())
    nvml._driver.cache_clear()
    yield made
    nvml._driver.cache_clear()
