"""Every gRPC method by its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shipworthy.serve.calls import Bidirectional, Unary
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.grpc import oip, tfs
from shipworthy.serve.grpc.edges import simple, unimplemented, waiting
from shipworthy.serve.grpc.health import Health
from shipworthy.serve.grpc.infer import Inference
from shipworthy.serve.grpc.reflection import Reflection

_INFERENCE = "/inference.GRPCInferenceService/"
_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_HEALTH = "/grpc.health.v1.Health/"
_NO_SHARING = "shared memory is not supported: send tensors in the message"
_NOT_HERE = {
    _INFERENCE + "SystemSharedMemoryStatus": _NO_SHARING,
    _INFERENCE + "SystemSharedMemoryRegister": _NO_SHARING,
    _INFERENCE + "SystemSharedMemoryUnregister": _NO_SHARING,
    _INFERENCE + "CudaSharedMemoryStatus": _NO_SHARING,
    _INFERENCE + "CudaSharedMemoryRegister": _NO_SHARING,
    _INFERENCE + "CudaSharedMemoryUnregister": _NO_SHARING,
    _INFERENCE + "TraceSetting": "traces are not supported",
    _INFERENCE + "LogSettings": "the log is not set over gRPC",
    _PREDICTION + "MultiInference": "MultiInference is not supported: call Classify or Regress for each",
}


@dataclass(frozen=True)
class Methods:
    """The ``calls.Services`` that we have; ``health`` is told when readiness has changed."""

    unary: Mapping[str, Unary]
    streaming: Mapping[str, Bidirectional]
    health: Health


def services(catalog: Catalog, fleet: Fleet, is_ready: Callable[[], bool] = lambda: True) -> Methods:
    """The services over the models of a catalog.

    Args:
        catalog: what this worker serves; looked at with every request.
        fleet: all workers: what they have counted, and what they are to serve.
        is_ready: whether requests are taken, which readiness and health say.
    """
    inference, health = Inference(catalog), Health(is_ready)
    questions, tensorflow = oip.Service(catalog, fleet, is_ready), tfs.Service(catalog, fleet)
    unary = {path: unimplemented(text) for path, text in _NOT_HERE.items()}
    for name, method in {
        "ServerLive": questions.server_live,
        "ServerReady": questions.server_ready,
        "ModelReady": questions.model_ready,
        "ServerMetadata": questions.server_metadata,
        "ModelMetadata": questions.model_metadata,
        "ModelConfig": questions.model_config,
    }.items():
        unary[_INFERENCE + name] = simple(f"inference.{name}Request", method)
    for name, slow in {
        "ModelStatistics": questions.model_statistics,
        "RepositoryIndex": questions.repository_index,
        "RepositoryModelLoad": questions.load,
        "RepositoryModelUnload": questions.unload,
    }.items():
        unary[_INFERENCE + name] = waiting(f"inference.{name}Request", slow)
    unary |= {
        _INFERENCE + "ModelInfer": inference.infer,
        _PREDICTION + "Predict": tensorflow.predict(),
        _PREDICTION + "Classify": tensorflow.classify(),
        _PREDICTION + "Regress": tensorflow.regress(),
        _PREDICTION + "GetModelMetadata": simple("tensorflow.serving.GetModelMetadataRequest", tensorflow.model_metadata),
        _MODEL + "GetModelStatus": simple("tensorflow.serving.GetModelStatusRequest", tensorflow.model_status),
        _MODEL + "HandleReloadConfigRequest": waiting("tensorflow.serving.ReloadConfigRequest", tensorflow.reload),
        _HEALTH + "Check": simple("grpc.health.v1.HealthCheckRequest", health.check),
    }
    streaming: dict[str, Bidirectional] = {_INFERENCE + "ModelStreamInfer": inference.stream, _HEALTH + "Watch": health.watch}
    for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha"):
        streaming[f"/{package}.ServerReflection/ServerReflectionInfo"] = Reflection(package).stream
    return Methods(unary, streaming, health)
