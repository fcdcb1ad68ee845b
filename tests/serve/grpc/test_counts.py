"""Requests over gRPC are counted by their protocol and by how they ended."""

from __future__ import annotations

import numpy as np

from shipworthy.serve.calls import Status
from shipworthy.serve.statistics import FAILED, REFUSED, SUCCESS, TFS_GRPC, V2_GRPC

from .test_infer import INFER, request
from .test_stream import STREAM, said
from .test_tfs import PREDICTION, content, predict_request

GOOD = {"x": np.ones((2, 16), "float32")}
BAD = {"x": np.ones((2, 15), "float32")}


def counted(server):
    numbers = server.catalog.find("linear").statistics.requests
    return {at: number for at, number in enumerate(numbers) if number}


def test_every_way_of_asking_is_counted_once(fresh):
    for arrays in (GOOD, GOOD, BAD):  # the second is known by its head
        fresh.bytes(INFER, request("linear", arrays).SerializeToString())
    assert counted(fresh) == {SUCCESS + V2_GRPC: 2, REFUSED + V2_GRPC: 1}
    fresh.stream(STREAM, said(1), said(2), said(1, model="nobody"), b"\xff")
    assert counted(fresh) == {SUCCESS + V2_GRPC: 4, REFUSED + V2_GRPC: 1}
    for arrays in (GOOD, BAD):
        made = predict_request("linear", {"x": content(arrays["x"])})
        fresh.bytes(PREDICTION + "Predict", made.SerializeToString())
    assert counted(fresh) == {SUCCESS + V2_GRPC: 4, REFUSED + V2_GRPC: 1, SUCCESS + TFS_GRPC: 1, REFUSED + TFS_GRPC: 1}


def test_a_model_that_cannot_be_run_has_failed(fresh):
    fresh.catalog.find("linear").runner.close()
    assert fresh.bytes(INFER, request("linear", GOOD).SerializeToString()).status is Status.INTERNAL
    made = predict_request("linear", {"x": content(GOOD["x"])})
    assert fresh.bytes(PREDICTION + "Predict", made.SerializeToString()).status is Status.INTERNAL
    assert counted(fresh) == {FAILED + V2_GRPC: 1, FAILED + TFS_GRPC: 1}


def test_an_answer_that_cannot_be_written_is_no_success(fresh):
    live = fresh.catalog.find("linear")
    live.runner.run = lambda _inputs: {"label": np.zeros(2, "int64"), "scores": np.zeros((2, 5), "complex64")}
    call = fresh.bytes(INFER, request("linear", GOOD).SerializeToString())
    assert call.status is Status.INVALID_ARGUMENT
    assert "complex64" in call.text
    fresh.stream(STREAM, said(2))
    made = predict_request("linear", {"x": content(GOOD["x"])})
    told = fresh.bytes(PREDICTION + "Predict", made.SerializeToString()).status
    at = REFUSED if told is Status.INVALID_ARGUMENT else FAILED
    assert counted(fresh) == {REFUSED + V2_GRPC: 2, at + TFS_GRPC: 1}
    assert live.statistics.in_flight == live.statistics.successes_ns == 0
    assert live.statistics.rows == 6, "it was run"


def test_the_time_of_a_request_holds_its_reading_its_wait_and_its_run(fresh):
    fresh.bytes(INFER, request("linear", GOOD).SerializeToString())
    done = fresh.catalog.find("linear").statistics
    assert done.successes_ns > done.queue_ns + done.compute_ns > 0
    assert done.in_flight == 0
