"""Who may do what: each key gets an application and services that see only what it may use.

There is one place to ask: a model is reached through a catalog, and all workers through a fleet. Whoever comes with a key
gets those of its rights, so no route and no method can forget to ask. Health needs no key: probes have none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from shipworthy.errors import NotFound
from shipworthy.serve.calls import Bidirectional, Call, Services, Streaming, Unary
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.exchange import Closing
from shipworthy.serve.fleet import Ask, Fleet, Wish
from shipworthy.serve.keys import Keys, Rights, Unauthenticated
from shipworthy.serve.source import Offer, Source
from shipworthy.serve.wording import sentence

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
OPEN_METHODS = frozenset(
    {
        *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")),
        *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")),
    }
)


class Shown(Catalog):
    """Of a catalog, what some rights let see; it is looked at, never changed."""

    def __init__(self, whole: Catalog, rights: Rights) -> None:
        super().__init__()
        self._whole = whole
        self._rights = rights
        self.failures = whole.failures

    @property
    def resting(self) -> Mapping[str, Offer]:
        """As ``Catalog``, of those that may be used."""
        return {name: offer for name, offer in self._whole.resting.items() if self._rights.may_use(name)}

    def at_rest(self, name: str, version: str = "") -> list[int]:
        """As ``Catalog``; ``Forbidden`` for a model that may not be used."""
        return self._holding(name).at_rest(name, version) if name in self._whole.resting else []

    def names(self) -> list[str]:
        """The models that may be used."""
        return [name for name in self._whole.names() if self._rights.may_use(name)]

    def versions(self, name: str) -> list[Live]:
        """As ``Catalog``; ``Forbidden`` for a model that may not be used, whether it exists or not."""
        return self._holding(name).versions(name)

    def labels(self, name: str) -> dict[str, int]:
        """As ``Catalog``; ``Forbidden`` as ``versions``."""
        return self._holding(name).labels(name)

    def find(self, name: str, version: str = "") -> Live:
        """As ``Catalog``; ``Forbidden`` as ``versions``."""
        return self._holding(name).find(name, version)

    def _holding(self, name: str) -> Catalog:
        self._rights.need(name)
        names = [*self.names(), *self.resting]
        if name not in names:  # the whole catalog's error would name what is hidden
            found = self.failures.get(name, "")
            raise NotFound(f"there is no model '{name[:100]}'", found=found, expected=f"one of: {', '.join(names) or 'none'}")
        return self._whole


class Portion(Fleet):
    """Of a fleet, what some rights let see and operate; ``catalog`` is what they show."""

    def __init__(self, ask: Ask, source: Source, catalog: Shown, rights: Rights) -> None:
        super().__init__(ask, source, catalog)
        self._rights = rights

    async def load(self, name: str) -> None:
        """As ``Fleet``; ``Forbidden`` without the right."""
        self._rights.need(name)
        self._rights.need_operate()
        with self._hiding():
            await super().load(name)

    async def unload(self, name: str) -> None:
        """As ``Fleet``; ``Forbidden`` without the right."""
        self._rights.need(name)
        self._rights.need_operate()
        with self._hiding():
            await super().unload(name)

    async def serve(self, wishes: Sequence[Wish]) -> None:
        """As ``Fleet``; models that may not be used are left as they are."""
        self._rights.need_operate()
        for wish in wishes:
            self._rights.need(wish.name)
        with self._hiding():
            await super().serve(wishes)

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """As ``Fleet``, without what may not be seen."""
        return [row for row in await super().index(ready=ready) if self._rights.may_use(row["name"])]

    @contextlib.contextmanager
    def _hiding(self) -> Iterator[None]:
        """Sources say what there is when something is not there; who may not see all of it hears the first sentence."""
        try:
            yield
        except NotFound as error:
            if self._rights.models is None:
                raise
            raise NotFound(error.what) from None


class Guard:
    """Stands before the application and the services: finds the rights of a key, and what was made for them.

    What is made for some rights is kept until the keys change; there are at most as many as keys.
    """

    def __init__(
        self,
        keys: Keys,
        application: ASGIApp,
        services: Services,
        build: Callable[[Rights], tuple[ASGIApp, Services]],
    ) -> None:
        """Store what is needed.

        Args:
            keys: those that are known.
            application: answers what needs no key.
            services: the same over gRPC.
            build: makes what answers somebody with some rights.
        """
        self._keys = keys
        self._application = application
        self._build = build
        self._built: dict[Rights, tuple[ASGIApp, Services]] = {}
        open_unary = {path: method for path, method in services.unary.items() if path in OPEN_METHODS}
        open_streaming = {path: method for path, method in services.streaming.items() if path in OPEN_METHODS}
        self.unary: Mapping[str, Unary] = {path: self._unary(path) for path in services.unary} | open_unary
        self.streaming: Mapping[str, Bidirectional] = {
            path: self._streaming(path) for path in services.streaming
        } | open_streaming

    def change(self, keys: Keys) -> None:
        """Know these keys from now on, and no others. A stream of gRPC that is open stays open."""
        self._keys = keys
        self._built = {}

    def allows(self, name: str, headers: Iterable[bytes]) -> bool:
        """Whether who sent these ``authorization`` headers may use a model."""
        try:
            return self._keys.find(headers).may_use(name)
        except Unauthenticated:
            return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by the application of its key; without one, not at all, and its body is not read."""
        if scope["path"] in OPEN_PATHS:
            await self._application(scope, receive, send)
            return
        try:
            rights = self._keys.find(value for name, value in scope["headers"] if name == b"authorization")
        except Unauthenticated as error:
            answer = Closing({"error": sentence(error)}, error.http_status, {"www-authenticate": "Bearer"})
            await answer(scope, receive, send)
            return
        await self._for(rights)[0](scope, receive, send)

    def _for(self, rights: Rights) -> tuple[ASGIApp, Services]:
        if rights not in self._built:
            self._built[rights] = self._build(rights)
        return self._built[rights]

    def _services(self, call: Call) -> Services:
        sent = call.metadata.get("authorization")
        return self._for(self._keys.find([] if sent is None else [sent.encode("latin-1")]))[1]

    def _unary(self, path: str) -> Unary:
        def unary(call: Call, message: bytes) -> None:
            self._services(call).unary[path](call, message)

        return unary

    def _streaming(self, path: str) -> Bidirectional:
        def begin(call: Call) -> Streaming:
            return self._services(call).streaming[path](call)

        return begin
