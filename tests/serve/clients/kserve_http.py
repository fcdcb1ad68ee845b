"""kserve's REST client, protocol v2, against a server of the models in tests/serve/conftest.py: ``… HOST:PORT``."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

URL = f"http://{sys.argv[1]}"


def request(*, binary: bool) -> InferRequest:
    inputs = []
    for name in "ab":
        one = InferInput(name, [2, 3], "FP32")
        one.set_data_from_numpy(np.ones((2, 3), np.float32), binary_data=binary)
        inputs.append(one)
    return InferRequest(model_name="two", infer_inputs=inputs, request_id="7")


async def main() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(URL)
    assert await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "two")
    for binary in (False, True):
        answer = await client.infer(URL, request(binary=binary), model_name="two")
        (output,) = answer.outputs
        assert answer.id == "7"
        assert np.array_equal(output.as_numpy(), np.full((2, 3), 2, np.float32))
    try:
        await client.infer(URL, request(binary=False), model_name="nobody")
    except Exception as error:  # noqa: BLE001  httpx's, which this script does not import
        assert "404" in str(error)  # noqa: PT017
    else:
        raise AssertionError("nobody")
    await client.close()


asyncio.run(main())
