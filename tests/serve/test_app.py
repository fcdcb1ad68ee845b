"""The routes, spoken to over a socket of a real server."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import logging
import socket
import time
import urllib.parse
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from shipworthy.errors import Failed
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import app, exchange, extensions
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.fleet import Fleet
from shipworthy.serve.source import Given
from shipworthy.serve.statistics import Statistics


def call(url: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def get(url: str, path: str) -> tuple[int, Any]:
    status, headers, body = call(url, "GET", path)
    assert headers["content-type"] == "application/json"
    return status, json.loads(body)


def post(url: str, path: str, plain: Any) -> tuple[int, Any]:
    status, _, body = call(url, "POST", path, json.dumps(plain))
    return status, json.loads(body)


def tensor(name: str, values: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": list(np.shape(values)), "datatype": datatype, "data": values}


def test_health_metadata_and_the_list(url: str) -> None:
    for path in ("/v2", "/v2/"):
        status, plain = get(url, path)
        assert (status, plain["name"], plain["extensions"]) == (200, "shipworthy", list(extensions.NAMES))
        assert plain["version"]
    assert get(url, "/v2/health/live") == (200, {"live": True})
    assert get(url, "/v2/health/ready") == (200, {"ready": True})
    status, plain = get(url, "/v2/models")
    assert (status, sorted(plain["models"])) == (200, ["half", "identity", "linear", "log", "slow", "text", "two"])


def test_model_metadata_with_and_without_a_version(url: str) -> None:
    wanted = {
        "name": "two",
        "versions": ["1", "3", "12"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 3]} for name in "ab"],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        "properties": {"bundle": "digest-of-two"},
    }
    for path in ("/v2/models/two", "/v2/models/two/versions/3", "/v2/models/t%77o"):
        assert get(url, path) == (200, wanted)
        assert get(url, path + "/ready") == (200, {"name": "two", "ready": True})


def test_infer_answers_by_the_version_asked_for_and_by_the_highest_otherwise(url: str) -> None:
    plain = {"id": "é1", "inputs": [tensor("b", [[1, 2, 3]]), tensor("a", [[10.5, 20, 30]])]}
    for path, version in (("/v2/models/two/versions/3/infer", "3"), ("/v2/models/two/infer", "12")):
        status, answer = post(url, path, plain)
        assert status == 200
        assert answer == {
            "model_name": "two",
            "model_version": version,
            "id": "é1",
            "outputs": [{"name": "y", "shape": [1, 3], "datatype": "FP32", "data": [11.5, 22.0, 33.0]}],
        }


def test_binary_answers_carry_the_header_and_plain_ones_do_not(url: str) -> None:
    values = np.array([[1, 2, 3]], np.float16)
    head = json.dumps(
        {
            "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP16", "parameters": {"binary_data_size": 6}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    body = head + values.tobytes()
    status, headers, answer = call(url, "POST", "/v2/models/half/infer", body, inference_header_content_length=str(len(head)))
    length = int(headers["inference-header-content-length"])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert json.loads(answer[:length])["outputs"][0]["parameters"] == {"binary_data_size": 6}
    assert answer[length:] == values.tobytes()
    status, headers, _ = call(url, "POST", "/v2/models/log/infer", json.dumps({"inputs": [tensor("x", [[1, 2, 3]])]}))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert "inference-header-content-length" not in headers


def test_a_raw_body_is_answered_in_bytes(url: str) -> None:
    body = np.ones((2, 3), np.float32).tobytes()
    status, headers, answer = call(url, "POST", "/v2/models/log/infer", body, Inference_Header_Content_Length="0")
    assert status == 200
    assert answer[int(headers["inference-header-content-length"]) :] == bytes(24)


@pytest.mark.parametrize("value", [-1, 0], ids=["NaN", "infinity"])
@pytest.mark.parametrize("headers", [{}, {"expect": "100-continue"}], ids=["fast", "ordinary"])
def test_what_json_does_not_have_is_refused_and_bytes_carry_it(url: str, value: int, headers: dict[str, str]) -> None:
    ask = {"inputs": [tensor("x", [[value, 1, 1]])]}
    status, _, answer = call(url, "POST", "/v2/models/log/infer", json.dumps(ask), **headers)
    assert status == 400
    for part in ("tensor 'y'", "NaN or infinity", "binary_data: true"):
        assert part in json.loads(answer)["error"]
    ask["parameters"] = {"binary_data_output": True}
    status, more, answer = call(url, "POST", "/v2/models/log/infer", json.dumps(ask), **headers)
    assert status == 200
    numbers = np.frombuffer(answer[int(more["inference-header-content-length"]) :], np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.testing.assert_array_equal(numbers, np.log(np.array([value, 1, 1], np.float32)))


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v2/models/nope", 404, "two"),
        ("GET", "/v2/models/nope/ready", 404, "two"),
        ("POST", "/v2/models/nope/infer", 404, "two"),
        ("GET", "/v2/models/two/versions/2", 404, "1, 3, 12"),
        ("GET", "/v2/models/two/versions/03", 404, "1, 3, 12"),
        ("POST", "/v2/models/two/versions/x/infer", 404, "1, 3, 12"),
        ("GET", "/", 404, "/"),
        ("GET", "/v2/models/", 404, "/v2/models/"),
        ("GET", "/v2/models/two/infer", 405, "GET"),
        ("DELETE", "/v2/models/two", 405, "DELETE"),
        ("POST", "/v2/health/live", 405, "POST"),
        ("POST", "/v2/models/two/infer", 400, "empty"),
    ],
)
def test_wrong_calls_get_a_status_and_one_sentence(url: str, method: str, path: str, status: int, said: str) -> None:
    answered, headers, body = call(url, method, path)
    assert (answered, headers["content-type"]) == (status, "application/json")
    assert list(json.loads(body)) == ["error"]
    assert said in json.loads(body)["error"]
    assert ("allow" in headers) == (status == 405)


def test_a_bad_request_is_400_and_names_found_and_expected(url: str) -> None:
    status, plain = post(url, "/v2/models/two/infer", {"inputs": [tensor("a", [[1, 2]]), tensor("b", [[1, 2, 3]])]})
    assert status == 400
    assert plain["error"] == "tensor 'a' does not fit the model; found: FP32 [1, 2]; expected: FP32 [-1, 3]"
    status, _, body = call(url, "POST", "/v2/models/two/infer", b"{}", inference_header_content_length="3")
    assert status == 400
    assert "Inference-Header-Content-Length" in json.loads(body)["error"]


def test_a_body_in_an_encoding_we_do_not_read_is_415_and_a_broken_one_400(url: str) -> None:
    for encoding, expected in (("br", 415), ("gzip, br", 415), ("gzip", 400), ("deflate", 400)):
        status, _, body = call(url, "POST", "/v2/models/two/infer", b"\x1f\x8b", content_encoding=encoding)
        assert status == expected
        assert json.loads(body)["error"]


def test_a_body_that_expands_above_the_limit_is_413(url: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    status, _, body = call(url, "POST", "/v2/models/two/infer", bomb, content_encoding="gzip")
    assert status == 413
    assert json.loads(body)["error"]


# ---------------------------------------------------------------- the limit of 1 MB


def test_a_body_above_the_limit_is_413_and_one_at_the_limit_is_read(url: str) -> None:
    status, headers, body = call(url, "POST", "/v2/models/two/infer", b" " * 1_000_001)
    assert (status, headers["connection"]) == (413, "close")
    assert "1 MB" in json.loads(body)["error"]
    assert call(url, "POST", "/v2/models/two/infer", b" " * 1_000_000)[0] == 400


def test_a_chunked_body_above_the_limit_is_413_while_it_is_still_being_sent(url: str) -> None:
    status, _, body = call(url, "POST", "/v2/models/two/infer", (b" " * 100_000 for _ in range(30)))
    assert status == 413
    assert "1 MB" in json.loads(body)["error"]


def speak(url: str, text: bytes) -> socket.socket:
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(text)
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_length_above_the_limit_is_answered_before_the_body_comes(url: str) -> None:
    began = time.monotonic()
    answer = read_all(
        speak(url, b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n")
    )
    # The parser of HTTP refuses a length of more than 64 bits itself.
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    answer = read_all(speak(url, b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\nabc"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer
    assert time.monotonic() - began < 5


def test_an_endless_chunked_body_is_cut_off(url: str) -> None:
    head = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    began = time.monotonic()
    with speak(url, head) as connection, pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012
        while time.monotonic() - began < 8:
            connection.sendall(chunk)
    assert time.monotonic() - began < 5


def test_callers_who_hang_up_early_leave_the_server_alive(url: str) -> None:
    half = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"
    whole = json.dumps({"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [20]}]}).encode()
    long = b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(whole), whole)
    for text in (half, long, b"GARBAGE\r\n\r\n", b"", b"GET /v2"):
        speak(url, text).close()
    assert get(url, "/v2/health/ready") == (200, {"ready": True})


# ---------------------------------------------------------------- what nobody foresaw


class Broken:
    """A runner with a bug."""

    signature = Signature(inputs=(TensorSpec(name="x", dtype="int8", shape=(None,)),), outputs=())

    def run(self, _inputs: Any) -> Any:
        message = "secret path /etc"
        raise RuntimeError(message)

    def close(self) -> None: ...


def test_a_bug_is_a_short_500_and_the_error_goes_on_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[dict[str, Any]] = []
    body = json.dumps({"inputs": [tensor("x", [1], "INT8")]}).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = "/v2/models/m/infer"
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    catalog, statistics = Catalog(), Statistics()
    catalog.serve([Live("m", 1, "", Broken(), Batcher(Broken(), Plan(), statistics), statistics)])
    asyncio.run(app.build(catalog, Fleet(asyncio.sleep, Given([]), catalog), 1000)(scope, receive, send))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"]) == {"error": "internal error: the server's log says more"}
    assert "secret path /etc" in caplog.text
    assert statistics.failures == 1


def test_a_failure_of_ours_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> Any:
        scope = {"type": "http", "method": "POST", "path": "/p", "headers": [], "query_string": b""}
        return await exchange.of_ours(Request(scope), Failed("the disk is full"))

    with caplog.at_level(logging.ERROR):
        response = asyncio.run(ask())
    assert (response.status_code, response.body) == (500, b'{"error":"the disk is full"}')
    assert "POST /p: the disk is full" in caplog.text
