"""grpc.health.v1: what probes of Kubernetes and load balancers ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shipworthy.errors import NotFound, ShipworthyError
from shipworthy.serve import calls
from shipworthy.serve.calls import Call
from shipworthy.serve.grpc import messages
from shipworthy.serve.grpc.edges import answered


class Health:
    """Every service of ours, and the server as a whole (the empty name), serves while ``is_ready`` says so."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._watches: set[_Watch] = set()

    def check(self, request: Any) -> Any:
        """The state now.

        Raises:
            NotFound: there is no such service.
        """
        answer = self.state(request.service)
        if answer.status == answer.SERVICE_UNKNOWN:
            known = ", ".join(messages.load().services)
            raise NotFound(f"there is no service '{request.service[:100]}'", expected=f"none, or one of: {known}")
        return answer

    def watch(self, call: Call) -> _Watch:
        """The state now, and whenever it changes; the call stays open."""
        return _Watch(self, call, self._watches)

    def changed(self) -> None:
        """Tell all who watch."""
        for watch in list(self._watches):
            watch.tell()

    def state(self, service: str) -> Any:
        """The answer for a service; of one that we do not have, that we do not know it."""
        answer = messages.load()["grpc.health.v1.HealthCheckResponse"]()
        if service and service not in messages.load().services:
            answer.status = answer.SERVICE_UNKNOWN
        else:
            answer.status = answer.SERVING if self._is_ready() else answer.NOT_SERVING
        return answer


class _Watch:
    def __init__(self, health: Health, call: Call, watches: set[_Watch]) -> None:
        self._health = health
        self._call = call
        self._watches = watches
        self._service = ""
        self._last: bytes | None = None
        call.on_cancel = self._gone

    def message(self, message: bytes) -> None:
        """Take the one request."""
        with answered(self._refuse):
            request = messages.read(messages.load()["grpc.health.v1.HealthCheckRequest"], message)
            self._service = request.service
            self._watches.add(self)
            self.tell()

    def half_closed(self) -> None:
        """The request is whole; the watch goes on until the client ends it."""

    def tell(self) -> None:
        """Send the state, if it is another than was sent."""
        state = self._health.state(self._service).SerializeToString()
        if state != self._last:
            self._last = state
            self._call.send(state)

    def _gone(self) -> None:
        self._watches.discard(self)

    def _refuse(self, error: ShipworthyError) -> None:
        calls.refuse(self._call, error)
