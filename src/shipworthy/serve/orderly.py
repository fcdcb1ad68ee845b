"""uvicorn's protocol of HTTP/1.1 in good order: each answer in its place, whatever comes between, and nothing misread."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shipworthy.errors import Refused, ShipworthyError

_VERSIONS = {"1.0", "1.1"}
_LENGTHS = {b"content-length", b"transfer-encoding"}


class Orderly(HttpToolsProtocol):
    """Tells an error after the answers before it, reads on after an offer to upgrade, and does not write to who has gone.

    uvicorn does neither: an error overtakes the answers to requests that were whole; what follows an offer to upgrade in the
    same read is dropped, so that the rest of a request that is cut there would be read as another request.
    """

    # Here and in what builds on it: more attributes than uvicorn's own would give each connection a dictionary (decision 8).
    __slots__ = ("_heading", "_last", "_running", "_within")

    cycle: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._within = False  # the parser has begun a message and not ended it
        self._heading = False  # and not ended its head
        self._running: RequestResponseCycle | None = None
        self._last: Refused | None = None  # told when what was asked before it is answered; nothing more is read

    def say(self, error: ShipworthyError) -> None:
        """Write that something is wrong, as the last answer."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Let the parser read; an offer to upgrade is not taken, and what follows it are more requests."""
        self._unset_keepalive_if_required()
        try:
            while data and self._last is None:
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as offer:
                    data = data[offer.args[0] :]
                else:
                    data = b""
        except httptools.HttpParserError as error:
            self.send_400_response(str(error))

    def on_response_complete(self) -> None:
        """Go on with the next request, or end with the error that waits."""
        more = bool(self.pipeline)
        super().on_response_complete()
        if self._last is not None and not more and not self.transport.is_closing():
            self.say(self._last)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone: whoever answers it, also what it asked before its last request, need not go on."""
        if self._running is not None:
            self._running.disconnected = True
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin an answer; one that is made while the connection closes goes nowhere."""
        write = cycle.send

        async def send(message: Any) -> None:
            cycle.disconnected = cycle.disconnected or self.transport.is_closing()
            await write(message)

        cycle.send = send  # type: ignore[method-assign]
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _unfit(self) -> Refused | None:
        """Why a head that is whole cannot be a request to us."""
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            return Refused("the version of HTTP is not spoken here", found=version, expected="1.1 or 1.0")
        if self.parser.should_upgrade() and any(name in _LENGTHS and value != b"0" for name, value in self.headers):
            return Refused("a request with a body offers to upgrade", expected="no header Upgrade (curl: --http1.1)")
        return None

    def _waits(self, error: Refused) -> bool:
        """Whether an error must wait for answers to requests that came before; then it is told after them."""
        if self._within and not self._heading:
            waits = bool(self.pipeline)
            if waits:
                self.pipeline.popleft()  # the newest of those that wait: the one at fault
        else:
            waits = self.cycle is not None and not self.cycle.response_complete
        if waits:
            self._last = error
            self.flow.pause_reading()
        return waits
