"""ovmsclient over gRPC against a server of the models in tests/serve/conftest.py: ``python ovmsclient_grpc.py HOST:PORT``."""

from __future__ import annotations

import sys
from collections.abc import Callable

import grpc
import numpy as np
import ovmsclient
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

DTYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]


def refused(call: Callable[[], object]) -> grpc.RpcError:
    """The error that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


def check_predict(client: ovmsclient.tfs_compat.grpc.serving_client.GrpcClient) -> None:
    generator = np.random.default_rng(0)
    arrays = {f"in_{dtype}": generator.integers(0, 2, (3, 2)).astype(dtype) for dtype in DTYPES}
    texts = np.array([["a", "b"], ["é", "c"], ["日本", "d"]])
    answer = client.predict({**arrays, "in_str": texts}, "identity")
    for name, array in arrays.items():
        out = answer[name.replace("in_", "out_")]
        assert out.dtype == array.dtype, name
        assert (out == array).all(), name
    assert [[text.decode() for text in row] for row in answer["out_str"]] == texts.tolist()
    rows = generator.normal(size=(2, 3)).astype("float32")
    for version in (0, 1, 3, 12):
        assert (client.predict({"a": rows, "b": rows}, "two", version) == 2 * rows).all()
    # Python numbers: float_val, where the client keeps a scalar; here in a shape that one value fills.
    filled = ovmsclient.make_tensor_proto(rows, shape=[2, 3])
    filled.ClearField("tensor_content")
    filled.float_val.append(7.5)
    assert (client.predict({"a": filled, "b": rows}, "two") == 7.5 + rows).all()


def check_rest_of_it(client: ovmsclient.tfs_compat.grpc.serving_client.GrpcClient) -> None:
    metadata = client.get_model_metadata("linear")
    assert metadata["model_version"] == 1
    assert metadata["inputs"] == {"x": {"shape": [-1, 16], "dtype": "DT_FLOAT"}}
    assert metadata["outputs"] == {
        "label": {"shape": [-1], "dtype": "DT_INT64"},
        "scores": {"shape": [-1, 5], "dtype": "DT_FLOAT"},
    }
    status = client.get_model_status("two")
    assert {version: one["state"] for version, one in status.items()} == dict.fromkeys((1, 3, 12), "AVAILABLE")
    assert list(client.get_model_status("two", 3)) == [3]


def check_errors(client: ovmsclient.tfs_compat.grpc.serving_client.GrpcClient) -> None:
    x = np.zeros((1, 16), "float32")
    for kind, call in (
        (ModelNotFoundError, lambda: client.predict({"x": x}, "nobody")),
        (ModelNotFoundError, lambda: client.predict({"x": x}, "linear", 2)),
        (ModelNotFoundError, lambda: client.get_model_status("nobody")),
        (ModelNotFoundError, lambda: client.get_model_metadata("nobody")),
        (InvalidInputError, lambda: client.predict({"x": x[:, :3]}, "linear")),
        (InvalidInputError, lambda: client.predict({"z": x}, "linear")),
        (InvalidInputError, lambda: client.predict({"x": x.astype("float64")}, "linear")),
    ):
        try:
            call()
        except kind:
            continue
        raise AssertionError(kind)


def check_examples(url: str) -> None:
    with grpc.insecure_channel(url) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "linear"
        for n in range(3):
            feature = request.input.example_list.examples.add().features.feature["x"]
            feature.float_list.value.extend([float(n)] * 16)
        answer = prediction.Classify(request)
        assert answer.model_spec.version.value == 1
        scores = [[one.score for one in row.classes] for row in answer.result.classifications]
        assert len(scores) == 3
        assert np.allclose(scores[2], 2 * np.array(scores[1]), rtol=1e-5)
        wrong = regression_pb2.RegressionRequest(model_spec=request.model_spec, input=request.input)
        error = refused(lambda: prediction.Regress(wrong))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        assert "one number a row" in error.details(), error


def check_reload(client: ovmsclient.tfs_compat.grpc.serving_client.GrpcClient, url: str) -> None:
    """Serve other versions, under labels; then all that was there."""
    rows = np.ones((1, 3), "float32")
    with grpc.insecure_channel(url) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        error = refused(lambda: stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        request = model_management_pb2.ReloadConfigRequest()
        for name in ("identity", "linear", "log", "half", "text", "slow", "two"):
            config = request.config.model_config_list.config.add(name=name, base_path=f"/models/{name}", model_platform="onnx")
        config.model_version_policy.specific.versions.extend([1, 3])
        config.version_labels["stable"] = 1
        config.version_labels["canary"] = 3
        assert stub.HandleReloadConfigRequest(request).status.error_code == 0
        assert sorted(client.get_model_status("two")) == [1, 3]
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for label, version in (("stable", 1), ("canary", 3)):
            ask = predict_pb2.PredictRequest()
            ask.model_spec.name, ask.model_spec.version_label = "two", label
            for name in "ab":
                ask.inputs[name].CopyFrom(ovmsclient.make_tensor_proto(rows))
            assert prediction.Predict(ask).model_spec.version.value == version
        config.version_labels["canary"] = 12
        error = refused(lambda: stub.HandleReloadConfigRequest(request))
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
        config.base_path = "/elsewhere/three"
        error = refused(lambda: stub.HandleReloadConfigRequest(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        config.base_path = ""
        config.ClearField("version_labels")
        config.model_version_policy.all.SetInParent()
        stub.HandleReloadConfigRequest(request)
    assert sorted(client.get_model_status("two")) == [1, 3, 12]


def main(url: str) -> None:
    client = ovmsclient.make_grpc_client(url)
    for check in (check_predict, check_rest_of_it, check_errors):
        check(client)
    check_examples(url)
    check_reload(client, url)


if __name__ == "__main__":
    main(sys.argv[1])
