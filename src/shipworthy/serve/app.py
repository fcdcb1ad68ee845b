"""The routes: Open Inference Protocol v2 over REST, as an ASGI application.

Every error is ``{"error": "…"}`` with the status of its class; what nobody foresaw is a short 500 for the caller and a
traceback for the log. Without a version in the URL the highest one served answers.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import metadata
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from shipworthy.errors import Failed, Refused, ShipworthyError, Unavailable
from shipworthy.protocols import Array
from shipworthy.serve import oip
from shipworthy.serve.batcher import Job
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.wording import sentence

LINGER_SECONDS = 1.0

log = logging.getLogger(__name__)


class TooLarge(Refused):
    """The body is above the limit. HTTP 413."""

    http_status = 413


class Unsupported(Refused):
    """The body is in an encoding that we do not read. HTTP 415."""

    http_status = 415


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as JSON."""
        return msgspec.json.encode(content)


class Closing(Json):
    """An error before the body was read: answer, let the caller see it, then close the connection.

    A socket closed while bytes still arrive is reset, and a caller that is busy sending never sees the answer; so
    what comes is read and dropped, for a second at most.
    """

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer at once and end it late."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def build(catalog: Catalog, body_limit_bytes: int) -> Starlette:
    """The application that serves what is in the catalog, with request bodies up to a limit."""
    endpoints = Endpoints(catalog, body_limit_bytes)
    model = "/v2/models/{name}"
    routes = [
        Route("/v2", endpoints.server),
        Route("/v2/", endpoints.server),
        Route("/v2/health/live", endpoints.is_live),
        Route("/v2/health/ready", endpoints.is_ready),
        Route("/v2/models", endpoints.list_models),
    ]
    for base in (model, model + "/versions/{version}"):
        routes += [
            Route(base, endpoints.model),
            Route(base + "/ready", endpoints.model_is_ready),
            Route(base + "/infer", endpoints.infer, methods=["POST"]),
        ]
    handlers: dict[Any, Any] = {
        ShipworthyError: _ours,
        HTTPException: _of_http,
        ClientDisconnect: _gone,
        Exception: _unforeseen,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class Endpoints:
    """One method a route."""

    def __init__(self, catalog: Catalog, body_limit_bytes: int) -> None:
        self._catalog = catalog
        self._body_limit_bytes = body_limit_bytes

    async def server(self, _request: Request) -> Response:
        """Server metadata."""
        return Json({"name": "shipworthy", "version": metadata.version("shipworthy"), "extensions": ["binary_tensor_data"]})

    async def is_live(self, _request: Request) -> Response:
        """Whether the process answers: it does."""
        return Json({"live": True})

    async def is_ready(self, _request: Request) -> Response:
        """Whether requests can be answered: the socket listens only once all models are loaded and warm."""
        return Json({"ready": True})

    async def list_models(self, _request: Request) -> Response:
        """The names of all models."""
        return Json({"models": self._catalog.names()})

    async def model(self, request: Request) -> Response:
        """Metadata of one model."""
        live = self._find(request)
        signature = live.runner.signature
        return Json(
            {
                "name": live.name,
                "versions": [str(one.version) for one in self._catalog.versions(live.name)],
                "platform": "onnxruntime_onnx",
                "inputs": [oip.describe(spec) for spec in signature.inputs],
                "outputs": [oip.describe(spec) for spec in signature.outputs],
                "properties": {"bundle": live.bundle} if live.bundle else {},
            }
        )

    async def model_is_ready(self, request: Request) -> Response:
        """Whether one model can answer."""
        return Json({"name": self._find(request).name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Answer one request that the fast lane left: chunked, pipelined, of an unusual client."""
        live = self._find(request)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Unsupported("compressed bodies are not read", found=encoding[:100], expected="a body as it is")
        body = await self._read(request)
        header_length = oip.read_length(request.headers.get(oip.LENGTH_HEADER), len(body))
        wanted = oip.parse(body, header_length, live.signature)
        answer, json_bytes = oip.answer(wanted, live.name, str(live.version), await _outputs(live, wanted))
        if json_bytes is None:
            return Response(answer, media_type="application/json")
        return Response(answer, media_type="application/octet-stream", headers={oip.LENGTH_HEADER: str(json_bytes)})

    def _find(self, request: Request) -> Live:
        return self._catalog.find(request.path_params["name"], request.path_params.get("version", ""))

    async def _read(self, request: Request) -> bytes:
        """The body; reading stops where it passes the limit, whatever its headers say."""
        limit = self._body_limit_bytes
        announced = request.headers.get("content-length", "0")
        chunks: list[bytes] = []
        size = int(announced) if announced.isdigit() else 0
        if size <= limit:
            size = 0
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
        if size > limit:
            raise TooLarge(
                f"the body is above the limit of {limit / 1e6:g} MB",
                next="send fewer rows a request, or raise body_limit_mb in [serve]",
            )
        return b"".join(chunks)


async def _outputs(live: Live, wanted: oip.Request) -> dict[str, Array]:
    """What the model gives, through its queue."""
    answered: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()

    def done(outputs: dict[str, Array] | None, error: ShipworthyError | None) -> None:
        if answered.done():
            return
        if outputs is None:
            answered.set_exception(error or Failed("the model gave no answer"))
        else:
            answered.set_result(outputs)

    job = Job(wanted.inputs, wanted.rows, done, wanted.deadline_ns(), wanted.priority)
    live.submit(job)
    try:
        return await answered
    except asyncio.CancelledError:
        job.cancelled = True
        raise


async def _ours(request: Request, error: ShipworthyError) -> Response:
    if isinstance(error, Failed):
        log.error("%s %s: %s", request.method, request.url.path, error)
    kind = Closing if isinstance(error, TooLarge | Unsupported) else Json
    headers = {"retry-after": "1"} if isinstance(error, Unavailable) else None
    return kind({"error": sentence(error)}, status_code=error.http_status, headers=headers)


async def _of_http(request: Request, error: HTTPException) -> Response:
    text = f"{error.detail}: {request.method} {request.url.path[:200]}"
    return Json({"error": text}, status_code=error.status_code, headers=error.headers)


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    """The caller hung up while sending: nobody reads this."""
    return Response(status_code=400)


async def _unforeseen(_request: Request, _error: Exception) -> Response:
    """Starlette raises the error again after this answer, and uvicorn writes its traceback to the log."""
    return Json({"error": "internal error: the server's log says more"}, status_code=500)
