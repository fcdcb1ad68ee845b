"""tritonclient[http], plain and asyncio, against a server of the models in tests/serve/conftest.py: ``… HOST:PORT``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import tritonclient.http as client
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

DTYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]


def tensor(name: str, array: np.ndarray, *, binary: bool, kind: Any = client.InferInput) -> Any:
    made = kind(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def check_server(server: client.InferenceServerClient) -> None:
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("two")
    assert server.is_model_ready("two", "12")
    assert not server.is_model_ready("nobody")
    assert server.get_server_metadata()["name"] == "shipworthy"
    assert server.get_model_metadata("linear")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]
    assert server.get_model_config("linear")["max_batch_size"] > 0
    assert {"name": "two", "version": "12", "state": "READY", "reason": ""} in server.get_model_repository_index()


def check_infer(server: client.InferenceServerClient) -> None:
    generator = np.random.default_rng(0)
    arrays = {f"in_{dtype}": generator.integers(0, 2, (3, 2)).astype(dtype) for dtype in DTYPES}
    arrays["in_float16"] = generator.random((3, 2)).astype(np.float16)
    arrays["in_str"] = np.array([["a", ""], ["é", "b\n"], ["日本", "c"]], dtype=object)
    for binary in (True, False):
        inputs = [tensor(name, one, binary=binary or name == "in_float16") for name, one in arrays.items()]
        outputs = [
            client.InferRequestedOutput(f"out_{name[3:]}", binary_data=binary or name == "in_float16") for name in arrays
        ]
        answer = server.infer("identity", inputs, outputs=outputs, request_id="x-1")
        assert answer.get_response()["id"] == "x-1"
        for name, array in arrays.items():
            got = answer.as_numpy(f"out_{name[3:]}")
            if name == "in_str":
                got = np.array([[text.decode() if isinstance(text, bytes) else text for text in row] for row in got], object)
            np.testing.assert_array_equal(got, array)


def check_versions_compression_and_errors(server: client.InferenceServerClient) -> None:
    pair = [tensor(name, np.ones((400, 3), np.float32), binary=True) for name in "ab"]
    for squeeze in (None, "gzip", "deflate"):
        answer = server.infer(
            "two", pair, model_version="3", request_compression_algorithm=squeeze, response_compression_algorithm=squeeze
        )
        assert answer.get_response()["model_version"] == "3"
        assert (answer.as_numpy("y") == 2).all()
    assert server.infer("two", pair, priority=1, timeout=60_000_000).get_response()["model_version"] == "12"
    raw = np.arange(16, dtype=np.float32)
    assert server.infer("linear", [tensor("x", raw[None], binary=True)]).as_numpy("scores").shape == (1, 5)
    for call, part in (
        (lambda: server.infer("nobody", pair), "nobody"),
        (lambda: server.infer("two", pair[:1]), "inputs are not those of the model"),
        (lambda: server.infer("two", pair, outputs=[client.InferRequestedOutput("z")]), "'z' does not exist"),
    ):
        try:
            call()
        except InferenceServerException as error:
            if part not in error.message():
                raise
        else:
            raise AssertionError(part)
    answers = [server.async_infer("two", pair) for _ in range(20)]
    assert all((one.get_result().as_numpy("y") == 2).all() for one in answers)


def check_operations(server: client.InferenceServerClient) -> None:
    def success() -> int:
        (one,) = server.get_inference_statistics("two", "12")["model_stats"]
        return int(one["inference_stats"]["success"]["count"])

    pair = [tensor(name, np.ones((1, 3), np.float32), binary=True) for name in "ab"]
    before = success()
    for _ in range(3):
        server.infer("two", pair)
    assert success() == before + 3
    assert {one["name"] for one in server.get_inference_statistics()["model_stats"]} >= {"two", "linear"}
    server.unload_model("half")
    assert not server.is_model_ready("half")
    states = {one["name"]: one["state"] for one in server.get_model_repository_index()}
    assert (states["half"], states["two"]) == ("UNAVAILABLE", "READY")
    server.load_model("half")
    assert server.is_model_ready("half")


async def check_aio(address: str) -> None:
    async with aio.InferenceServerClient(address) as server:
        assert await server.is_server_ready()
        pair = [tensor(name, np.ones((1, 3), np.float32), binary=True, kind=aio.InferInput) for name in "ab"]
        answers = await asyncio.gather(*(server.infer("two", pair) for _ in range(50)))
        assert all((one.as_numpy("y") == 2).all() for one in answers)


with client.InferenceServerClient(sys.argv[1], concurrency=8) as plain:
    check_server(plain)
    check_infer(plain)
    check_versions_compression_and_errors(plain)
    check_operations(plain)
asyncio.run(check_aio(sys.argv[1]))
