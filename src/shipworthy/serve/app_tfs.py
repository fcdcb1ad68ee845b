"""The routes of TensorFlow Serving over REST. Its paths are read by ``tfs``, whatever their case."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shipworthy.serve import tfs
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.exchange import ask, read, written


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
            versions = [self._find(place)] if place.version or place.label else self._catalog.versions(place.name)
            return written(request, tfs.status_body([live.version for live in versions]))
        live = self._find(place)
        if place.verb == "metadata":
            return written(request, tfs.metadata_body(live.name, live.version, live.signature))
        body = await read(request, self._body_limit_bytes)
        if place.verb == "predict":
            wanted = tfs.parse_predict(body, live.signature)
            return written(request, tfs.answer_predict(wanted, await ask(live, wanted.inputs, wanted.rows)))
        parse, write = (
            (tfs.parse_classify, tfs.answer_classify) if place.verb == "classify" else (tfs.parse_regress, tfs.answer_regress)
        )
        wanted = parse(body, live.signature)
        return written(request, write(live.signature, await ask(live, wanted.inputs, wanted.rows)))

    def _find(self, place: tfs.Place) -> Live:
        return self._catalog.find(place.name, place.version or place.label)
