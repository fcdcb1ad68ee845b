"""Clients that people have speak HTTP/2 to the gRPC port, after it was mistreated: each is served as far as it can be.

What is not gRPC is answered with 415 and a sentence; gRPC is answered, whatever library carries it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from shipworthy.serve.grpc import messages

ROOT = Path(__file__).parents[2]
INFER = "/inference.GRPCInferenceService/ModelInfer"
SENTENCE = "this port answers gRPC over HTTP/2 only"


def run(*command: object) -> str:
    program = str(command[0])
    assert shutil.which(program), f"{program} is missing: run 'make bench-tools'"
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A call of the model ``two``, with gRPC's prefix, in a file."""
    request = messages.load()["inference.ModelInferRequest"](model_name="two")
    for name in "ab":
        request.inputs.add(name=name, datatype="FP32", shape=[1, 3]).contents.fp32_contents[:] = [1, 2, 3]
    text = request.SerializeToString()
    path = tmp_path / "call"
    path.write_bytes(b"\0" + len(text).to_bytes(4, "big") + text)
    return path


GRPC = ["content-type: application/grpc", "te: trailers"]


@pytest.fixture(scope="module", autouse=True)
def mistreated(victim):
    """Some of everything that the other tests here do."""
    for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b"\x16\x03\x01" + bytes(200), b"GET / HTTP/1.1\r\n\r\n"):
        with victim.wire(victim.grpc_port) as wire:
            wire.send(data)
            wire.rest()


def test_curl(victim, body):
    url = f"http://{victim.grpc}{INFER}"
    said = run("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code} %{http_version}", url)
    assert (SENTENCE in said, said[-5:]) == (True, "415 2")
    headers = [word for text in GRPC for word in ("-H", text)]
    out = body.with_name("answer")
    said = run(
        "curl", "-sS", "--http2-prior-knowledge", *headers, "--data-binary", f"@{body}", "-w", "%{http_code} %{http_version}",
        "-o", out, url,
    )  # fmt: skip
    assert said == "200 2"
    assert messages.load()["inference.ModelInferResponse"].FromString(out.read_bytes()[5:]).model_name == "two"
    said = run(
        "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--http2", f"{victim.url}/v2/health/live"
    )
    assert said == "200 1.1", "an offer to upgrade is not taken, and the answer is given all the same"


def test_nghttp(victim, body):
    url = f"http://{victim.grpc}{INFER}"
    assert SENTENCE in run("nghttp", url)
    headers = [word for text in GRPC for word in ("-H", text)]
    said = run("nghttp", "-nv", *headers, "-d", body, url)
    assert ":status: 200" in said
    assert "grpc-status: 0" in said


@pytest.mark.parametrize("streams", [1, 100])
def test_h2load(victim, body, streams):
    headers = [word for text in GRPC for word in ("-H", text)]
    url = f"http://{victim.grpc}{INFER}"
    said = run("h2load", "-n", 400, "-c", 4, "-m", streams, *headers, "-d", body, url)
    assert re.search(r"status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx", said), said
    said = run("h2load", "-n", 400, "-c", 4, "-m", streams, url)
    assert re.search(r"status codes: 0 2xx, 0 3xx, 400 4xx, 0 5xx", said), said
    assert "0 errored" in said


def test_grpcio(victim, body):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(victim.grpc, options=options) as channel:
        call = channel.unary_unary(INFER)
        futures = [call.future(body.read_bytes()[5:], timeout=30) for _ in range(200)]
        for future in futures:
            answer = messages.load()["inference.ModelInferResponse"].FromString(future.result())
            assert answer.model_name == "two"


SCRIPT = """
import sys, httpx
url, path = sys.argv[1:]
data = open(path, "rb").read()
headers = {"content-type": "application/grpc", "te": "trailers"}
with httpx.Client(http1=False, http2=True, trust_env=False, timeout=10) as client:
    for turn in range(20):
        refused = client.get(url)
        assert (refused.status_code, refused.http_version) == (415, "HTTP/2"), refused
        answer = client.post(url, content=data, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/grpc"), answer
        assert len(answer.content) == 5 + int.from_bytes(answer.content[1:5], "big")
print(refused.text)
"""


def test_httpx(victim, body):
    python = ROOT / ".clients" / "fuzz" / "bin" / "python"
    assert python.exists(), "run 'make clients' first"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    command = [python, "-W", "error", "-c", SCRIPT, f"http://{victim.grpc}{INFER}", body]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert SENTENCE in done.stdout
