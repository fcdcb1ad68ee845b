"""Keys: what a file may say, what each key lets do, over HTTP (both lanes) and gRPC, and that they can be changed."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from shipworthy.errors import Refused
from shipworthy.serve import keys
from shipworthy.serve import server as server_module
from shipworthy.serve.grpc import messages
from shipworthy.serve.keys import Forbidden, Rights, Unauthenticated
from shipworthy.serve.security import Security, Tls

BODY = {"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab"]}
HASH = "sha256:" + "0" * 64


# ---------------------------------------------------------------- the file


def test_a_key_that_was_made_is_found_again_with_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    made = {}
    for name, models, operate in (("all", (), True), ("two-of_them", ("a", 'b"c'), False)):
        made[name], entry = keys.make(name, models, operate=operate)
        assert made[name] not in entry
        keys.append(path, entry)
    found = keys.read(path)
    assert found.find([f"Bearer {made['all']}".encode()]) == Rights(None, operate=True)
    assert found.find([f"bearer  {made['two-of_them']} ".encode()]) == Rights(frozenset({"a", 'b"c'}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert made["all"].encode() not in path.read_bytes()
    assert re.fullmatch(r"sw_[A-Za-z0-9_-]{43}", made["all"])


@pytest.mark.parametrize(
    "sent",
    [[], [b""], [b"Bearer"], [b"Bearer wrong"], [b"KEY"], [b"Basic KEY"], [b"Bearer KEY", b"Bearer KEY"], [b"Bearer KEY" * 30]],
    ids=["none", "empty", "no key", "another", "no scheme", "another scheme", "two", "long"],
)
def test_what_is_not_one_known_key_is_refused(sent: list[bytes]) -> None:
    key, entry = keys.make("me", (), operate=False)
    known = keys.parse(entry, "x")
    assert known.find([b"Bearer " + key.encode()]) == Rights()
    with pytest.raises(Unauthenticated):
        known.find([one.replace(b"KEY", key.encode()) for one in sent])


BAD = {
    "not TOML": "[keys",
    "not right": "[key.a]",
    "no keys": "[keys]",
    "$.keys": "keys = 3",
    "Object missing required field": f"[keys.a]\nhash = '{HASH}'",
    "matching regex": "[keys.a]\nhash = 'secret'\nmodels = '*'",
    "unknown field": f"[keys.a]\nhash = '{HASH}'\nmodels = '*'\noperates = true",
    "twice": f"[keys.a]\nhash = '{HASH}'\nmodels = '*'\n[keys.b]\nhash = '{HASH}'\nmodels = '*'",
    "a key named": f"[keys.'a b']\nhash = '{HASH}'\nmodels = '*'",
    "`bool`": f"[keys.a]\nhash = '{HASH}'\nmodels = '*'\noperate = 1",
    "Invalid enum value": f"[keys.a]\nhash = '{HASH}'\nmodels = 'digits'",
}


@pytest.mark.parametrize("said", BAD)
def test_a_file_that_is_not_right_is_refused_with_the_reason(said: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(BAD[said])
    with pytest.raises(Refused) as refused:
        keys.read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * 1_000_001)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, said in {
        "none": "there is no key file",
        "large": "too large",
        "bytes": "cannot be read",
        "": "cannot be",
    }.items():
        with pytest.raises(Refused, match=said):
            keys.read(tmp_path / name)


def test_a_broken_file_is_not_written_to_and_no_name_is_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys.append(path, keys.make("a", (), operate=False)[1])
    before = path.read_bytes()
    for name in ("a", "b"):
        with pytest.raises(Refused, match="not TOML"):
            keys.append(path, keys.make(name, (), operate=False)[1])
        path.write_text("broken =")
    assert path.read_bytes() == b"broken ="
    assert before
    assert [one.name for one in tmp_path.iterdir()] == ["keys.toml"]
    with pytest.raises(Refused, match="cannot have this name"):
        keys.make("a]b", (), operate=False)


def test_a_wide_address_is_warned_of_without_keys_or_with_keys_that_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    known = keys.parse(keys.make("a", (), operate=False)[1], "x")
    for secured, said in [
        (Security(), "asks nobody for a key"),
        (Security(known), "without TLS their keys can be read"),
        (Security(known, Tls(b"", b"")), ""),
    ]:
        caplog.clear()
        server_module._warn("192.0.2.1", secured)
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)


def test_rights_are_asked_for_by_name() -> None:
    rights = Rights(frozenset({"a"}))
    rights.need("a")
    with pytest.raises(Forbidden, match="may not use model 'b'"):
        rights.need("b")
    with pytest.raises(Forbidden, match="load or unload"):
        rights.need_operate()
    Rights(operate=True).need_operate()


# ---------------------------------------------------------------- a server


@dataclass
class Server:
    """A running server of 'm' and 'hidden' (their inputs added), and the keys of its callers."""

    url: str
    grpc: str
    pid: int
    keys: dict[str, str]
    file: Path

    def ask(self, who: str, method: str, path: str, plain: Any = None, **headers: str) -> tuple[int, Any]:
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        headers |= {"authorization": f"Bearer {self.keys.get(who, who)}"} if who else {}
        connection.request(method, path, None if plain is None else json.dumps(plain), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body) if "json" in answer.headers["content-type"] else body

    def call(self, who: str, path: str, message: bytes = b"") -> grpc.StatusCode:
        """The status of a call."""
        metadata = [("authorization", f"Bearer {self.keys.get(who, who)}")] if who else []
        with grpc.insecure_channel(self.grpc) as channel:
            try:
                channel.unary_unary(path)(message, metadata=metadata, timeout=20)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    def stream(self, who: str, path: str, message: bytes) -> grpc.StatusCode:
        """The status of a call of a streaming method with one message."""
        metadata = [("authorization", f"Bearer {self.keys.get(who, who)}")] if who else []
        with grpc.insecure_channel(self.grpc) as channel:
            try:
                list(channel.stream_stream(path)(iter([message]), metadata=metadata, timeout=20))
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK


@contextlib.contextmanager
def begun(command: list[str], file: Path, known: dict[str, str]) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        try:
            said = json.loads(child.stdout.readline())
            yield Server(said["url"], said["grpc"], said["pid"], known, file), child
        finally:
            child.terminate()
            child.wait(40)


def make_file(path: Path, **wanted: tuple[tuple[str, ...], bool]) -> dict[str, str]:
    path.unlink(missing_ok=True)
    made = {}
    for name, (models, operate) in wanted.items():
        made[name], entry = keys.make(name, models, operate=operate)
        keys.append(path, entry)
    return made


@pytest.fixture(scope="module")
def server(
    models: dict[str, Path], command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    known = make_file(file, m=(("m",), False), every=((), False), operator=(("m", "gone"), True))
    served = [(name, 1, models["two"]) for name in ("m", "hidden")]
    with begun(command(*served, api_key_file=str(file), workers=2), file, known) as (one, _):
        yield one


def infer(model: str) -> bytes:
    made = messages.load()["inference.ModelInferRequest"](model_name=model)
    for name in "ab":
        made.inputs.add(name=name, shape=[1, 3], datatype="FP32").contents.fp32_contents.extend([1, 2, 3])
    return made.SerializeToString()


ROUTES = {
    "infer": ("POST", "/v2/models/{}/infer", BODY),
    "version": ("POST", "/v2/models/{}/versions/1/infer", BODY),
    "model": ("GET", "/v2/models/{}", None),
    "ready": ("GET", "/v2/models/{}/ready", None),
    "config": ("GET", "/v2/models/{}/config", None),
    "stats": ("GET", "/v2/models/{}/stats", None),
    "predict": ("POST", "/v1/models/{}:predict", {"inputs": {"a": [[1, 2, 3]], "b": [[1, 2, 3]]}}),
    "status": ("GET", "/v1/models/{}", None),
    "metadata": ("GET", "/v1/models/{}/metadata", None),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_models_routes_need_a_key_that_may_use_it(route: str, server: Server) -> None:
    method, path, body = ROUTES[route]
    for who, model, status in [
        ("", "m", 401), ("wrong", "m", 401), ("m", "m", 200), ("m", "hidden", 403), ("m", "no-such", 403),
        ("every", "hidden", 200), ("every", "no-such", 404), ("operator", "hidden", 403), ("operator", "gone", 404),
        ("m", "m", 200), ("wrong", "m", 401), ("", "m", 401),
    ]:  # fmt: skip
        got, answer = server.ask(who, method, path.format(model), body)
        assert got == status, (who, model, answer)
        assert status == 200 or isinstance(answer["error"], str)
        assert who == "every" or model == "hidden" or "hidden" not in str(answer)


def test_the_ordinary_way_asks_as_the_fast_lane_does(server: Server) -> None:
    for who, model, status in [("m", "m", 200), ("m", "hidden", 403), ("wrong", "m", 401)]:
        parts = urllib.parse.urlsplit(server.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        headers = {"authorization": f"Bearer {server.keys.get(who, who)}"}
        connection.request("POST", f"/v2/models/{model}/infer", iter([json.dumps(BODY).encode()]), headers)  # chunked
        assert connection.getresponse().status == status, (who, model)
        connection.close()


@pytest.mark.parametrize("path", ["/v2", "/v2/models", "/v2/models/stats", "/docs", "/openapi.json", "/no/such/path"])
def test_everything_but_health_needs_some_key(path: str, server: Server) -> None:
    assert server.ask("", "GET", path)[0] == 401
    assert server.ask("wrong", "GET", path)[0] == 401
    status, answer = server.ask("m", "GET", path)
    assert status == (404 if path == "/no/such/path" else 200)
    assert b"models/m/infer" in str(answer).encode() or path not in ("/docs", "/openapi.json")
    assert b"models/hidden/infer" not in str(answer).encode()
    for health in ("/v2/health/live", "/v2/health/ready"):
        assert server.ask("", "GET", health)[0] == 200


def test_lists_show_what_the_key_may_use(server: Server) -> None:
    def seen(who: str) -> tuple[list[str], set[str], set[str]]:
        listed = server.ask(who, "GET", "/v2/models")[1]["models"]
        index = server.ask(who, "POST", "/v2/repository/index", {})[1]
        stats = server.ask(who, "GET", "/v2/models/stats")[1]["model_stats"]
        return sorted(listed), {row["name"] for row in index}, {row["name"] for row in stats}

    assert seen("m") == (["m"], {"m"}, {"m"})
    assert seen("every") == (["hidden", "m"], {"m", "hidden"}, {"m", "hidden"})


def test_metrics_show_what_the_key_may_use(server: Server) -> None:
    assert server.ask("", "GET", "/metrics")[0] == 401
    for who, seen in (("m", False), ("every", True)):
        status, text = server.ask(who, "GET", "/metrics")
        assert status == 200
        assert b'"m"' in text
        assert (b"hidden" in text) == seen


def test_only_an_operator_loads_and_unloads_and_only_what_it_may_use(server: Server) -> None:
    for verb in ("load", "unload"):
        for who, model, status in [("", "m", 401), ("m", "m", 403), ("every", "m", 403), ("operator", "hidden", 403)]:
            assert server.ask(who, "POST", f"/v2/repository/models/{model}/{verb}", {})[0] == status, (verb, who)
    for verb in ("unload", "load"):
        assert server.ask("operator", "POST", f"/v2/repository/models/m/{verb}", {}) == (200, {})
    for verb in ("unload", "load"):
        status, answer = server.ask("operator", "POST", f"/v2/repository/models/gone/{verb}", {})
        assert status == 404
        assert "gone" in answer["error"]
        assert "hidden" not in answer["error"]
    reload = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
    code = grpc.StatusCode
    for who, names, status in [
        ("every", [], code.PERMISSION_DENIED), ("operator", ["hidden"], code.PERMISSION_DENIED), ("operator", ["m"], code.OK),
    ]:  # fmt: skip
        wish = messages.load()["tensorflow.serving.ReloadConfigRequest"]()
        wish.config.model_config_list.SetInParent()
        for name in names:
            wish.config.model_config_list.config.add(name=name)
        assert server.call(who, reload, wish.SerializeToString()) is status, (who, names)
    assert sorted(server.ask("every", "GET", "/v2/models")[1]["models"]) == ["hidden", "m"]


def test_grpc_asks_as_http_does(server: Server) -> None:
    code = grpc.StatusCode
    service = "/inference.GRPCInferenceService/"
    for who, model, status in [
        ("", "m", code.UNAUTHENTICATED), ("wrong", "m", code.UNAUTHENTICATED), ("m", "m", code.OK),
        ("m", "hidden", code.PERMISSION_DENIED), ("every", "hidden", code.OK), ("every", "no", code.NOT_FOUND),
    ]:  # fmt: skip
        assert server.call(who, service + "ModelInfer", infer(model)) is status, (who, model)
        named = messages.load()["inference.ModelMetadataRequest"](name=model).SerializeToString()
        assert server.call(who, service + "ModelMetadata", named) is status, (who, model)
    load = messages.load()["inference.RepositoryModelLoadRequest"](model_name="m").SerializeToString()
    assert server.call("m", service + "RepositoryModelLoad", load) is code.PERMISSION_DENIED
    assert server.call("operator", service + "RepositoryModelLoad", load) is code.OK
    for path in ("/grpc.health.v1.Health/Check", service + "ServerLive", service + "ServerReady"):
        assert server.call("", path) is code.OK
    assert server.call("", service + "ServerMetadata") is code.UNAUTHENTICATED
    assert server.stream("", service + "ModelStreamInfer", infer("m")) is code.UNAUTHENTICATED
    assert server.stream("m", service + "ModelStreamInfer", infer("m")) is code.OK
    assert server.stream("", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"") is code.UNAUTHENTICATED


def test_a_body_without_a_key_is_refused_before_it_is_sent(server: Server) -> None:
    parts = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.putrequest("POST", "/v2/models/m/infer")
    connection.putheader("content-length", "60000000")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["www-authenticate"], answer.headers["connection"]) == (401, "Bearer", "close")
    connection.close()


def test_at_sighup_keys_come_and_go_in_every_worker_and_a_broken_file_changes_nothing(
    models: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    known = make_file(file, old=((), False))
    model = Path(shutil.copy(models["two"], tmp_path / "m.onnx"))
    with begun(command(("m", 1, model), api_key_file=str(file), workers=2), file, known) as (server, child):
        parts = urllib.parse.urlsplit(server.url)
        kept = [socket.create_connection((parts.hostname, parts.port), 20) for _ in range(6)]

        def statuses(who: str) -> set[int]:
            """On connections of both workers; head and body come at once, so heads are remembered."""
            body = json.dumps(BODY).encode()
            head = (
                f"POST /v2/models/m/infer HTTP/1.1\r\nauthorization: Bearer {known[who]}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            seen = set()
            for at, connection in enumerate(kept):
                connection.sendall(head.encode() + body)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                answer.read()
                seen.add(answer.status)
                if answer.will_close:
                    connection.close()
                    kept[at] = socket.create_connection((parts.hostname, parts.port), 20)
            return seen

        assert statuses("old") == statuses("old") == {200}
        file.write_text("broken")
        child.send_signal(signal.SIGHUP)
        assert b"keys and certificates stay as they were" in child.stderr.readline()
        assert statuses("old") == {200}
        known |= make_file(file, new=((), False))
        model.write_bytes(b"broken")  # keys change even where models cannot
        child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while statuses("old") != {401} and time.monotonic() < deadline:
            time.sleep(0.02)
        assert statuses("old") == {401}
        assert statuses("new") == {200}
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("text", [None, "broken", ""], ids=["none", "broken", "empty"])
def test_a_server_does_not_start_without_its_keys(
    text: str | None, models: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    if text is not None:
        file.write_text(text)
    whole = command(("m", 1, models["two"]), api_key_file=str(file))
    done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
