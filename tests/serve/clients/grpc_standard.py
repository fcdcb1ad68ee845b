"""grpcio's own health and reflection clients: ``python grpc_standard.py HOST:PORT``; any server of ours will do."""

from __future__ import annotations

import sys
from collections.abc import Callable

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def refused(call: Callable[[], object]) -> grpc.RpcError:
    """The error that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


def check_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService", "grpc.health.v1.Health"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == serving
    error = refused(lambda: stub.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND, error
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert next(watch).status == serving
    watch.cancel()
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def check_reflection(channel: grpc.Channel) -> None:
    """Call a method of which only the server's own description is known."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {
        "inference.GRPCInferenceService",
        "tensorflow.serving.ModelService",
        "grpc.reflection.v1.ServerReflection",
    } <= services
    pool = descriptor_pool.DescriptorPool(database)
    for name in services:
        for method in pool.FindServiceByName(name).methods:
            message_factory.GetMessageClass(method.input_type)()
    method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ServerMetadata")
    takes, gives = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ServerMetadata",
        request_serializer=takes.SerializeToString,
        response_deserializer=gives.FromString,
    )
    assert call(takes()).name == "shipworthy"


def main(url: str) -> None:
    with grpc.insecure_channel(url) as channel:
        check_health(channel)
        check_reflection(channel)


if __name__ == "__main__":
    main(sys.argv[1])
