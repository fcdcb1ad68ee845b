"""The conformance suite against servers that are wrong, hang, go down or are not there; and its verb."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from shipworthy.errors import Refused
from shipworthy.testing.conformance import Examination, Server, examine, markdown

METADATA = {
    "name": "toy",
    "platform": "toy",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Toy(BaseHTTPRequestHandler):
    """The protocol as a beginner writes it: the answer is the input. Subclasses go wrong somewhere."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        known: dict[str, Any] = {
            "/v2": {"name": "toy", "version": "1", "extensions": []},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            "/v2/models": {"models": ["toy"]},
            "/v2/models/toy": METADATA,
            "/v2/models/toy/ready": {"name": "toy", "ready": True},
        }
        if self.path in known:
            self.say(200, known[self.path])
        else:
            self.say(405 if self.path.endswith("/infer") else 404, {"error": "no"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v2/models/toy/infer":
            self.say(404, {"error": "no such model"})
            return
        try:
            asked = json.loads(body)
            (tensor,) = asked["inputs"]
            assert (tensor["name"], tensor["datatype"]) == ("x", "FP32")
            rows, columns = tensor["shape"]
            values = [float(value) for value in flat(tensor["data"])]
            assert rows > 0
            assert columns == 2
            assert rows * columns == len(values)
            assert all(output["name"] == "y" for output in asked.get("outputs", []))
        except (ValueError, KeyError, TypeError, AssertionError, AttributeError, RecursionError) as error:
            self.say(400, {"error": f"bad request: {error!r}"[:200]})
            return
        output = {"name": "y", "datatype": "FP32", "shape": [rows, columns], "data": values}
        self.answer({"model_name": "toy", "id": asked.get("id", ""), "outputs": [output]})

    def answer(self, answer: dict[str, Any]) -> None:
        self.say(200, answer)

    def say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def flat(data: Any) -> list[Any]:
    return [one for part in data for one in flat(part)] if isinstance(data, list) else [data]


class Wrong(Toy):
    """Drops the id, doubles what it is given, and answers everything with 200."""

    def answer(self, answer: dict[str, Any]) -> None:
        del answer["id"]
        answer["outputs"][0]["data"] = [value + len(answer["outputs"][0]["data"]) for value in answer["outputs"][0]["data"]]
        super().answer(answer)

    def say(self, _status: int, body: Any) -> None:
        super().say(200, body)


class Mixing(Toy):
    """Gives a caller the answer of another when several are there at once."""

    inside: ClassVar[list[dict[str, Any]]] = []
    lock = threading.Lock()
    meet = threading.Barrier(2)

    def answer(self, answer: dict[str, Any]) -> None:
        with self.lock:
            self.inside.append(answer)
        try:
            self.meet.wait(0.05)
        except threading.BrokenBarrierError:
            self.meet.reset()
        with self.lock:
            other = self.inside.pop(0)
        super().answer(other)


class Hanging(Toy):
    """Says nothing to an empty body, and a byte now and then to half an object: no single read takes long."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length not in {0, len(b'{"inputs": [{')}:
            super().do_POST()
            return
        self.close_connection = True
        if length:
            self.send_response(400)
            self.send_header("Content-Length", "100000")
            self.end_headers()
        for _ in range(20):
            if length:
                self.wfile.write(b" ")
            threading.Event().wait(0.1)


class Garbage(Toy):
    """Answers with what is not even HTTP."""

    def say(self, status: int, body: Any) -> None:
        if self.path.endswith("/infer"):
            self.wfile.write(b"\x00\xff garbage\r\n\r\n" * 3)
            self.close_connection = True
            return
        super().say(status, body)


class Closing(Toy):
    """Closes the connection after a refusal, and does not say so."""

    def say(self, status: int, body: Any) -> None:
        super().say(status, body)
        self.close_connection = status == 400


class Mortal(Toy):
    """Goes down when the JSON is nested too deep."""

    def do_POST(self) -> None:
        if int(self.headers.get("Content-Length", 0)) > 100_000:
            self.server.socket.close()
            self.close_connection = True
            return
        super().do_POST()


class ToyServer(ThreadingHTTPServer):
    """Takes many at once, and says nothing of callers who have gone."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass


Start = Callable[[type[Toy]], str]


@pytest.fixture
def start() -> Iterator[Start]:
    servers = []

    def begin(kind: type[Toy]) -> str:
        server = ToyServer(("127.0.0.1", 0), kind)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(5)


def states(found: Examination) -> dict[str, str]:
    return {one.id: one.state for one in found.results}


def broken(found: Examination) -> set[str]:
    return {one.id for one in found.results if one.state == "broken"}


REQUIRED = ("oip.health", "oip.rest", "oip.error", "load")


def test_a_plain_server_keeps_what_is_required(start: Start) -> None:
    found = examine(Server(start(Toy)), skip=["oip.error.deep"])
    assert {one.id for one in found.results if one.state == "broken" and one.level == "specification"} == {
        "oip.error.nan"  # Python writes NaN
    }
    assert not found.conforms
    assert (found.server, found.model) == ("toy", "toy")
    assert states(found)["oip.version.metadata"] == "not tried"
    assert {states(found)[f"oip.{key}"] for key in ("binary.input", "repository.index")} == {"not offered"}
    assert {state for key, state in states(found).items() if "grpc" in key} == {"not tried"}
    assert {state for key, state in states(found).items() if key.startswith("tfs.rest")} == {"not offered"}


def test_a_wrong_server_is_seen(start: Start) -> None:
    found = broken(examine(Server(start(Wrong)), groups=REQUIRED))
    assert {"oip.rest.id", "oip.rest.rows", "oip.rest.unknown-model", "oip.error.empty", "oip.health.unknown-model"} <= found
    assert not {"oip.health.live", "oip.rest.server", "load.alive"} & found


def test_mixed_answers_are_seen(start: Start) -> None:
    assert {"load.own-rows", "load.own-ids"} & broken(examine(Server(start(Mixing)), groups=["load"]))
    assert broken(examine(Server(start(Toy)), groups=["load"])) == set()


def test_a_server_that_hangs_breaks_the_law_and_does_not_hold_us(start: Start) -> None:
    ends: dict[str, float] = {}
    found = examine(
        Server(start(Hanging), limit_seconds=0.4),
        groups=["oip.error", "load"],
        seen=lambda result: ends.update({result.id: time.monotonic()}),
    )
    assert ends["oip.error.no-json"] - ends["oip.error.empty"] < 1.5
    said = {one.id: one.found for one in found.results if one.state == "broken"}
    assert said["oip.error.empty"] == "none within 0.4 s"
    assert said["oip.error.no-json"] == "none within 0.4 s"
    assert states(found)["load.alive"] == "held"


def test_garbage_is_a_broken_law(start: Start) -> None:
    found = examine(Server(start(Garbage)), groups=["oip.rest"])
    assert "oip.rest.infer" in broken(found)
    assert states(found)["oip.rest.model"] == "held"


def test_a_connection_that_is_closed_without_a_word_is_seen(start: Start) -> None:
    found = examine(Server(start(Closing)), groups=["http"])
    said = {one.id: one.found for one in found.results if one.state == "broken"}
    assert said["http.after-error"] == "closed without a word after the refusal"
    assert states(examine(Server(start(Toy)), groups=["http"]))["http.after-error"] == "held"


def test_a_server_that_goes_down_is_named_and_the_rest_not_tried(start: Start) -> None:
    found = examine(Server(start(Mortal), limit_seconds=1), groups=["oip.error", "load"])
    assert found.taken_down_by == "oip.error.deep"
    after = list(states(found).values())[list(states(found)).index("oip.error.deep") + 1 :]
    assert set(after) == {"not tried"}
    spared = examine(Server(start(Mortal)), groups=["oip.error", "load"], skip=["oip.error.deep"])
    assert spared.taken_down_by == ""
    assert states(spared)["load.alive"] == "held"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "nobody"}, "the metadata of the model 'nobody' cannot be read"),
        ({"groups": ["nothing"]}, "there is no group 'nothing'"),
        ({"skip": ["nothing"]}, "there is no law 'nothing' to skip"),
    ],
    ids=["model", "group", "skip"],
)
def test_a_wrong_call_is_refused(start: Start, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        examine(Server(start(Toy)), **arguments)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "https://x", "http://", "http://x:99999", "http://x/v2", "ftp://x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="is not the URL of a server"):
        Server(url)


def test_a_server_that_names_no_model_is_refused(start: Start) -> None:
    class Shy(Toy):
        def do_GET(self) -> None:
            if self.path == "/v2/models":
                self.say(404, {"error": "no"})
            else:
                super().do_GET()

    with pytest.raises(Refused, match="names no model"):
        examine(Server(start(Shy)))


def test_a_model_without_metadata_is_refused(start: Start) -> None:
    class Silent(Toy):
        def say(self, status: int, body: Any) -> None:
            super().say(status, body | {"inputs": []} if isinstance(body, dict) and "platform" in body else body)

    with pytest.raises(Refused, match="does not say how to ask it"):
        examine(Server(start(Silent)))


# ---------------------------------------------------------------- the verb


def verb(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "shipworthy", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_verb_shows_what_is_broken_and_how(start: Start) -> None:
    code, said = verb(start(Wrong), "--group", "oip.rest", "--group", "tfs.rest")
    assert code == 1
    assert "Open Inference Protocol, REST" in said
    for part in ("broken oip.rest.id (specification)", "law", "source", "asked", "expected", "found", "not offered: "):
        assert part in said
    assert "of the broken are required by a specification" in said


def test_the_verb_is_content_when_what_is_required_holds(start: Start) -> None:
    code, said = verb(start(Toy), "--group", "oip.health", "--group", "http", "--json")
    plain = json.loads(said)
    assert (code, plain["conforms"], plain["model"]) == (0, True, "toy")
    assert plain["counts"]["held"] == sum(one["state"] == "held" for one in plain["results"])
    assert plain["counts"]["broken"] == 1  # chunks: a law of clients
    assert {one["id"] for one in plain["results"] if one["state"] == "broken"} == {"http.chunked"}
    assert {"law", "source", "level", "expected", "found", "asked"} < set(plain["results"][0])


def test_the_verb_writes_a_page(start: Start) -> None:
    code, said = verb(start(Toy), "--group", "oip.health", "--markdown")
    assert code == 0
    assert said.startswith(
        "| | toy 1 |\n|---|---|\n| says it is | toy 1 |\n| specification | 6 held, 0 broken, 0 not offered |"
    )
    assert "| specification | held |" in said


def test_nobody_there_is_a_wrong_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    code, said = verb(url)
    assert code == 2
    assert "no server answers at" in said


def test_grpc_that_is_not_there_is_a_wrong_call(start: Start) -> None:
    with pytest.raises(Refused, match="no server answers with gRPC"):
        examine(Server(start(Toy), "127.0.0.1:1", limit_seconds=1))


def test_without_grpcio_the_extra_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(Refused, match="need the package grpcio"):
        examine(Server(start(Toy), "127.0.0.1:1"))


def test_servers_stand_beside_each_other(start: Start) -> None:
    pages = {
        "good": examine(Server(start(Toy)), groups=["oip.rest"]),
        "wrong|": examine(Server(start(Wrong)), groups=["oip.rest"]),
    }
    page = markdown(pages)
    line = next(line for line in page.splitlines() if "`oip.rest.id`" in line)
    assert line.endswith("| specification | held | **broken** |")
    assert "- `oip.rest.id`, wrong|: expected `the id of the request, 'request-42'`, found `None`" in page


def test_importing_the_suite_is_light() -> None:
    code = "import sys, shipworthy.testing.conformance; print(sorted({'grpc', 'onnx', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
