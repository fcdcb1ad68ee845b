"""TLS on both ports: who is served, who is not, and certificates that are changed while the server runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from shipworthy.errors import Refused
from shipworthy.serve import security
from shipworthy.serve.grpc import messages
from shipworthy.settings import ServeSettings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl makes the certificates")

BODY = {"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab"]}
Command = Callable[..., list[str]]


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)  # noqa: S607


def authority(folder: Path, name: str) -> Path:
    """An authority's certificate; its key lies beside it."""
    made = folder / f"{name}.pem"
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", folder / f"{name}.key", "-out", made, "-days", "2", "-subj", f"/CN={name}")
    return made


def issue(folder: Path, name: str, by: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    made, key, asked, more = (folder / f"{name}{end}" for end in (".pem", ".key", ".csr", ".ext"))
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", *ec, "-keyout", key, "-out", asked, "-subj", f"/CN={name}")
    more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed = ("-CA", by, "-CAkey", by.with_suffix(".key"), "-CAcreateserial")
    openssl("x509", "-req", "-in", asked, *signed, "-days", "2", "-out", made, "-extfile", more)
    return made, key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    ca, other = authority(folder, "ca"), authority(folder, "other-ca")
    files = {"ca": ca, "other": other}
    for name, by in (("server", ca), ("next", ca), ("client", ca), ("stranger", other)):
        files[name], files[name + "-key"] = issue(folder, name, by)
    files["encrypted"] = folder / "encrypted.key"
    openssl("pkey", "-in", files["server-key"], "-aes256", "-passout", "pass:x", "-out", files["encrypted"])
    return files


@contextlib.contextmanager
def begun(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        try:
            yield child, json.loads(child.stdout.readline())
        finally:
            child.terminate()
            child.wait(40)


def trusting(made: dict[str, Path], client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(made["ca"]))
    if client:
        context.load_cert_chain(made[client], made[client + "-key"])
    return context


def connect(url: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=10, context=context)


def ask(url: str, context: ssl.SSLContext) -> int:
    """The status of two predictions on one connection: the second has a head that is remembered."""
    connection = connect(url, context)
    try:
        for _ in range(2):
            connection.request("POST", "/v2/models/m/infer", json.dumps(BODY))
            answer = connection.getresponse()
            answer.read()
        return answer.status
    finally:
        connection.close()


def call(address: str, made: dict[str, Path], client: str = "") -> grpc.StatusCode:
    """The status of one prediction over gRPC."""
    message = messages.load()["inference.ModelInferRequest"](model_name="m")
    for name in "ab":
        message.inputs.add(name=name, shape=[1, 3], datatype="FP32").contents.fp32_contents.extend([1, 2, 3])
    own = [made[client + "-key"].read_bytes(), made[client].read_bytes()] if client else []
    trusted = grpc.ssl_channel_credentials(made["ca"].read_bytes(), *own)
    with grpc.secure_channel(address, trusted) as channel:
        try:
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message.SerializeToString(), timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def tls(made: dict[str, Path], name: str = "server", client_ca: str = "") -> dict[str, str]:
    found = {"tls_cert": str(made[name]), "tls_key": str(made[name + "-key"])}
    return found | ({"tls_client_ca": str(made[client_ca])} if client_ca else {})


def test_both_ports_speak_tls_and_nothing_else(models: dict[str, Path], command: Command, made: dict[str, Path]) -> None:
    with begun(command(("m", 1, models["two"]), **tls(made))) as (child, said):
        assert said["url"].startswith("https://127.0.0.1:")
        assert ask(said["url"], trusting(made)) == 200
        assert call(said["grpc"], made) is grpc.StatusCode.OK
        plain = http.client.HTTPConnection(*said["url"].removeprefix("https://").split(":"), timeout=10)
        plain.request("GET", "/v2/health/live")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            plain.getresponse()
        plain.close()
        with grpc.insecure_channel(said["grpc"]) as channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        page = connect(said["url"], trusting(made))
        page.request("GET", "/docs")
        assert f"{said['url']}/v2/models/m/infer".encode() in page.getresponse().read()
        page.close()
        assert ask(said["url"], trusting(made)) == 200, "the server lives on"
        child.terminate()
        assert child.wait(20) == 0
        assert b"Traceback" not in child.stderr.read()


def test_alpn_offers_the_protocol_of_each_port(models: dict[str, Path], command: Command, made: dict[str, Path]) -> None:
    with begun(command(("m", 1, models["two"]), **tls(made))) as (_, said):
        for address, protocol in ((said["url"].removeprefix("https://"), "http/1.1"), (said["grpc"], "h2")):
            host, _, port = address.partition(":")
            context = trusting(made)
            context.set_alpn_protocols(["h2", "http/1.1"])
            with (
                socket.create_connection((host, int(port)), 10) as plain,
                context.wrap_socket(plain, server_hostname=host) as end,
            ):
                assert end.selected_alpn_protocol() == protocol


def test_with_mutual_tls_only_those_are_served_whom_the_authority_knows(
    models: dict[str, Path], command: Command, made: dict[str, Path]
) -> None:
    with begun(command(("m", 1, models["two"]), **tls(made, client_ca="ca"))) as (_, said):
        assert ask(said["url"], trusting(made, "client")) == 200
        assert call(said["grpc"], made, "client") is grpc.StatusCode.OK
        for client in ("", "stranger"):
            with pytest.raises((OSError, http.client.HTTPException)):
                ask(said["url"], trusting(made, client))
            assert call(said["grpc"], made, client) is grpc.StatusCode.UNAVAILABLE
        assert ask(said["url"], trusting(made, "client")) == 200


def test_at_sighup_new_connections_see_the_new_certificate_and_a_broken_one_changes_nothing(
    models: dict[str, Path], command: Command, made: dict[str, Path], tmp_path: Path
) -> None:
    paths = {key: tmp_path / key for key in ("tls_cert", "tls_key")}

    def place(name: str, key: str) -> None:
        shutil.copy(made[name], paths["tls_cert"])
        shutil.copy(made[key], paths["tls_key"])

    def shown(url: str) -> str:
        connection = connect(url, trusting(made))
        connection.connect()
        subject = dict(one[0] for one in connection.sock.getpeercert()["subject"])
        connection.close()
        return subject["commonName"]

    place("server", "server-key")
    files = {key: str(path) for key, path in paths.items()}
    with begun(command(("m", 1, models["two"]), workers=2, **files)) as (child, said):
        kept = connect(said["url"], trusting(made))
        kept.connect()
        assert {shown(said["url"]) for _ in range(4)} == {"server"}
        place("next", "server-key")
        child.send_signal(signal.SIGHUP)
        assert b"keys and certificates stay as they were" in child.stderr.readline()
        assert {shown(said["url"]) for _ in range(4)} == {"server"}
        place("next", "next-key")
        child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while {shown(said["url"]) for _ in range(4)} != {"next"} and time.monotonic() < deadline:
            time.sleep(0.02)
        assert {shown(said["url"]) for _ in range(4)} == {"next"}
        kept.request("GET", "/v2/health/live")
        assert kept.getresponse().status == 200
        kept.close()


def test_a_handshake_that_does_not_end_keeps_nobody_waiting(
    models: dict[str, Path], command: Command, made: dict[str, Path]
) -> None:
    with begun(command(("m", 1, models["two"]), workers=1, **tls(made))) as (_, said):
        host, _, port = said["url"].removeprefix("https://").partition(":")
        slow = [socket.create_connection((host, int(port)), 20) for _ in range(50)]
        for one in slow:
            one.send(b"\x16\x03\x01")
        began = time.monotonic()
        assert ask(said["url"], trusting(made)) == 200
        assert time.monotonic() - began < 2
        assert [one.recv(1) for one in slow] == [b""] * 50
        assert 5 < time.monotonic() - began < 15
        for one in slow:
            one.close()


def test_files_that_do_not_fit_are_refused_with_the_reason(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no PEM")
    (tmp_path / "cut").write_bytes(made["server"].read_bytes()[:300])
    cert, key = str(made["server"]), str(made["server-key"])
    for said, settings in {
        "KEY_VALUES_MISMATCH": {"tls_cert": cert, "tls_key": str(made["next-key"])},
        "is encrypted": {"tls_cert": cert, "tls_key": str(made["encrypted"])},
        "TLS needs tls_key": {"tls_cert": cert},
        "TLS needs tls_cert": {"tls_client_ca": cert},
        "No such file": {"tls_cert": str(tmp_path / "none"), "tls_key": key},
        "text is not PEM": {"tls_cert": cert, "tls_key": key, "tls_client_ca": str(tmp_path / "text")},
        "cannot be used": {"tls_cert": str(tmp_path / "cut"), "tls_key": key},
    }.items():
        with pytest.raises(Refused) as refused:
            security.read(ServeSettings(**settings))
        assert said in str(refused.value), said
    assert security.read(ServeSettings()) == security.Security()
    found = security.read(ServeSettings(tls_cert=cert, tls_key=key)).tls
    assert found
    assert security.context(found, "h2").minimum_version == ssl.TLSVersion.TLSv1_2
    assert "PRIVATE" not in repr(security.read(ServeSettings(tls_cert=cert, tls_key=key)))
