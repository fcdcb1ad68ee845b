"""kserve's gRPC client against a server of the models in tests/serve/conftest.py: ``python kserve_grpc.py HOST:PORT``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def refused(answer: Awaitable[object]) -> grpc.RpcError:
    """The error that a call ends with."""
    try:
        await answer
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


async def check(url: str) -> None:
    async with InferenceGRPCClient(url) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("linear")
        assert not await client.is_model_ready("nobody")
        rows = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
        for binary in (False, True):
            inputs = [InferInput(name, [3, 3], "FP32") for name in ("a", "b")]
            for one in inputs:
                one.set_data_from_numpy(rows, binary_data=binary)
            answer = await client.infer(InferRequest("two", inputs, request_id="k-1"))
            assert answer.id == "k-1"
            assert answer.model_version == "12"
            assert (answer.outputs[0].as_numpy() == 2 * rows).all()
        text = InferInput("x", [2, 1], "BYTES")
        text.set_data_from_numpy(np.array([["é"], ["b"]], dtype=object), binary_data=False)
        answer = await client.infer(InferRequest("text", [text]))
        assert answer.outputs[0].as_numpy().ravel().tolist() == ["é".encode(), b"b"]
        error = await refused(client.infer(InferRequest("linear", inputs)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error


if __name__ == "__main__":
    asyncio.run(check(sys.argv[1]))
