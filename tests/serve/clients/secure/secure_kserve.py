"""kserve's clients over mutual TLS with a key, REST and gRPC: ``python secure_kserve.py JSON``; see ``secure_triton.py``."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

GIVEN = json.loads(sys.argv[1])
KEY = f"Bearer {GIVEN['token']}"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def request(model: str = "two", names: str = "ab") -> InferRequest:
    inputs = [InferInput(name, list(ROWS.shape), "FP32") for name in names]
    for one in inputs:
        one.set_data_from_numpy(ROWS, binary_data=False)
    return InferRequest(model_name=model, infer_inputs=inputs)


async def refused(answer: Awaitable[object]) -> Exception:
    """The error that a call ends with."""
    try:
        await answer
    except Exception as error:  # noqa: BLE001  httpx's or grpc's
        return error
    raise AssertionError("the call was answered")


async def check_rest() -> None:
    url = f"https://{GIVEN['http']}"
    context = ssl.create_default_context(cafile=GIVEN["cert"])
    context.load_cert_chain(GIVEN["cert"], GIVEN["key"])
    client = InferenceRESTClient(RESTConfig(protocol="v2", verify=context))
    assert await client.is_server_live(url)
    answer = await client.infer(url, request(), model_name="two", headers={"authorization": KEY})
    assert (answer.outputs[0].as_numpy() == 2 * ROWS).all()
    assert await client.is_model_ready(url, "two", headers={"authorization": KEY})
    assert "401" in str(await refused(client.infer(url, request(), model_name="two")))
    forbidden = client.infer(url, request("linear", "x"), model_name="linear", headers={"authorization": KEY})
    assert "403" in str(await refused(forbidden))
    await client.close()


async def check_grpc() -> None:
    files = {"root_certificates": GIVEN["cert"], "private_key": GIVEN["key"], "certificate_chain": GIVEN["cert"]}
    async with InferenceGRPCClient(GIVEN["grpc"], use_ssl=True, **files) as client:
        assert await client.is_server_live()
        answer = await client.infer(request(), headers=[("authorization", KEY)])
        assert (answer.outputs[0].as_numpy() == 2 * ROWS).all()
        unknown = await refused(client.infer(request()))
        assert isinstance(unknown, grpc.RpcError)
        assert unknown.code() is grpc.StatusCode.UNAUTHENTICATED
        forbidden = await refused(client.infer(request("linear", "x"), headers=[("authorization", KEY)]))
        assert isinstance(forbidden, grpc.RpcError)
        assert forbidden.code() is grpc.StatusCode.PERMISSION_DENIED


asyncio.run(check_rest())
asyncio.run(check_grpc())
