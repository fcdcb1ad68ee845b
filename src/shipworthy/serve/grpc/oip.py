"""GRPCInferenceService beside inference: is it there, what is it, what has it done."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from shipworthy.errors import NotFound
from shipworthy.records import TensorSpec
from shipworthy.serve import extensions, oip
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.grpc import messages


class Service:
    """The methods beside inference, each a message in, a message out."""

    def __init__(self, catalog: Catalog, fleet: Fleet, is_ready: Callable[[], bool]) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._is_ready = is_ready

    def server_live(self, _request: Any) -> Any:
        """Whether the process answers: it does."""
        return _new("ServerLiveResponse", live=True)

    def server_ready(self, _request: Any) -> Any:
        """Whether requests are taken."""
        return _new("ServerReadyResponse", ready=self._is_ready())

    def model_ready(self, request: Any) -> Any:
        """Whether a model can answer; one that is not there cannot, which is no error: clients poll for it."""
        try:
            if self._catalog.at_rest(request.name, request.version):
                return _new("ModelReadyResponse", ready=False)
            self._catalog.find(request.name, request.version)
        except NotFound:
            return _new("ModelReadyResponse", ready=False)
        return _new("ModelReadyResponse", ready=self._is_ready())

    def server_metadata(self, _request: Any) -> Any:
        """Name, version and extensions."""
        return _new(
            "ServerMetadataResponse", name="shipworthy", version=metadata.version("shipworthy"), extensions=extensions.NAMES
        )

    def model_metadata(self, request: Any) -> Any:
        """What a model takes and gives; -1 is a free dimension."""
        live = self._catalog.find(request.name, request.version)
        return _new(
            "ModelMetadataResponse",
            name=live.name,
            versions=[str(one.version) for one in self._catalog.versions(live.name)],
            platform=extensions.platform(live.target),
            inputs=[_metadata(spec) for spec in live.signature.inputs],
            outputs=[_metadata(spec) for spec in live.signature.outputs],
        )

    def model_config(self, request: Any) -> Any:
        """The configuration that tools read."""
        live = self._catalog.find(request.name, request.version)
        return _new("ModelConfigResponse", config=extensions.configuration(live, live.batcher.plan))

    async def model_statistics(self, request: Any) -> Any:
        """Counts and times of one version, of all versions of a model, or of everything, over all workers."""
        counted = await self._fleet.counted(request.name, request.version)
        return _new("ModelStatisticsResponse", **extensions.statistics(counted))

    async def repository_index(self, request: Any) -> Any:
        """Every version of every model, and its state."""
        return _new("RepositoryIndexResponse", models=await self._fleet.index(ready=request.ready))

    async def load(self, request: Any) -> Any:
        """RepositoryModelLoad: a model as it is now, in all workers."""
        extensions.refuse_parameters(request.parameters)
        await self._fleet.load(_model_name(request))
        return _new("RepositoryModelLoadResponse")

    async def unload(self, request: Any) -> Any:
        """RepositoryModelUnload; no model depends on another, so its parameters change nothing."""
        await self._fleet.unload(_model_name(request))
        return _new("RepositoryModelUnloadResponse")


def _model_name(request: Any) -> str:
    """The model; KServe's clients send its name where Triton's send that of the repository."""
    return str(request.model_name or request.repository_name)


def _new(name: str, /, **values: Any) -> Any:
    return messages.load()[f"inference.{name}"](**values)


def _metadata(spec: TensorSpec) -> Any:
    return _new("ModelMetadataResponse.TensorMetadata", **oip.describe(spec))
