"""What is neither inference nor TensorFlow's: server, models, health, reflection."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from shipworthy.serve.calls import Status
from shipworthy.serve.grpc import messages

from .conftest import INFERENCE, new
from .test_infer import INFER, request

HEALTH = "/grpc.health.v1.Health/"


def test_the_server_says_what_it_is(server):
    assert server.inference("ServerLive").live
    metadata = server.inference("ServerMetadata")
    assert metadata.name == "shipworthy"
    assert metadata.version
    assert {"binary_tensor_data", "statistics"} <= set(metadata.extensions)


def test_readiness(server):
    for ready in (True, False):
        server.ready = ready
        assert server.inference("ServerReady").ready is ready
        assert server.inference("ModelReady", name="two").ready is ready
        assert server.inference("ModelReady", name="two", version="3").ready is ready
        assert not server.inference("ModelReady", name="two", version="4").ready
        assert not server.inference("ModelReady", name="nobody").ready
        status = server.ask(HEALTH + "Check", "HealthCheckRequest", "HealthCheckResponse").status
        assert status == (1 if ready else 2)
    server.ready = True


def test_metadata_of_a_model(server):
    found = server.inference("ModelMetadata", name="linear")
    assert (found.name, list(found.versions), found.platform) == ("linear", ["1"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("x", "FP32", [-1, 16])]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.outputs] == [
        ("label", "INT64", [-1]),
        ("scores", "FP32", [-1, 5]),
    ]
    assert list(server.inference("ModelMetadata", name="two", version="3").versions) == ["1", "3", "12"]


def test_configuration_of_a_model(server):
    config = server.inference("ModelConfig", name="linear").config
    assert (config.name, config.backend, config.max_batch_size) == ("linear", "onnxruntime", 64)
    data_type = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    assert [(t.name, data_type[t.data_type].name, list(t.dims)) for t in config.input] == [("x", "TYPE_FP32", [16])]
    assert [(t.name, list(t.dims)) for t in config.output] == [("label", []), ("scores", [5])]
    assert config.parameters["bundle"].string_value == "digest of linear"
    slow = server.inference("ModelConfig", name="slow").config
    assert slow.max_batch_size == 0
    assert list(slow.input[0].dims) == [1]
    text = server.inference("ModelConfig", name="text").config
    assert data_type[text.input[0].data_type].name == "TYPE_STRING"


def test_statistics(fresh):
    for rows in (1, 3, 3):
        fresh.bytes(INFER, request("linear", {"x": np.ones((rows, 16), "float32")}).SerializeToString())
    (found,) = fresh.inference("ModelStatistics").model_stats
    assert (found.name, found.version, found.inference_count, found.execution_count) == ("linear", "1", 7, 3)
    stats = found.inference_stats
    assert (stats.success.count, stats.fail.count) == (3, 0)
    assert 0 < stats.compute_infer.ns <= stats.success.ns
    assert {batch.batch_size: batch.compute_infer.count for batch in found.batch_stats} == {1: 1, 3: 2}
    assert found.last_inference > 1_700_000_000_000


def test_statistics_of_some(server):
    def those(**values):
        return {(one.name, one.version) for one in server.inference("ModelStatistics", **values).model_stats}

    assert those(name="two") == {("two", "1"), ("two", "3"), ("two", "12")}
    assert those(name="two", version="3") == {("two", "3")}
    assert those() > those(name="two")


def test_the_index_lists_all(server):
    found = {(one.name, one.version): one.state for one in server.inference("RepositoryIndex").models}
    assert set(found.values()) == {"READY"}
    assert {("two", "1"), ("two", "3"), ("two", "12"), ("linear", "1")} <= set(found)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_what_is_not_there_is_said(server, method):
    for values, words in (({"name": "nobody"}, "no model 'nobody'"), ({"name": "two", "version": "5"}, "no version '5'")):
        call = server.bytes(INFERENCE + method, new(f"inference.{method}Request", **values).SerializeToString())
        assert call.status is Status.NOT_FOUND
        assert words in call.text


def test_every_simple_method_refuses_what_it_cannot_read(server):
    for path, method in server.services.unary.items():
        call = server.bytes(path, b"\xff\xff")
        assert call.status in (Status.INVALID_ARGUMENT, Status.UNIMPLEMENTED), path
        assert method
        assert call.text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (INFERENCE + "SystemSharedMemoryRegister", "send tensors in the message"),
        (INFERENCE + "TraceSetting", "traces"),
    ],
)
def test_what_we_do_not_have_says_so(server, path, words):
    call = server.bytes(path, b"")
    assert call.status is Status.UNIMPLEMENTED
    assert words in call.text


def test_health_of_each_service(server):
    for service in ("", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService"):
        assert server.ask(HEALTH + "Check", "HealthCheckRequest", "HealthCheckResponse", service=service).status == 1
    call = server.bytes(HEALTH + "Check", new("grpc.health.v1.HealthCheckRequest", service="nobody").SerializeToString())
    assert call.status is Status.NOT_FOUND
    assert "no service 'nobody'; expected: none, or one of: inference." in call.text


@pytest.mark.parametrize(("service", "status"), [("", 1), ("grpc.health.v1.Health", 1), ("nobody", 3)])
def test_a_watch_says_the_state_and_stays(server, service, status):
    call = server.stream(
        HEALTH + "Watch", new("grpc.health.v1.HealthCheckRequest", service=service).SerializeToString(), half_close=False
    )
    assert [new("grpc.health.v1.HealthCheckResponse").FromString(one).status for one in call.sent] == [status]
    assert call.status is None
    assert server.stream(HEALTH + "Watch", b"\xff").status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
class TestReflection:
    def ask(self, server, version, **question):
        package = f"grpc.reflection.{version}"
        asked = new(f"{package}.ServerReflectionRequest", host="h", **question)
        call = server.stream(f"/{package}.ServerReflection/ServerReflectionInfo", asked.SerializeToString())
        assert call.status is Status.OK
        (answer,) = [new(f"{package}.ServerReflectionResponse").FromString(one) for one in call.sent]
        assert (answer.valid_host, answer.original_request) == ("h", asked)
        return answer

    def test_services(self, server, version):
        answer = self.ask(server, version, list_services="")
        listed = [one.name for one in answer.list_services_response.service]
        assert listed == list(messages.load().services)
        assert "inference.GRPCInferenceService" in listed

    def test_every_method_it_shows_is_there(self, server, version):
        shown = set()
        for name in self.ask(server, version, list_services="").list_services_response.service:
            (blob,) = self.ask(server, version, file_containing_symbol=name.name).file_descriptor_response.file_descriptor_proto
            file = descriptor_pb2.FileDescriptorProto.FromString(blob)
            shown |= {
                (f"/{name.name}/{method.name}", method.server_streaming)
                for service in file.service
                if f"{file.package}.{service.name}" == name.name
                for method in service.method
            }
        ours = {(path, False) for path in server.services.unary} | {(path, True) for path in server.services.streaming}
        assert shown < ours
        assert {server.bytes(path, b"").status for path, streams in ours - shown if not streams} == {Status.UNIMPLEMENTED}

    def test_a_client_can_build_all_of_it(self, server, version):
        pool, todo, done = descriptor_pool.DescriptorPool(), list(messages.load().files), []
        while todo:
            name = todo.pop()
            (blob,) = self.ask(server, version, file_by_filename=name).file_descriptor_response.file_descriptor_proto
            file = descriptor_pb2.FileDescriptorProto.FromString(blob)
            if set(file.dependency) <= set(done):
                pool.AddSerializedFile(blob)
                done.append(name)
            else:
                todo.insert(0, name)
        assert pool.FindMethodByName("inference.GRPCInferenceService.ModelInfer")

    @pytest.mark.parametrize(
        ("symbol", "file"),
        [
            ("inference.ModelInferRequest.InferInputTensor", "inference/grpc_service.proto"),
            ("inference.GRPCInferenceService.ModelInfer", "inference/grpc_service.proto"),
            ("tensorflow.TensorProto.dtype", "tensorflow/core.proto"),
        ],
    )
    def test_symbols(self, server, version, symbol, file):
        (blob,) = self.ask(server, version, file_containing_symbol=symbol).file_descriptor_response.file_descriptor_proto
        assert descriptor_pb2.FileDescriptorProto.FromString(blob).name == file

    @pytest.mark.parametrize(
        ("question", "code"),
        [
            ({"file_by_filename": "nothing.proto"}, Status.NOT_FOUND),
            ({"file_containing_symbol": "nothing.at.all"}, Status.NOT_FOUND),
            ({"file_containing_symbol": ""}, Status.NOT_FOUND),
            ({"all_extension_numbers_of_type": "inference.ModelInferRequest"}, Status.NOT_FOUND),
            ({}, Status.INVALID_ARGUMENT),
        ],
    )
    def test_errors_are_answers(self, server, version, question, code):
        assert self.ask(server, version, **question).error_response.error_code == code

    def test_what_is_no_message_ends_the_call(self, server, version):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        assert server.stream(path, b"\xff", half_close=False).status is Status.INVALID_ARGUMENT
