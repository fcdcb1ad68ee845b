"""tritonclient over mutual TLS with a key, HTTP and gRPC, plain and asyncio: ``python secure_triton.py JSON``.

The JSON has the addresses ``http`` and ``grpc``, the files ``cert`` and ``key`` (of both ends, and who vouches for them),
and ``token``, a key that may use the model "two" and not the model "linear".
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.utils import InferenceServerException

GIVEN = json.loads(sys.argv[1])
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def headers() -> dict[str, str]:
    """A fresh dictionary: the client over HTTP writes into it."""
    return {"authorization": f"Bearer {GIVEN['token']}"}


def tensors(kind: Any, names: str = "ab") -> list[Any]:
    made = [kind(name, list(ROWS.shape), "FP32") for name in names]
    for one in made:
        one.set_data_from_numpy(ROWS)
    return made


def refused(call: Callable[[], object]) -> str:
    """What a call that ends with an error says."""
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    raise AssertionError("the call was answered")


def check(server: Any, kind: Any, unknown: str, forbidden: str) -> None:
    """Health needs no key; a model needs one that may use it."""
    assert server.is_server_live()
    assert server.is_server_ready()
    assert (server.infer("two", tensors(kind), headers=headers()).as_numpy("y") == 2 * ROWS).all()
    assert server.get_model_metadata("two", headers=headers())
    for other in (None, {"authorization": "Bearer wrong"}):
        said = refused(lambda other=other: server.infer("two", tensors(kind), headers=other))
        assert unknown in said, said
    said = refused(lambda: server.infer("linear", tensors(kind, "x"), headers=headers()))
    assert forbidden in said, said
    assert (server.infer("two", tensors(kind), headers=headers()).as_numpy("y") == 2 * ROWS).all()


def check_stream(server: over_grpc.InferenceServerClient) -> None:
    answers: list[Any] = []
    server.start_stream(lambda result, error: answers.append((result, error)), headers=headers())
    server.async_stream_infer("two", tensors(over_grpc.InferInput))
    server.stop_stream()
    ((result, error),) = answers
    assert error is None
    assert (result.as_numpy("y") == 2 * ROWS).all()


def check_http() -> None:
    files = {"ca_certs": GIVEN["cert"], "certfile": GIVEN["cert"], "keyfile": GIVEN["key"]}
    with over_http.InferenceServerClient(GIVEN["http"], ssl=True, ssl_options=files) as server:
        check(server, over_http.InferInput, "401", "403")
    strange = {"ca_certs": GIVEN["cert"]}
    with over_http.InferenceServerClient(GIVEN["http"], ssl=True, ssl_options=strange) as server:
        try:
            server.is_server_live()
        except (OSError, HTTPConnectionClosed) as error:
            print(error)  # noqa: T201
        else:
            raise AssertionError("answered without a certificate")


def check_grpc() -> None:
    files = {"root_certificates": GIVEN["cert"], "private_key": GIVEN["key"], "certificate_chain": GIVEN["cert"]}
    with over_grpc.InferenceServerClient(GIVEN["grpc"], ssl=True, **files) as server:
        check(server, over_grpc.InferInput, "UNAUTHENTICATED", "PERMISSION_DENIED")
        check_stream(server)
    with over_grpc.InferenceServerClient(GIVEN["grpc"], ssl=True, root_certificates=GIVEN["cert"]) as server:
        assert "UNAVAILABLE" in refused(lambda: server.is_server_live(client_timeout=10))


async def check_aio() -> None:
    context = ssl.create_default_context(cafile=GIVEN["cert"])
    context.load_cert_chain(GIVEN["cert"], GIVEN["key"])
    async with over_http_aio.InferenceServerClient(GIVEN["http"], ssl=True, ssl_context=context) as server:
        answer = await server.infer("two", tensors(over_http_aio.InferInput), headers=headers())
        assert (answer.as_numpy("y") == 2 * ROWS).all()
    files = {"root_certificates": GIVEN["cert"], "private_key": GIVEN["key"], "certificate_chain": GIVEN["cert"]}
    async with over_grpc_aio.InferenceServerClient(GIVEN["grpc"], ssl=True, **files) as server:
        answer = await server.infer("two", tensors(over_grpc_aio.InferInput), headers=headers())
        assert (answer.as_numpy("y") == 2 * ROWS).all()


check_http()
check_grpc()
asyncio.run(check_aio())
