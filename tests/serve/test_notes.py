"""The access log and the spans of a running server: every lane, every outcome, several workers, and what goes wrong."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import math
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from shipworthy.serve import keys
from shipworthy.serve.grpc import messages

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
INFER = "/v2/models/two/infer"
BODY = json.dumps({"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab"]})
ROW = json.dumps({"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}] * 2})
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
FIELDS = {
    *("time", "protocol", "method", "path", "model", "version", "bundle", "outcome", "status", "rows", "bytes_in"),
    *("bytes_out", "queue_ms", "compute_ms", "whole_ms", "trace_id", "span_id", "key"),
}


@dataclass
class Server:
    """A running server, and how to ask it."""

    child: subprocess.Popen[bytes]
    url: str
    grpc: str

    def connect(self) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str | None]:
        """The status, and what the answer says of the trace."""
        with contextlib.closing(self.connect()) as connection:
            return asked(connection, method, path, body, **headers)

    def call(self, path: str, message: bytes, **metadata: str) -> tuple[grpc.StatusCode, str | None]:
        with grpc.insecure_channel(self.grpc) as channel:
            _, call = channel.unary_unary(path).with_call(message, metadata=tuple(metadata.items()), timeout=10)
            return call.code(), dict(call.initial_metadata()).get("traceresponse")


def asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str | None]:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("traceresponse")


@contextmanager
def serving(command: list[str], **environment: str) -> Iterator[Server]:
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment
    )
    assert child.stdout
    try:
        line = child.stdout.readline()
        assert line, child.stderr and child.stderr.read().decode()
        said = json.loads(line)
        yield Server(child, said["url"], said["grpc"])
    finally:
        child.terminate()
        child.wait(30)  # its input stays open meanwhile: told twice, a server ends at once
        child.communicate()


def infer_message(name: str = "two") -> bytes:
    request = messages.load()["inference.ModelInferRequest"](model_name=name)
    for one in "ab":
        request.inputs.add(name=one, datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(bytes(12))
    return bytes(request.SerializeToString())


def predict_message() -> bytes:
    request = messages.load()["tensorflow.serving.PredictRequest"]()
    request.model_spec.name = "two"
    for one in "ab":
        request.inputs[one].dtype = 1
        for size in (1, 3):
            request.inputs[one].tensor_shape.dim.add(size=size)
        request.inputs[one].float_val.extend([1, 2, 3])
    return bytes(request.SerializeToString())


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(path: Path, count: int) -> list[dict[str, Any]]:
    """The lines of a log, once there are so many."""
    deadline = time.monotonic() + 10
    while len(found := written(path) if path.exists() else []) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


# ---------------------------------------------------------------- the access log


def test_every_lane_writes_whole_lines(command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log), access_log_sample=1.0)) as server:
        assert server.ask("POST", INFER, BODY)[0] == 200
        assert server.ask("POST", "/v1/models/two:predict", ROW)[0] == 200
        assert server.ask("POST", INFER, BODY, **{"Transfer-Encoding": "chunked"})[0] == 400  # it is not: the other way
        assert server.call(MODEL_INFER, infer_message())[0] is grpc.StatusCode.OK
        assert server.call("/tensorflow.serving.PredictionService/Predict", predict_message())[0] is grpc.StatusCode.OK
        assert server.ask("GET", "/v2/models/two?secret=1")[0] == 200
        found = wait_for(log, 5)
    for line in found:
        assert set(line) == FIELDS
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["whole_ms"] > 0
        assert (line["trace_id"], line["span_id"], line["key"]) == (None, None, None)
    ran = [line for line in found if line["rows"]]
    assert [(line["protocol"], line["path"], line["status"], line["rows"]) for line in ran] == [
        ("v2_rest", INFER, 200, 1),
        ("tfs_rest", "/v1/models/two:predict", 200, 2),
        ("v2_grpc", MODEL_INFER, 0, 1),
        ("tfs_grpc", "/tensorflow.serving.PredictionService/Predict", 0, 1),
    ]
    for line in ran:
        assert (line["model"], line["version"], line["bundle"]) == ("two", 1, "digest-of-two")
        assert line["outcome"] == "success"
        assert 0 <= line["queue_ms"] < line["whole_ms"]
        assert 0 < line["compute_ms"] < line["whole_ms"]
        assert line["bytes_out"] > 10
    assert ran[0]["bytes_in"] == len(BODY)
    assert ran[2]["bytes_in"] == len(infer_message()) + 5
    assert found[-1]["path"] == "/v2/models/two"
    assert "secret" not in log.read_text()


@pytest.mark.parametrize("sample", [0.0, 0.5])
def test_of_the_answered_a_sample_is_written_and_of_the_others_all(
    command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path, sample: float
) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log), access_log_sample=sample)) as server:
        with contextlib.closing(server.connect()) as connection:
            for _ in range(200):
                assert asked(connection, "POST", INFER, BODY)[0] == 200
            assert asked(connection, "POST", INFER, "{")[0] == 400
            assert asked(connection, "POST", "/v2/models/none/infer", BODY)[0] == 404
            assert asked(connection, "GET", "/nothing")[0] == 404
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            server.call(MODEL_INFER, infer_message("none"))
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            server.call("/none/None", b"")
    found = written(log)
    refused = [(line["protocol"], line["model"], line["status"]) for line in found if line["outcome"] == "refused"]
    assert refused == [
        ("v2_rest", "two", 400),
        ("v2_rest", "none", 404),
        ("http", None, 404),
        ("v2_grpc", None, 5),
        ("grpc", None, 12),
    ]
    answered = len(found) - len(refused)
    assert answered == 0 if not sample else abs(answered - 100) < 5 * math.sqrt(50)


def test_failures_in_a_loop_are_bounded_and_counted(
    command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log))) as server:
        began = time.monotonic()
        with contextlib.closing(server.connect()) as connection:
            for _ in range(1500):
                asked(connection, "POST", INFER, "{")
        seconds = time.monotonic() - began
    found = written(log)
    lines = [line for line in found if "left_out" not in line]
    assert 100 <= len(lines) <= 100 * (seconds + 2)
    assert len(lines) + sum(line["left_out"] for line in found if "left_out" in line) == 1500


def test_lines_of_several_workers_are_all_there_and_never_mix(
    command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=2, access_log=str(log), access_log_sample=1.0)) as server:

        def ask(number: int) -> None:
            with contextlib.closing(server.connect()) as connection:
                for turn in range(100):
                    asked(connection, "POST", INFER, BODY, traceparent=f"00-{number:016x}{turn + 1:016x}-{PARENT}-00")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = written(log)
    assert {line["trace_id"] for line in found} == {f"{n:016x}{t + 1:016x}" for n in range(8) for t in range(100)}
    assert len(found) == 800
    assert len({line["span_id"] for line in found}) == 800


def test_a_log_that_was_moved_is_begun_anew(command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log), access_log_sample=1.0)) as server:
        server.ask("GET", "/first")
        wait_for(log, 1)
        log.rename(old)
        server.ask("GET", "/second")
        (line,) = wait_for(log, 1)
        assert line["path"] == "/second"
    assert [line["path"] for line in written(old)] == ["/first"]


def test_the_names_of_keys_are_written_and_never_the_keys(
    command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    key, entry = keys.make("ann", (), operate=False)
    keys.append(tmp_path / "keys.toml", entry)
    options = {"api_key_file": str(tmp_path / "keys.toml"), "access_log": str(log), "access_log_sample": 1.0}
    with serving(command(("two", 1, models["two"]), workers=1, **options)) as server:
        bearer = f"Bearer {key}"
        for _ in range(2):
            assert server.ask("POST", INFER, BODY, Authorization=bearer)[0] == 200
        assert server.ask("GET", "/v2/models/two", Authorization=bearer)[0] == 200
        assert server.call(MODEL_INFER, infer_message(), authorization=bearer)[0] is grpc.StatusCode.OK
        assert server.ask("POST", INFER, BODY)[0] == 401
        assert server.ask("POST", INFER, BODY, Authorization="Bearer sw_wrong")[0] == 401
    found = [(line["status"], line["key"]) for line in written(log)]
    assert found == [(200, "ann")] * 3 + [(0, "ann"), (401, None), (401, None)]
    assert key not in log.read_text()
    assert "wrong" not in log.read_text()


def test_who_hangs_up_is_written_as_such(command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    body = json.dumps({"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [400]}]})
    with serving(command(("slow", 1, models["slow"]), workers=1, access_log=str(log))) as server:
        with contextlib.closing(server.connect()) as connection:
            connection.request("POST", "/v2/models/slow/infer", body)
            time.sleep(0.3)
        (line,) = wait_for(log, 1)
    assert (line["outcome"], line["model"], line["status"]) == ("cancelled", "slow", 0)


def test_a_stream_is_one_line(command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log), access_log_sample=1.0)) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers = list(stream(iter([infer_message()] * 3), timeout=10, metadata=[("traceparent", TRACEPARENT)]))
            assert len(answers) == 3
        (line,) = wait_for(log, 1)
    assert (line["protocol"], line["model"], line["outcome"], line["trace_id"]) == ("v2_grpc", "two", "success", TRACE)
    assert line["bytes_in"] == 3 * (len(infer_message()) + 5)
    assert line["bytes_out"] == sum(map(len, answers))


def test_each_request_has_its_own_trace_however_it_is_read(
    command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path
) -> None:
    options = {"access_log": str(tmp_path / "access.log")}
    with serving(command(("two", 1, models["two"]), workers=1, **options)) as server:
        with contextlib.closing(server.connect()) as connection:
            assert asked(connection, "POST", INFER, BODY) == (200, None)  # from now on this head is known
            for method, path in (("GET", "/v2"), ("POST", "/v2/models/none/infer"), ("POST", INFER)):
                assert asked(connection, method, path, BODY, traceparent=TRACEPARENT)[1]
                assert asked(connection, "POST", INFER, BODY) == (200, None)
        with contextlib.closing(server.connect()) as connection:
            connection.connect()
            connection.sock.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\ntraceparent: {TRACEPARENT}\r\n".encode())
            time.sleep(0.1)
            connection.sock.sendall(f"Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
            assert TRACE.encode() in connection.sock.recv(65536)


def test_errors_say_the_trace_too(command: Callable[..., list[str]], models: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serving(command(("two", 1, models["two"]), workers=1, access_log=str(log))) as server:
        said = [
            server.ask("POST", INFER, "{", traceparent=TRACEPARENT),
            server.ask("GET", "/nothing", traceparent=TRACEPARENT),
        ]
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(MODEL_INFER)(b"no message", timeout=10, metadata=[("traceparent", TRACEPARENT)])
        metadata = dict([*raised.value.initial_metadata(), *raised.value.trailing_metadata()])
        found = wait_for(log, 3)
    assert [status for status, _ in said] == [400, 404]
    for response, line in zip([*(one for _, one in said), metadata["traceresponse"]], found, strict=True):
        assert response == f"00-{TRACE}-{line['span_id']}-00"  # no spans are sent: nothing is recorded here
        assert line["trace_id"] == TRACE


@pytest.mark.parametrize("path", ["/dev/full", "-"])
def test_what_cannot_be_written_fails_and_slows_no_request(
    command: Callable[..., list[str]], models: dict[str, Path], path: str
) -> None:
    """A full disk; and standard error with nobody who reads it: the pipe holds 64 kB, the lines are several times that."""
    with serving(command(("two", 1, models["two"]), workers=1, access_log=path, access_log_sample=1.0)) as server:
        with contextlib.closing(server.connect()) as connection:
            slowest = 0.0
            for _ in range(600):
                began = time.monotonic()
                assert asked(connection, "POST", INFER, BODY)[0] == 200
                slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.6)
            assert asked(connection, "POST", INFER, BODY)[0] == 200
        assert slowest < 1
        began = time.monotonic()
        server.child.terminate()
        server.child.wait(20)
        assert server.child.returncode == 0
        assert time.monotonic() - began < 8
        assert server.child.stderr
        said = server.child.stderr.read()
    if path == "/dev/full":
        assert said.count(b"cannot be written") == 1
    else:
        assert said.count(b'"path":"/v2/models/two/infer"') > 50


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"access_log": "/none/at/all"}, b"access log"),
        ({"otlp_endpoint": "collector:4318"}, b"otlp_endpoint"),
        ({"otlp_endpoint": "ftp://collector"}, b"otlp_endpoint"),
        ({"otlp_endpoint": "http://"}, b"otlp_endpoint"),
    ],
    ids=["no folder", "no scheme", "another scheme", "no host"],
)
def test_what_cannot_be_is_refused_at_the_start(
    command: Callable[..., list[str]], models: dict[str, Path], setting: dict[str, str], says: bytes
) -> None:
    done = subprocess.run(
        command(("two", 1, models["two"]), workers=1, **setting),
        capture_output=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


# ---------------------------------------------------------------- spans


class Collector:
    """Takes spans over HTTP; ``status`` is what it answers, ``held`` that it does not answer."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[tuple[str, str | None]] = []
        self.got: queue.Queue[Any] = queue.Queue()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append((self.path, self.headers["x-tenant"]))
                if outer.status == 200:
                    outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        return [
            span for one in self.requests for all_ in one.resource_spans for some in all_.scope_spans for span in some.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_spans_join_the_callers_trace_on_every_lane(
    command: Callable[..., list[str]], models: dict[str, Path], collector: Collector, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    options = {"otlp_endpoint": collector.url, "trace_sample": 0.0, "access_log": str(log), "access_log_sample": 1.0}
    asks: dict[str, Callable[[Server, str], Any]] = {
        "POST /v2/models/{model}/infer": lambda server, parent: server.ask("POST", INFER, BODY, traceparent=parent),
        "POST /v1/models/{model}:predict": lambda server, parent: server.ask(
            "POST", "/v1/models/two:predict", ROW, traceparent=parent
        ),
        "POST /v2/models/{model}/versions/{version}/infer": lambda server, parent: server.ask(
            "POST", "/v2/models/two/versions/1/infer", BODY, traceparent=parent, Expect="100-continue"
        ),
        "inference.GRPCInferenceService/ModelInfer": lambda server, parent: server.call(
            MODEL_INFER, infer_message(), traceparent=parent, tracestate="a=1,b=2"
        ),
        "tensorflow.serving.PredictionService/Predict": lambda server, parent: server.call(
            "/tensorflow.serving.PredictionService/Predict", predict_message(), traceparent=parent
        ),
    }
    before = time.time_ns()
    with serving(
        command(("two", 1, models["two"]), workers=1, **options),
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=me",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        OTEL_SERVICE_NAME="digits-server",
    ) as server:
        responses = {}
        for number, (name, ask) in enumerate(asks.items(), 1):
            for turn in (1, 2):  # the first is read by the parser, the second known by its bytes
                _, responses[name, turn] = ask(server, f"00-{number:031x}{turn}-{PARENT}-01")
            assert ask(server, f"00-{TRACE}-{PARENT}-00")[1].endswith("-00")
            assert ask(server, "malformed")[1] is None
    after = time.time_ns()
    assert {path for path, _ in collector.paths} == {"/v1/traces"}
    assert {tenant for _, tenant in collector.paths} == {"me"}
    resource = plain(collector.requests[0].resource_spans[0].resource.attributes)
    assert resource["service.name"] == "digits-server"
    assert resource["service.version"]
    assert resource["deployment.environment.name"] == "test"
    spans = {span.span_id.hex(): span for span in collector.spans()}
    lines = {line["span_id"]: line for line in written(log)}
    for number, name in enumerate(asks, 1):
        for turn in (1, 2):
            version, trace_id, span_id, flags = responses[name, turn].split("-")
            assert (version, trace_id, flags) == ("00", f"{number:031x}{turn}", "01")
            span = spans.pop(span_id)
            assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (name, trace_id, PARENT)
            assert span.kind == span.SPAN_KIND_SERVER
            assert before < span.start_time_unix_nano < span.end_time_unix_nano < after
            said = plain(span.attributes)
            assert (said["shipworthy.model.name"], said["shipworthy.bundle"]) == ("two", "digest-of-two")
            if "/v" in name:
                assert (said["http.request.method"], said["http.response.status_code"]) == ("POST", 200)
                assert (said["url.scheme"], said["url.path"], f"POST {said['http.route']}") == (
                    "http",
                    name[5:].replace("{model}", "two").replace("{version}", "1"),
                    name,
                )
            else:
                assert (said["rpc.system.name"], said["rpc.method"], said["rpc.response.status_code"]) == ("grpc", name, "OK")
            within = {one.name: one for one in spans.values() if one.parent_span_id == span.span_id}
            assert set(within) == {"queue", "compute"}
            ends = [span.start_time_unix_nano]
            for part in ("queue", "compute"):
                ends += [within[part].start_time_unix_nano, within[part].end_time_unix_nano]
                assert within[part].trace_id == span.trace_id
                del spans[within[part].span_id.hex()]
            assert [*ends, span.end_time_unix_nano] == sorted([*ends, span.end_time_unix_nano])
            line = lines[span_id]
            assert line["trace_id"] == trace_id
            assert abs(line["compute_ms"] * 1e6 - (ends[4] - ends[3])) < 1000
            assert span.trace_state == ("a=1,b=2" if "ModelInfer" in name else "")
    assert not spans, "traces that their callers do not record"


def test_without_a_parent_a_share_is_traced_and_a_failure_is_an_error(
    command: Callable[..., list[str]], models: dict[str, Path], collector: Collector
) -> None:
    settings = {"otlp_endpoint": collector.url, "trace_sample": 1.0}
    with serving(command(("two", 1, models["two"]), workers=2, **settings)) as server:
        assert all(server.ask("POST", INFER, BODY)[0] == 200 for _ in range(20))
        server.ask("POST", INFER, "{")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            server.call("/none/None", b"")
    resource = plain(collector.requests[0].resource_spans[0].resource.attributes)
    assert resource["service.name"] == "shipworthy"
    roots = [span for span in collector.spans() if not span.parent_span_id]
    assert len(roots) == len({span.trace_id for span in roots}) == 22
    wrong = {span.name: span.status.code for span in roots if span.name != "POST /v2/models/{model}/infer" or span.status.code}
    assert wrong == {"grpc": 2}


def test_a_collector_that_is_dead_or_refuses_slows_no_request_and_no_end(
    command: Callable[..., list[str]], models: dict[str, Path], collector: Collector
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and never answers
        for url in (f"http://127.0.0.1:{deaf.getsockname()[1]}", collector.url):
            collector.status = 503
            settings = {"otlp_endpoint": url, "trace_sample": 1.0}
            with serving(command(("two", 1, models["two"]), workers=1, **settings)) as server:
                with contextlib.closing(server.connect()) as connection:
                    for _ in range(100):
                        began = time.monotonic()
                        assert asked(connection, "POST", INFER, BODY)[0] == 200
                        assert time.monotonic() - began < 0.5
                        time.sleep(0.01)
                began = time.monotonic()
                server.child.send_signal(signal.SIGTERM)
                assert server.child.wait(20) == 0
                assert time.monotonic() - began < 8
                assert server.child.stderr
                said = server.child.stderr.read().splitlines()
                assert len(said) <= 1, said
    assert collector.paths


def test_spans_that_nobody_takes_are_said_to_be_lost_once(
    command: Callable[..., list[str]], models: dict[str, Path], collector: Collector
) -> None:
    settings = {"otlp_endpoint": collector.url, "trace_sample": 1.0}
    with serving(command(("two", 1, models["two"]), workers=1, **settings)) as server:
        for status, count in ((400, 3), (200, 1)):
            collector.status = status
            for _ in range(count):
                before = len(collector.paths)
                assert server.ask("POST", INFER, BODY)[0] == 200
                deadline = time.monotonic() + 10
                while len(collector.paths) == before:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
        server.child.send_signal(signal.SIGTERM)
        assert server.child.wait(20) == 0
        assert server.child.stderr
        lost, again = server.child.stderr.read().decode().splitlines()
    assert "spans are lost" in lost
    assert "sent again; those of 3 requests are lost" in again
