"""What all connections of one worker share: the URLs that the fast lane answers, the heads that it knows, how answers begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from shipworthy.errors import ShipworthyError
from shipworthy.serve.catalog import Live
from shipworthy.serve.kinds import Kind
from shipworthy.serve.oip import LENGTH_HEADER
from shipworthy.serve.quick_tfs import QuickTfs
from shipworthy.serve.runs import Share
from shipworthy.serve.tracing import lift
from shipworthy.serve.wording import error_body, error_headers

HEAD_END = b"\r\n\r\n"
LINES = {
    200: b"HTTP/1.1 200 OK\r\n",
    400: b"HTTP/1.1 400 Bad Request\r\n",
    404: b"HTTP/1.1 404 Not Found\r\n",
    500: b"HTTP/1.1 500 Internal Server Error\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\n",
}
JSON = b"content-type: application/json\r\ncontent-length: "
OCTETS = b"content-type: application/octet-stream\r\n" + LENGTH_HEADER.lower().encode() + b": "
CLOSE = b"connection: close\r\n"
# Heads that are remembered: a client sends the same few again and again.
MOST_HEADS = 256
LONGEST_HEAD = 2048


class Reader(Protocol):
    """Reads and answers the requests of one protocol to one model version."""

    wire: int
    """The protocol: its place in ``statistics.PROTOCOLS``."""

    def parse(self, body: bytes, header_length: int | None) -> Any:
        """The request in a body: ``inputs``, ``rows``, ``priority``, ``timeout_us``, ``nbytes`` as ``oip.Request``."""
        ...

    def kind(self, data: bytes, at: int, header_length: int | None) -> Kind | None:
        """The kind of the request whose body begins in ``data`` at ``at``; ``None``: it is read by itself."""
        ...

    def answer(self, request: Any, outputs: Share) -> tuple[bytes, int | None]:
        """The body that answers, and the bytes of JSON in it where others follow those."""
        ...


class Head:
    """What the head of a common request says: who answers, and the length of the body; ``caller`` is ``authorization``.

    ``kind`` is that of the last request with this head.
    """

    __slots__ = (
        "accept", "batcher", "body_bytes", "caller", "json_bytes", "kind", "live", "path", "reader", "statistics",
        "wire",
    )  # fmt: skip

    def __init__(
        self, path: str, live: Live, reader: Reader, body_bytes: int, json_bytes: int | None, accept: str, caller: bytes
    ) -> None:
        self.path = path
        self.live = live
        self.caller = caller
        self.reader = reader
        self.wire = reader.wire
        self.batcher = live.batcher
        self.statistics = live.statistics
        self.body_bytes = body_bytes
        self.json_bytes = json_bytes
        self.accept = accept
        self.kind: Kind | None = None


class FastLane:
    """What all connections of one worker share: the URLs that are answered fast, the body limit, the ``date`` header."""

    def __init__(self, body_limit_bytes: int) -> None:
        self.body_limit_bytes = body_limit_bytes
        self.urls: dict[bytes, tuple[Live, Reader]] = {}
        self.heads: dict[bytes, Head] = {}
        self.last: tuple[bytes, Head] | None = None
        """The head that came last, of those: mostly the same client comes again."""
        self.date = b""
        self.leaving = False
        self.closed: Callable[[], None] = lambda: None
        self.allows: Callable[[str, list[bytes]], bool] | None = None
        """Whether who sent these ``authorization`` headers may use a model; it is asked before a head is remembered."""

    def show(self, name: str, lives: Iterable[Live], default: Live | None) -> None:
        """Answer exactly these versions of a model from now on; ``default`` where a request names no version."""
        self.forget()
        self.urls = {url: found for url, found in self.urls.items() if found[0].name != name}
        shown = [(f"/versions/{live.version}", live) for live in lives]
        for version, live in [*shown, ("", default)] if default else shown:
            self.urls[f"/v2/models/{name}{version}/infer".encode()] = (live, live.quick)
            self.urls[f"/v1/models/{name}{version}:predict".encode()] = (live, QuickTfs(live.signature))

    def leave(self) -> None:
        """Answer what is asked still, and close each connection with its answer."""
        self.leaving = True
        self.forget()

    def start(self, json_bytes: int | None, extra: bytes = b"", *, keep_alive: bool) -> bytes:
        """An answer up to the number of its bytes; ``extra``: further headers, each with its end of line."""
        kind = JSON if json_bytes is None else b"%b%d\r\ncontent-length: " % (OCTETS, json_bytes)
        return b"%b%b%b%b%b" % (LINES[200], self.date, extra, b"" if keep_alive else CLOSE, kind)

    def failure(self, error: ShipworthyError, extra: bytes = b"", *, keep_alive: bool) -> bytes:
        """The whole answer that says what is wrong."""
        body = error_body(error)
        extra = error_headers(error) + extra + (b"" if keep_alive else CLOSE)
        line = LINES.get(error.http_status) or b"HTTP/1.1 %d \r\n" % error.http_status
        return b"%b%b%b%b%d\r\n\r\n%b" % (line, self.date, extra, JSON, len(body), body)

    def find(self, data: bytes) -> tuple[tuple[bytes, Head] | None, list[tuple[bytes, bytes]]]:
        """The head with which ``data`` begins, if it is known, and a caller's trace context that was lifted out of it."""
        text = data[: data.find(HEAD_END) + 4]
        head = self.heads.get(text)
        if head is not None:
            self.last = text, head
            return self.last, []
        rest, context = lift(text)
        head = self.heads.get(rest)
        return (None if head is None else (text, head)), context

    def forget(self) -> None:
        """Have each head read anew."""
        self.heads.clear()
        self.last = None

    def remember(self, text: bytes, head: Head) -> None:
        """Know the head of a request by its bytes when it comes again."""
        if len(text) <= LONGEST_HEAD:
            if len(self.heads) >= MOST_HEADS:
                self.forget()
            self.heads[text] = head
