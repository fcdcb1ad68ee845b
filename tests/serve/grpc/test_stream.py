from __future__ import annotations

import numpy as np
import pytest

from shipworthy.serve.batcher import Plan
from shipworthy.serve.calls import Status
from shipworthy.serve.grpc.answers import Writer

from .conftest import INFERENCE, Fake, Server, close, new
from .test_infer import arrays_of, request

STREAM = INFERENCE + "ModelStreamInfer"


def said(rows, model="linear", **more):
    return request(model, {"x": np.full((rows, 16), rows, "float32")}, id=str(rows), **more).SerializeToString()


def read(call):
    return [new("inference.ModelStreamInferResponse").FromString(message) for message in call.sent]


@pytest.mark.parametrize("threads", [0, 4])
def test_answers_come_in_order_and_errors_in_their_place(models, threads):
    server = Server({"linear": models["linear"]}, Plan(max_rows=2, threads=threads))
    call = server.stream(STREAM, said(3), said(1, priority=("int64_param", 1)), said(2, model="nobody"), b"\xff", said(5))
    assert call.status is Status.OK
    first, second, third, fourth, fifth = read(call)
    for rows, answer in ((3, first), (1, second), (5, fifth)):
        assert answer.error_message == ""
        assert answer.infer_response.id == str(rows)
        assert arrays_of(answer.infer_response)["scores"].shape == (rows, 5)
    assert "no model 'nobody'" in third.error_message
    assert "cannot be read" in fourth.error_message
    assert third.HasField("infer_response")
    close(server)


def test_an_error_of_the_model_names_the_request(fresh, monkeypatch):
    monkeypatch.setattr(Writer, "write", lambda *_: 1 / 0)
    (answer,) = read(fresh.stream(STREAM, said(2)))
    assert "internal error" in answer.error_message
    assert (answer.infer_response.id, answer.infer_response.model_name) == ("2", "linear")


def test_an_error_of_the_runner_names_the_request(fresh):
    fresh.catalog.find("linear").runner.close()
    (answer,) = read(fresh.stream(STREAM, said(2)))
    assert "the runner is closed" in answer.error_message
    assert answer.infer_response.id == "2"


def test_a_stream_without_requests_ends(server):
    call = server.stream(STREAM)
    assert (call.status, call.sent) == (Status.OK, [])


def test_a_stream_stays_open_until_the_client_ends_it(server):
    call = server.stream(STREAM, said(1), half_close=False)
    assert len(call.sent) == 1
    assert call.status is None


def test_the_last_answer_is_marked_when_asked_for(server):
    asked = {"triton_enable_empty_final_response": ("bool_param", True)}
    marked, plain = read(server.stream(STREAM, said(2, **asked), said(3)))
    assert marked.infer_response.parameters["triton_final_response"].bool_param
    assert arrays_of(marked.infer_response)["scores"].shape == (2, 5)
    assert not plain.infer_response.parameters


def test_a_client_that_has_gone_takes_no_run(fresh):
    call = Fake()

    async def begin():
        streaming = fresh.services.streaming[STREAM](call)
        streaming.message(said(1))
        streaming.message(said(2))
        call.on_cancel()

    fresh.loop.run_until_complete(begin())
    fresh.stream(STREAM, said(3))
    assert call.sent == []
    assert fresh.catalog.find("linear").statistics.cancelled == 2
