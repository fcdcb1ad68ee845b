"""Memory comes back: a server that loads and unloads all day is as large in the evening as in the morning."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

Start = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model with 16 MB of weights."""
    weights = np.random.default_rng(0).random((2000, 2000), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2000])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 2000])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def resident_mb() -> float:
    """Resident memory of the workers of the server that this process started last."""
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    *_, server = (one for one in mine if b"serve_script" in Path(f"/proc/{one}/cmdline").read_bytes())
    workers = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    assert len(workers) == 2
    lines = [line for one in workers for line in Path(f"/proc/{one}/status").read_text().splitlines() if "VmRSS" in line]
    return sum(int(line.split()[1]) for line in lines) / 1024


@pytest.mark.slow
def test_fifty_loads_and_unloads_leave_no_memory_behind(large: Path, models: dict[str, Path], start: Start) -> None:
    row = json.dumps({"inputs": [{"name": "x", "shape": [1, 2000], "datatype": "FP32", "data": [1.0] * 2000}]})
    sizes = []
    with start(("two", 1, models["two"]), ("large", 1, large), workers=2) as url:
        parts = urllib.parse.urlsplit(url)

        def ask(path: str, body: str = "") -> int:
            with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
                connection.request("POST", path, body)
                answer = connection.getresponse()
                answer.read()
                return answer.status

        time.sleep(1)  # both workers have started
        loaded = resident_mb()
        for _ in range(50):
            assert ask("/v2/repository/models/large/unload") == 200
            sizes.append(resident_mb())
            assert ask("/v2/repository/models/large/load") == 200
            for _ in range(4):
                assert ask("/v2/models/large/infer", row) == 200
    assert sizes[0] < loaded - 20, "the weights of both workers came back"
    assert sizes[-1] < 1.1 * sizes[4], sizes
