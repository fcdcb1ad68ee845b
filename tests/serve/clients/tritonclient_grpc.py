"""tritonclient[grpc] against a server of the models in tests/serve/conftest.py: ``python tritonclient_grpc.py HOST:PORT``."""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import Callable

import numpy as np
import tritonclient.grpc as client
from tritonclient.grpc import aio
from tritonclient.utils import np_to_triton_dtype

DTYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def tensor(name: str, array: np.ndarray, kind: type = client.InferInput) -> client.InferInput:
    made = kind(name, array.shape, np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def refused(call: Callable[[], object]) -> client.InferenceServerException:
    """The error that a call ends with."""
    try:
        call()
    except client.InferenceServerException as error:
        return error
    raise AssertionError("the call was answered")


def check_server(server: client.InferenceServerClient) -> None:
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("two")
    assert server.is_model_ready("two", "12")
    assert not server.is_model_ready("two", "2")
    assert not server.is_model_ready("nobody")
    assert server.get_server_metadata().name == "shipworthy"
    metadata = server.get_model_metadata("linear")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 16])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("label", "INT64", [-1]),
        ("scores", "FP32", [-1, 5]),
    ]
    assert list(server.get_model_metadata("two").versions) == ["1", "3", "12"]
    config = server.get_model_config("linear").config
    assert config.max_batch_size > 0
    assert [(one.name, list(one.dims)) for one in config.input] == [("x", [16])]
    index = {(one.name, one.version): one.state for one in server.get_model_repository_index().models}
    assert index["two", "12"] == "READY"


def check_infer(server: client.InferenceServerClient) -> None:
    generator = np.random.default_rng(0)
    arrays = {f"in_{dtype}": generator.integers(0, 2, (3, 2)).astype(dtype) for dtype in DTYPES}
    arrays["in_str"] = np.array([["a", ""], ["é", "b\n"], ["日本", "c"]], dtype=object)
    answer = server.infer("identity", [tensor(name, array) for name, array in arrays.items()], request_id="x-1")
    assert answer.get_response().id == "x-1"
    for name, array in arrays.items():
        out = answer.as_numpy(name.replace("in_", "out_"))
        if array.dtype == object:
            out = np.array([[text.decode() for text in row] for row in out], dtype=object)
        assert out.dtype == array.dtype, name
        assert (out == array).all(), name
    rows = generator.normal(size=(4, 16)).astype("float32")
    some = server.infer(
        "linear", [tensor("x", rows)], outputs=[client.InferRequestedOutput("label")], priority=1, timeout=10**7
    )
    assert [output.name for output in some.get_response().outputs] == ["label"]
    for version, expected in (("3", "3"), ("", "12")):
        two = [tensor("a", rows[:, :3]), tensor("b", rows[:, 3:6])]
        answer = server.infer("two", two, model_version=version)
        assert answer.get_response().model_version == expected
        assert (answer.as_numpy("y") == rows[:, :3] + rows[:, 3:6]).all()
    before = server.get_inference_statistics("linear", "1").model_stats[0]
    for n in range(1, 5):
        assert server.infer("linear", [tensor("x", rows[:n])]).as_numpy("scores").shape == (n, 5)
    after = server.get_inference_statistics("linear", "1").model_stats[0]
    assert after.inference_count - before.inference_count == 10
    assert after.inference_stats.success.count - before.inference_stats.success.count == 4


def check_errors(server: client.InferenceServerClient) -> None:
    x = tensor("x", np.zeros((1, 16), "float32"))
    wrong = tensor("x", np.zeros((1, 15), "float32"))
    for status, words, call in (
        ("NOT_FOUND", "nobody", lambda: server.infer("nobody", [x])),
        ("NOT_FOUND", "'2'", lambda: server.infer("linear", [x], model_version="2")),
        ("NOT_FOUND", "nobody", lambda: server.get_model_metadata("nobody")),
        ("INVALID_ARGUMENT", "FP32 [1, 15]", lambda: server.infer("linear", [wrong])),
        ("INVALID_ARGUMENT", "'z'", lambda: server.infer("linear", [x], outputs=[client.InferRequestedOutput("z")])),
        ("UNIMPLEMENTED", "shared memory", server.get_system_shared_memory_status),
    ):
        error = refused(call)
        assert error.status() == f"StatusCode.{status}", error
        assert words in error.message(), error


def check_operations(server: client.InferenceServerClient) -> None:
    server.unload_model("log", unload_dependents=True)
    assert not server.is_model_ready("log")
    index = {one.name: (one.state, one.reason) for one in server.get_model_repository_index().models}
    assert index["log"] == ("UNAVAILABLE", "unloaded")
    server.load_model("log")
    assert server.is_model_ready("log")
    for call, status, words in (
        (lambda: server.load_model("nobody"), "NOT_FOUND", "nobody"),
        (lambda: server.unload_model("nobody"), "NOT_FOUND", "nobody"),
        (lambda: server.load_model("log", config="{}"), "INVALID_ARGUMENT", "config"),
    ):
        error = refused(call)
        assert error.status() == f"StatusCode.{status}", error
        assert words in error.message(), error


def check_stream(server: client.InferenceServerClient) -> None:
    answers: queue.Queue = queue.Queue()
    server.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(1, 6):
        model = "linear" if n != 3 else "nobody"
        server.async_stream_infer(
            model, [tensor("x", np.ones((n, 16), "float32"))], request_id=str(n), enable_empty_final_response=n == 5
        )
    for n in range(1, 6):
        result, error = answers.get(timeout=20)
        if n == 3:
            assert "nobody" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(n)
        assert result.as_numpy("scores").shape == (n, 5)
        assert ("triton_final_response" in result.get_response().parameters) == (n == 5)
    server.stop_stream()


async def check_aio(url: str) -> None:
    async with aio.InferenceServerClient(url) as server:
        assert await server.is_server_ready()
        tensors = [[tensor("x", np.full((n, 16), n, "float32"), aio.InferInput)] for n in range(1, 33)]
        answers = await asyncio.gather(*[server.infer("linear", one) for one in tensors])
        first = answers[0].as_numpy("scores")[0]
        for n, answer in enumerate(answers, 1):
            assert np.allclose(answer.as_numpy("scores"), n * np.tile(first, (n, 1)), rtol=1e-4)

        async def requests():
            for one in tensors[:3]:
                yield {"model_name": "linear", "inputs": one}

        shapes = []
        async for result, error in server.stream_infer(requests()):
            assert error is None
            shapes.append(result.as_numpy("scores").shape)
        assert shapes == [(1, 5), (2, 5), (3, 5)]


def main(url: str) -> None:
    with client.InferenceServerClient(url) as server:
        for check in (check_server, check_infer, check_errors, check_operations, check_stream):
            check(server)
    asyncio.run(check_aio(url))


if __name__ == "__main__":
    main(sys.argv[1])
