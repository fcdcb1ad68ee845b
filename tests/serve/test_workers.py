"""Several workers behind one socket: the load is spread, a worker that dies is replaced, and nothing is left behind."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest

from shipworthy.errors import Failed
from shipworthy.serve import oip
from shipworthy.serve.client import Client

Start = Callable[..., AbstractContextManager[str]]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def supervisor() -> int:
    """The server that this process started last."""
    *_, pid = (one for one in children(os.getpid()) if b"serve_script" in Path(f"/proc/{one}/cmdline").read_bytes())
    return pid


def cpu(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wait_for_workers(pid: int, count: int, seconds: float = 10.0) -> list[int]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if len(children(pid)) == count:
            return children(pid)
        time.sleep(0.01)
    pytest.fail(f"{len(children(pid))} workers instead of {count}")


def ask(client: Client, value: float = 1.0) -> float:
    rows = {name: np.full((1, 3), value, np.float32) for name in "ab"}
    return float(client.infer("two", 1, rows, binary=False)["y"][0, 0])


def test_eight_kept_connections_are_spread_over_two_workers(models: dict[str, Path], start: Start) -> None:
    with start(("two", 1, models["two"]), workers=2) as url, ExitStack() as stack:
        workers = wait_for_workers(supervisor(), 2)
        time.sleep(0.3)
        clients = [stack.enter_context(Client(url)) for _ in range(8)]
        for client in clients:
            ask(client)
        before = [cpu(pid) for pid in workers]
        for turn in range(1500):
            assert ask(clients[turn % 8], turn) == 2 * turn
        used = [cpu(pid) - first for pid, first in zip(workers, before, strict=True)]
    assert max(used) <= 0.65 * sum(used), used


def test_a_worker_that_is_killed_is_replaced_and_the_others_answer(models: dict[str, Path], start: Start) -> None:
    with start(("two", 1, models["two"]), workers=2) as url:
        server = supervisor()
        killed, other = wait_for_workers(server, 2)
        time.sleep(0.3)
        os.kill(killed, signal.SIGKILL)
        time.sleep(0.05)  # what was handed to it before anybody noticed is lost, and told: the connection is reset
        for _ in range(20):
            with Client(url) as client:
                assert ask(client) == 2
        workers = wait_for_workers(server, 2, 3.0)
        assert other in workers
        assert killed not in workers
    assert not Path(f"/proc/{server}").exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_end_when_their_supervisor_is_killed(models: dict[str, Path], start: Start) -> None:
    with ExitStack() as stack:
        stack.enter_context(start(("two", 1, models["two"]), workers=2))
        server = supervisor()
        workers = wait_for_workers(server, 2)
        os.kill(server, signal.SIGKILL)
        time.sleep(0.5)
        with pytest.raises(Failed, match="ended by itself"):
            stack.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def post(url: str, body: bytes, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    request = urllib.request.Request(url, body, headers={key.replace("_", "-"): value for key, value in headers.items()})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers, answer.read()


def test_tensorflow_serving_and_compression_over_the_wire(url: str) -> None:
    rows = [{"a": [1, 2, 3], "b": [1, 1, 1]}]
    _, _, answer = post(f"{url}/v1/models/two:predict", json.dumps({"instances": rows}).encode())
    assert json.loads(answer) == {"predictions": [[2, 3, 4]]}
    _, _, answer = post(
        f"{url}/v1/models/two/versions/3:predict", json.dumps({"inputs": {"a": [[1, 1, 1]], "b": [[2, 2, 2]]}}).encode()
    )
    assert json.loads(answer) == {"outputs": [[3, 3, 3]]}
    with urllib.request.urlopen(f"{url}/v1/models/two", timeout=10) as status:
        states = json.load(status)["model_version_status"]
    assert sorted((one["version"], one["state"]) for one in states) == [
        ("1", "AVAILABLE"),
        ("12", "AVAILABLE"),
        ("3", "AVAILABLE"),
    ]
    data = np.arange(600, dtype=float).tolist()
    tensors = [{"name": name, "shape": [200, 3], "datatype": "FP32", "data": data} for name in "ab"]
    body = gzip.compress(json.dumps({"inputs": tensors}).encode())
    _, headers, answer = post(f"{url}/v2/models/two/infer", body, Content_Encoding="gzip", Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer))["outputs"][0]["data"] == (2 * np.arange(600)).tolist()
    _, _, answer = post(f"{url}/v2/repository/index", b"{}")
    assert {"name": "two", "version": "12", "state": "READY", "reason": ""} in json.loads(answer)


def test_the_document_and_the_page_speak_of_what_is_served(url: str) -> None:
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    assert document["openapi"] == "3.1.0"
    readable = [path for path, item in document["paths"].items() if "get" in item]
    assert len(readable) > 20
    for path in readable:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            assert answer.status == 200, path
    with urllib.request.urlopen(f"{url}/docs", timeout=10) as answer:
        page = answer.read().decode()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "two" in page
    assert url in page


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/v1/models/nobody:predict", b'{"instances": [1]}', 404, "nobody"),
        ("/v1/models/two/versions/99:predict", b'{"instances": [1]}', 404, "99"),
        ("/v1/models/two/labels/stable:predict", b'{"instances": [1]}', 404, "stable"),
        ("/v1/models/two:predict", b'{"instances": []}', 400, ""),
        ("/v1/models/two:predict", b"{", 400, ""),
        ("/v1/models/two:frobnicate", b"{}", 400, ""),
        ("/v2/models/two/infer", b'{"inputs": []}', 400, "a: float32"),
    ],
)
def test_what_is_wrong_is_said_in_the_form_that_clients_read(url: str, path: str, body: bytes, status: int, part: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(url + path, body)
    assert caught.value.code == status
    error = json.load(caught.value)["error"]
    assert part in error


@pytest.mark.parametrize("accept", ["", "gzip", "deflate, gzip;q=0.1", "br"])
@pytest.mark.parametrize("rows", [1, 200, 0])
@pytest.mark.parametrize("kind", ["json", "binary", "rows", "columns"])
def test_both_lanes_answer_the_same(url: str, kind: str, rows: int, accept: str) -> None:
    array = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    headers = {"Accept-Encoding": accept or "identity"}
    path = "/v2/models/two/infer" if kind in {"json", "binary"} else "/v1/models/two:predict"
    if kind in {"json", "binary"}:
        body, json_bytes = oip.request_body({"a": array, "b": array}, binary=kind == "binary")
        headers |= {oip.LENGTH_HEADER: str(json_bytes)} if json_bytes else {}
    elif kind == "rows":
        body = json.dumps({"instances": [{"a": row, "b": row} for row in array.tolist()]}).encode()
    else:
        body = json.dumps({"inputs": {"a": array.tolist(), "b": array.tolist()}}).encode()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    answers = []
    for chunked in (False, False, True):  # read by the parser, known by its head, and the ordinary way
        connection.request("POST", path, iter([body]) if chunked else body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        said = {name.lower(): value for name, value in answer.getheaders() if name.lower() != "date"}
        answers.append((answer.status, said, answer.read()))
    connection.close()
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == (200 if rows else 400)


def test_pipelined_requests_are_answered_in_their_order(url: str) -> None:
    import socket  # noqa: PLC0415

    host, port = url.removeprefix("http://").split(":")
    asks = []
    for value in range(5):
        data = [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [value] * 3} for name in "ab"]
        body = json.dumps({"inputs": data, "id": str(value)}).encode()
        asks.append(b"POST /v2/models/two/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        asks.append(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"".join(asks) + b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    assert said.count(b"HTTP/1.1 200 OK") == 11
    order = [said.index(b'"id":"%d"' % value) for value in range(5)]
    assert order == sorted(order)
