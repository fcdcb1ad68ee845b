"""What all connections of one worker share: the URLs that the fast lane answers, and the heads of requests that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from shipworthy.serve.catalog import Live
from shipworthy.serve.quick_tfs import QuickTfs
from shipworthy.serve.runs import Share
from shipworthy.serve.tracing import lift

HEAD_END = b"\r\n\r\n"
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

    def answer(self, request: Any, outputs: Share) -> tuple[bytes, int | None]:
        """The body that answers, and the bytes of JSON in it where others follow those."""
        ...


class Head:
    """What the head of a common request says: who answers, and the length of the body; ``caller`` is ``authorization``."""

    __slots__ = ("accept", "body_bytes", "caller", "json_bytes", "live", "path", "reader", "statistics", "submit", "wire")

    def __init__(
        self, path: str, live: Live, reader: Reader, body_bytes: int, json_bytes: int | None, accept: str, caller: bytes
    ) -> None:
        self.path = path
        self.live = live
        self.caller = caller
        self.reader = reader
        self.wire = reader.wire
        self.submit = live.batcher.submit
        self.statistics = live.statistics
        self.body_bytes = body_bytes
        self.json_bytes = json_bytes
        self.accept = accept


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
