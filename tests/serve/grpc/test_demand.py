"""Over gRPC, too, a model that rests is loaded because somebody asks for a prediction or its metadata, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipworthy.records import Target
from shipworthy.serve.calls import Status
from shipworthy.serve.source import Offer, ServedModel

from .conftest import INFERENCE, Server, close, new

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"


@pytest.fixture
def server(models: dict[str, Path]) -> Iterator[Server]:
    """A model that is served, and one that rests."""
    made = Server({"two": models["two"]})
    versions = tuple(ServedModel("asleep", number, models["two"], Target()) for number in (1, 3))
    made.catalog.rest(Offer(versions, 3, {"stable": 1}))
    yield made
    close(made)


def spec(version: int = 0) -> dict[str, Any]:
    return {"name": "asleep", **({"version": {"value": version}} if version else {})}


@pytest.mark.parametrize(
    ("path", "takes", "values"),
    [
        (INFERENCE + "ModelInfer", "inference.ModelInferRequest", {"model_name": "asleep"}),
        (INFERENCE + "ModelInfer", "inference.ModelInferRequest", {"model_name": "asleep", "model_version": "stable"}),
        (INFERENCE + "ModelMetadata", "inference.ModelMetadataRequest", {"name": "asleep", "version": "3"}),
        (PREDICTION + "Predict", "tensorflow.serving.PredictRequest", {"model_spec": spec()}),
        (PREDICTION + "Classify", "tensorflow.serving.ClassificationRequest", {"model_spec": spec(1)}),
        (PREDICTION + "GetModelMetadata", "tensorflow.serving.GetModelMetadataRequest", {"model_spec": spec()}),
    ],
)
def test_who_asks_for_a_model_that_rests_is_told_to_come_back_and_has_it_loaded(
    server: Server, path: str, takes: str, values: dict[str, Any]
) -> None:
    call = server.bytes(path, new(takes, **values).SerializeToString())
    assert call.status is Status.UNAVAILABLE
    assert "'asleep' is not loaded" in call.text
    assert server.wanted == ["asleep"]


def test_a_stream_goes_on_after_a_model_that_rests(server: Server) -> None:
    request = new("inference.ModelInferRequest", model_name="asleep").SerializeToString()
    call = server.stream(INFERENCE + "ModelStreamInfer", request)
    assert call.status is Status.OK
    assert "'asleep' is not loaded" in new("inference.ModelStreamInferResponse").FromString(call.sent[0]).error_message
    assert server.wanted == ["asleep"]


def test_looking_does_not_wake(server: Server) -> None:
    assert not server.inference("ModelReady", name="asleep").ready
    assert not server.inference("ModelReady", name="asleep", version="7").ready
    assert server.inference("ModelReady", name="two").ready
    for wanted, numbers in ((spec(), [3, 1]), (spec(1), [1])):
        status = server.ask(MODEL + "GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse", model_spec=wanted)
        assert [(one.version, one.State.Name(one.state)) for one in status.model_version_status] == [
            (number, "START") for number in numbers
        ]
    for path, takes, values in (
        (MODEL + "GetModelStatus", "tensorflow.serving.GetModelStatusRequest", {"model_spec": spec(7)}),
        (INFERENCE + "ModelInfer", "inference.ModelInferRequest", {"model_name": "asleep", "model_version": "7"}),
    ):
        assert server.bytes(path, new(takes, **values).SerializeToString()).status is Status.NOT_FOUND
    stats = new("inference.ModelStatisticsRequest", name="asleep").SerializeToString()
    assert server.bytes(INFERENCE + "ModelStatistics", stats).status is Status.UNAVAILABLE
    index = {(one.name, one.version): one.state for one in server.inference("RepositoryIndex").models}
    assert index == {("two", "1"): "READY"}, "the source of this test has no other"
    assert server.wanted == []
