"""The routes of the Open Inference Protocol v2 over REST, as an ASGI application; those of TensorFlow Serving beside them.

Every error is ``{"error": "…"}`` with the status of its class; what nobody foresaw is a short 500 for the caller and a
traceback for the log. Without a version in the URL the highest one served answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib import metadata

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shipworthy.protocols import Arrays
from shipworthy.serve import app_tfs, docs, extensions, metrics, oip, openapi
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.exchange import HANDLERS, Json, ask, read, written
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.gpu import Gpus
from shipworthy.serve.statistics import V2_REST

VERSION = metadata.version("shipworthy")


def build(
    catalog: Catalog, fleet: Fleet, body_limit_bytes: int, grpc_port: int = 0, is_ready: Callable[[], bool] = lambda: True
) -> Starlette:
    """The application that serves what is in the catalog.

    Args:
        catalog: what this worker serves; looked at with every request.
        fleet: all workers: what they have counted, and what they are to serve.
        body_limit_bytes: of a request, as it is sent and as it is when it was compressed.
        grpc_port: told to readers of /docs; 0: there is none.
        is_ready: whether new requests are welcome, which readiness says; they are answered in any case.
    """
    endpoints = Endpoints(catalog, fleet, body_limit_bytes, grpc_port, is_ready)
    model = "/v2/models/{name}"
    routes = [
        Route("/v2", endpoints.server),
        Route("/v2/", endpoints.server),
        Route("/v2/health/live", endpoints.is_live),
        Route("/v2/health/ready", endpoints.is_ready),
        Route("/v2/models", endpoints.list_models),
        Route("/openapi.json", endpoints.openapi),
        Route("/docs", endpoints.docs),
        Route("/v2/models/stats", endpoints.statistics),
        Route("/metrics", endpoints.metrics),
        Route("/monitoring/prometheus/metrics", endpoints.metrics),  # where TensorFlow Serving has them
    ]
    for repository in ("/v2/repository", "/v2/repository/{repository}"):
        routes += [
            Route(repository + "/index", endpoints.index, methods=["POST"]),
            Route(repository + "/models/{name}/load", endpoints.load, methods=["POST"]),
            Route(repository + "/models/{name}/unload", endpoints.unload, methods=["POST"]),
        ]
    for base in (model, model + "/versions/{version}"):
        routes += [
            Route(base, endpoints.model),
            Route(base + "/ready", endpoints.model_is_ready),
            Route(base + "/config", endpoints.configuration),
            Route(base + "/stats", endpoints.statistics),
            Route(base + "/infer", endpoints.infer, methods=["POST"]),
        ]
    app = Starlette(routes=[*routes, *app_tfs.routes(catalog, body_limit_bytes)], exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return app


class Endpoints:
    """One method a route."""

    def __init__(
        self, catalog: Catalog, fleet: Fleet, body_limit_bytes: int, grpc_port: int, is_ready: Callable[[], bool]
    ) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._body_limit_bytes = body_limit_bytes
        self._grpc_port = grpc_port
        self._is_ready = is_ready
        self._gpus = Gpus()

    async def server(self, _request: Request) -> Response:
        """Server metadata."""
        return Json({"name": "shipworthy", "version": VERSION, "extensions": extensions.NAMES})

    async def is_live(self, _request: Request) -> Response:
        """Whether the process answers: it does."""
        return Json({"live": True})

    async def is_ready(self, _request: Request) -> Response:
        """Whether new requests are welcome: the socket listens only once all models are loaded and warm."""
        ready = self._is_ready()
        return Json({"ready": ready}, status_code=200 if ready else 503)

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
                "platform": extensions.platform(live.target),
                "inputs": [oip.describe(spec) for spec in signature.inputs],
                "outputs": [oip.describe(spec) for spec in signature.outputs],
                "properties": {"bundle": live.bundle} if live.bundle else {},
            }
        )

    async def model_is_ready(self, request: Request) -> Response:
        """Whether requests to one model are welcome."""
        name, version = request.path_params["name"], request.path_params.get("version", "")
        resting = self._catalog.at_rest(name, version)
        name = name if resting else self._find(request).name
        ready = not resting and self._is_ready()
        return Json({"name": name, "ready": ready}, status_code=200 if ready else 503)

    async def configuration(self, request: Request) -> Response:
        """How one model is served, as Triton writes it."""
        live = self._find(request)
        return Json(extensions.configuration(live, live.batcher.plan))

    async def statistics(self, request: Request) -> Response:
        """What all workers have done with one version, every version of a model, or everything."""
        name, version = request.path_params.get("name", ""), request.path_params.get("version", "")
        return Json(extensions.statistics(await self._fleet.counted(name, version)))

    async def metrics(self, request: Request) -> Response:
        """What all workers have done and are doing, for Prometheus."""
        (done, tally), gpus = await asyncio.gather(self._fleet.measured(), self._gpus.now())
        text = await asyncio.to_thread(metrics.exposition, done, tally, VERSION, gpus)
        return written(request, text.encode(), metrics.CONTENT_TYPE)

    async def index(self, request: Request) -> Response:
        """Every version of every model, and its state."""
        ready = extensions.read_index(await read(request, self._body_limit_bytes))
        return Json(await self._fleet.index(ready=ready))

    async def load(self, request: Request) -> Response:
        """Load a model as it is now, in all workers; it answers when they serve it."""
        extensions.check_load(await read(request, self._body_limit_bytes))
        await self._fleet.load(request.path_params["name"])
        return Json({})

    async def unload(self, request: Request) -> Response:
        """Unload a model in all workers."""
        extensions.check_unload(await read(request, self._body_limit_bytes))
        await self._fleet.unload(request.path_params["name"])
        return Json({})

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document of everything that is served."""
        defaults = map(self._catalog.find, self._catalog.names())
        return written(request, msgspec.json.encode(openapi.document(defaults, self._everything(), VERSION)))

    async def docs(self, request: Request) -> Response:
        """The page about the models, for people."""
        url = request.url
        grpc = f"{url.hostname}:{self._grpc_port}" if self._grpc_port else ""
        page = docs.page(self._everything(), f"{url.scheme}://{url.netloc}", grpc, VERSION)
        return written(request, page.encode(), "text/html", **{"content-security-policy": docs.POLICY})

    async def infer(self, request: Request) -> Response:
        """Answer one request that the fast lane left: compressed, chunked or pipelined."""
        live = self._find(request)
        with live.statistics.until_queued(V2_REST, ClientDisconnect):
            body = await read(request, self._body_limit_bytes)
            began_ns = time.monotonic_ns()
            header_length = oip.read_length(request.headers.get(oip.LENGTH_HEADER), len(body))
            wanted = oip.parse(body, header_length, live.signature)

        def write(outputs: Arrays) -> tuple[bytes, int | None]:
            return oip.answer(wanted, live.name, str(live.version), outputs)

        answer, json_bytes = await ask(
            live, wanted.inputs, wanted.rows, write, wanted.deadline_ns(), wanted.priority, V2_REST, began_ns
        )
        if json_bytes is None:
            return written(request, answer)
        return written(request, answer, "application/octet-stream", **{oip.LENGTH_HEADER: str(json_bytes)})

    def _everything(self) -> list[Live]:
        """Every version that is served, of each model the default last."""
        catalog = self._catalog
        return [
            live
            for name in catalog.names()
            for live in sorted(catalog.versions(name), key=lambda one: one is catalog.find(one.name))
        ]

    def _find(self, request: Request) -> Live:
        return self._catalog.find(request.path_params["name"], request.path_params.get("version", ""))
