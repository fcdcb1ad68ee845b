"""The routes of TensorFlow Serving over REST. Its paths are read by ``tfs``, whatever their case."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shipworthy.protocols import Arrays
from shipworthy.serve import tfs
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.exchange import ask, read, written
from shipworthy.serve.statistics import TFS_REST


def routes(catalog: Catalog, body_limit_bytes: int) -> list[Route]:
    """Everything below ``/v1``, and ``/V1``: the case of a path is not looked at."""
    endpoint = Tfs(catalog, body_limit_bytes).answer
    return [Route(prefix + "{rest:path}", endpoint, methods=["GET", "POST"]) for prefix in ("/v1", "/V1")]


class Tfs:
    """One method for all of its paths."""

    def __init__(self, catalog: Catalog, body_limit_bytes: int) -> None:
        self._catalog = catalog
        self._body_limit_bytes = body_limit_bytes

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        raw_path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        place = tfs.read_place(request.method, raw_path)
        if place.verb == "status":
            if resting := self._catalog.at_rest(place.name, place.version or place.label):
                return written(request, tfs.status_body(resting, "START"))
            versions = [self._find(place)] if place.version or place.label else self._catalog.versions(place.name)
            return written(request, tfs.status_body([live.version for live in versions]))
        live = self._find(place)
        if place.verb == "metadata":
            return written(request, tfs.metadata_body(live.name, live.version, live.signature))
        parse: Any = {"predict": tfs.parse_predict, "classify": tfs.parse_classify}.get(place.verb, tfs.parse_regress)
        with live.statistics.until_queued(TFS_REST, ClientDisconnect):
            body = await read(request, self._body_limit_bytes)
            began_ns = time.monotonic_ns()
            wanted = parse(body, live.signature)

        def write(outputs: Arrays) -> bytes:
            if place.verb == "predict":
                return tfs.answer_predict(wanted, outputs)
            of_examples = tfs.answer_classify if place.verb == "classify" else tfs.answer_regress
            return of_examples(live.signature, outputs)

        return written(request, await ask(live, wanted.inputs, wanted.rows, write, wire=TFS_REST, began_ns=began_ns))

    def _find(self, place: tfs.Place) -> Live:
        return self._catalog.find(place.name, place.version or place.label)
