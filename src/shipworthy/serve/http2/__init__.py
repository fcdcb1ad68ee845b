"""gRPC over HTTP/2 on an asyncio transport, without a gRPC library.

``wire`` frames; ``heads`` and ``replies`` header blocks in and out; ``messages`` gRPC's messages in the bytes of a stream;
``stream`` one call; ``intake`` and ``outbox`` flow control in and out; ``streams`` all calls of a connection; ``protocol``
the connection; ``limits`` what it may ask of us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shipworthy.serve.calls import Services
from shipworthy.serve.http2.limits import Limits
from shipworthy.serve.http2.protocol import GrpcProtocol
from shipworthy.serve.http2.stream import Stream, StreamOf


class Lane:
    """Makes the protocol of each connection, and speaks to all of them: a factory for ``loop.create_server``."""

    def __init__(
        self, services: Services, limits: Limits, closed: Callable[[], None] = lambda: None, stream_of: StreamOf = Stream
    ) -> None:
        self.stream_of = stream_of
        self._services = services
        self._limits = limits
        self._closed = closed
        self._awake: list[GrpcProtocol] = []
        self.connections: set[GrpcProtocol] = set()
        """Those that are open."""

    def __call__(self) -> GrpcProtocol:
        """The protocol of a new connection."""
        return GrpcProtocol(self._services, self._limits, self)

    def shutdown(self) -> None:
        """Tell every client to go elsewhere; each connection closes after its last open call."""
        for connection in list(self.connections):
            connection.shutdown()

    def left(self, connection: GrpcProtocol) -> None:
        """A connection has closed."""
        self.connections.discard(connection)
        self._closed()

    def wake(self, connection: GrpcProtocol) -> None:
        """Let a connection write in the next turn of the loop; all that wake in one turn share one callback."""
        if not self._awake:
            asyncio.get_running_loop().call_soon(self._flush)
        self._awake.append(connection)

    def _flush(self) -> None:
        awake, self._awake = self._awake, []
        for connection in awake:
            connection.flush()


def lane(services: Services, limits: Limits, closed: Callable[[], None] = lambda: None, stream_of: StreamOf = Stream) -> Lane:
    """What to give ``loop.create_server`` so that it answers gRPC with ``services``.

    Args:
        services: every method.
        limits: what a client may ask of us.
        closed: hears of the end of each connection.
        stream_of: makes the stream of each call.
    """
    return Lane(services, limits, closed, stream_of)


__all__ = ["GrpcProtocol", "Lane", "Limits", "lane"]
