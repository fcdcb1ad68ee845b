"""What the routes share: bodies read within their limit, a model asked through its queue, answers and errors written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shipworthy.errors import Failed, ShipworthyError, Unavailable
from shipworthy.protocols import Array
from shipworthy.serve.catalog import Live
from shipworthy.serve.compression import TooLarge, compress, expand
from shipworthy.serve.note import NOTE
from shipworthy.serve.order import Job
from shipworthy.serve.runs import Share
from shipworthy.serve.statistics import V2_REST, outcome_of
from shipworthy.serve.wording import sentence

LINGER_SECONDS = 1.0

T = TypeVar("T")

log = logging.getLogger(__name__)


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


async def read(request: Request, limit_bytes: int) -> bytes:
    """The body, as it was before it was compressed; reading stops where it passes the limit, whatever its headers say.

    Raises:
        TooLarge: it is, or expands to, more than the limit.
        Unsupported: compressed in a way that we do not read.
        Refused: it is compressed and broken.
    """
    announced = request.headers.get("content-length", "0")
    chunks: list[bytes] = []
    size = int(announced) if announced.isdigit() else 0
    if size <= limit_bytes:
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                break
    if size > limit_bytes:
        raise TooLarge(
            f"the body is above the limit of {limit_bytes / 1e6:g} MB",
            next="send fewer rows a request, or raise body_limit_mb in [serve]",
        )
    return expand(b"".join(chunks), request.headers.get("content-encoding", "identity"), limit_bytes)


async def ask(
    live: Live,
    inputs: dict[str, Array],
    rows: int,
    write: Callable[[Share], T],
    deadline_ns: int = 0,
    priority: int = 0,
    wire: int = V2_REST,
    began_ns: int = 0,
) -> T:
    """The answer that ``write`` makes of what the model gives, through its queue; see ``batcher.Order``."""
    answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(outputs: Share | None, error: ShipworthyError | None) -> int | None:
        if answered.done():
            return None
        if outputs is None:
            answered.set_exception(error or Failed("the model gave no answer"))
            return None
        try:
            answered.set_result(write(outputs))
        except Exception as failure:  # noqa: BLE001  whatever it was, the caller gets an answer
            answered.set_exception(failure)
            return outcome_of(failure)
        return None

    job = Job(inputs, rows, done, deadline_ns, priority, wire, began_ns)
    note = NOTE.get()
    if note is not None:
        note.asked(live, job)
    live.submit(job)
    try:
        return await answered
    except asyncio.CancelledError:
        job.cancelled = True
        raise


def written(request: Request, body: bytes, media_type: str = "application/json", **headers: str) -> Response:
    """An answer, compressed when its reader asks for that and it pays."""
    body, encoding = compress(body, request.headers.get("accept-encoding", ""))
    if encoding:
        headers |= {"content-encoding": encoding, "vary": "accept-encoding"}
    return Response(body, media_type=media_type, headers=headers)


async def of_ours(request: Request, error: ShipworthyError) -> Response:
    """One of our errors."""
    if isinstance(error, Failed) and not isinstance(error, Unavailable):
        log.error("%s %s: %s", request.method, request.url.path, error)
    kind = Closing if isinstance(error, TooLarge) else Json
    headers = {"retry-after": str(error.retry_after_seconds)} if isinstance(error, Unavailable) else None
    return kind({"error": sentence(error)}, status_code=error.http_status, headers=headers)


async def of_http(request: Request, error: HTTPException) -> Response:
    """An error of the routing: no such path or method."""
    text = f"{error.detail}: {request.method} {request.url.path[:200]}"
    return Json({"error": text}, status_code=error.status_code, headers=error.headers)


async def of_gone(_request: Request, _error: ClientDisconnect) -> Response:
    """The caller hung up while sending: nobody reads this."""
    return Response(status_code=400)


async def of_unforeseen(_request: Request, _error: Exception) -> Response:
    """Starlette raises the error again after this answer, and uvicorn writes its traceback to the log."""
    return Json({"error": "internal error: the server's log says more"}, status_code=500)


HANDLERS: dict[Any, Any] = {
    ShipworthyError: of_ours,
    HTTPException: of_http,
    ClientDisconnect: of_gone,
    Exception: of_unforeseen,
}
