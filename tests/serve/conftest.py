"""Small ONNX models, and a real server over them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shipworthy.serve import process

SCRIPT = Path(__file__).with_name("serve_script.py")
DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "str",
]


def _onnx_type(dtype: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(object if dtype == "str" else dtype))


def _save(path: Path, nodes: list, inputs: list, outputs: list, weights: tuple = ()) -> Path:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _identity(path: Path) -> Path:
    def values(prefix: str) -> list:
        return [helper.make_tensor_value_info(prefix + dtype, _onnx_type(dtype), [None, 2]) for dtype in DTYPES]

    nodes = [helper.make_node("Identity", ["in_" + dtype], ["out_" + dtype]) for dtype in DTYPES]
    return _save(path, nodes, values("in_"), values("out_"))


def _one_op(path: Path, op: str, names: list[str], dtype: str = "float32", width: int = 3) -> Path:
    kind = _onnx_type(dtype)
    inputs = [helper.make_tensor_value_info(name, kind, [None, width]) for name in names]
    return _save(path, [helper.make_node(op, names, ["y"])], inputs, [helper.make_tensor_value_info("y", kind, [None, width])])


def _slow(path: Path) -> Path:
    """Multiplies matrices of 600 x 600 as many times as its input says."""
    side = 600
    body = helper.make_graph(
        [helper.make_node("MatMul", ["before", "before"], ["after"]), helper.make_node("Identity", ["go_in"], ["go_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [side, side]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [side, side]),
        ],
    )
    matrix = helper.make_tensor("m", TensorProto.FLOAT, [side, side], np.eye(side, dtype=np.float32).ravel())
    scalar = helper.make_tensor("scalar", TensorProto.INT64, [0], [])
    sum_of = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Reshape", ["n", "scalar"], ["times"]),
        helper.make_node("Loop", ["times", "", "m"], ["last"], body=body),
        helper.make_node("ReduceSum", ["last", "axes"], ["y"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("n", TensorProto.INT64, [1])]
    return _save(path, nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [side])], (matrix, scalar, sum_of))


def _linear(path: Path) -> Path:
    """Scores = x W, label = arg max: as a small classifier."""
    weights = np.random.default_rng(3).normal(size=(16, 5)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 5]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 16])]
    return _save(path, nodes, inputs, outputs, (helper.make_tensor("w", TensorProto.FLOAT, [16, 5], weights.ravel()),))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "identity": _identity(folder / "identity.onnx"),
        "linear": _linear(folder / "linear.onnx"),
        "log": _one_op(folder / "log.onnx", "Log", ["x"]),
        "half": _one_op(folder / "half.onnx", "Identity", ["x"], "float16"),
        "text": _one_op(folder / "text.onnx", "Identity", ["x"], "str", 1),
        "slow": _slow(folder / "slow.onnx"),
        "two": _one_op(folder / "two.onnx", "Add", ["a", "b"]),
    }


Command = Callable[..., list[str]]


@pytest.fixture(scope="session")
def command() -> Command:
    """The command of a server of (name, version, path)s with settings."""

    def build(*served: tuple[str, int, Path], **settings: object) -> list[str]:
        plain = {
            "models": [(name, version, str(path)) for name, version, path in served],
            "settings": {"port": 0, "grpc_port": 0} | settings,
        }
        return [sys.executable, str(SCRIPT), json.dumps(plain)]

    return build


@pytest.fixture(scope="session")
def start(command: Command) -> Callable[..., AbstractContextManager[str]]:
    def begin(*served: tuple[str, int, Path], **settings: object) -> AbstractContextManager[str]:
        return process.running(command(*served, **settings), 30)

    return begin


@pytest.fixture(scope="module")
def url(models: dict[str, Path], start: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """A server of all models as version 1, of 'two' also as 12 and 3, with a body limit of 1 MB."""
    served = [(name, 1, path) for name, path in models.items()]
    with start(*served, ("two", 12, models["two"]), ("two", 3, models["two"]), body_limit_mb=1.0) as address:
        yield address
