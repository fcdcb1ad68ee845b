"""The process: start, address, signals, and that what it serves is what the runtime gives."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused
from shipworthy.records import Target
from shipworthy.serve import server, verify
from shipworthy.serve.client import Client
from shipworthy.serve.source import Given, ServedModel
from shipworthy.serve.worker import Work, Worker
from shipworthy.settings import ServeSettings

Start = Callable[..., AbstractContextManager[str]]
Command = Callable[..., list[str]]


@contextmanager
def begun(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server's process, and its URL once it answers."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        try:
            yield child, json.loads(child.stdout.readline())["url"]
        finally:
            child.kill()


def test_two_hundred_rows_as_json_and_binary_are_what_the_runtime_gives(models: dict[str, Path], url: str) -> None:
    rows = np.random.default_rng(5).normal(size=(200, 16)).astype(np.float32)
    session = ort.InferenceSession(str(models["linear"]))
    label, scores = (
        np.concatenate(parts) for parts in zip(*(session.run(None, {"x": row[None]}) for row in rows), strict=True)
    )
    for encoding in ("json", "binary"):
        sent = verify.send_all(url, "linear", 1, Dataset("", "", {"x": rows}), encoding)
        assert (sent.requests, sent.answered, sent.failure) == (200, 200, "")
        np.testing.assert_array_equal(sent.outputs["label"], label, strict=True)
        np.testing.assert_array_equal(sent.outputs["scores"], scores, strict=True)


def test_every_dtype_goes_through_the_server_unchanged(url: str) -> None:
    kinds = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
    inputs = {"in_" + kind: np.array([[0, 1], [1, 1]]).astype(kind) for kind in kinds}
    inputs["in_str"] = np.array([["a", "é"], ["", "日本"]], dtype=object)
    with Client(url) as client:
        outputs = client.infer("identity", 1, inputs, binary=True)
    assert len(outputs) == 13
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, inputs[name.replace("out_", "in_")], strict=True)


def infer_slow(url: str, times: int) -> float:
    """Seconds that the slow model takes for so many steps."""
    began = time.monotonic()
    with Client(url) as client:
        assert client.infer("slow", 1, {"n": np.array([times])}, binary=True)["y"].shape == (600,)
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_request_finish_and_ends_with_exit_code_0(
    sent: signal.Signals, models: dict[str, Path], command: Command
) -> None:
    with begun(command(("slow", 1, models["slow"]))) as (child, url):
        infer_slow(url, 1)
        times = int(1.2 / infer_slow(url, 40) * 40)
        took: list[float] = []
        asking = threading.Thread(target=lambda: took.append(infer_slow(url, times)))
        asking.start()
        time.sleep(0.3)
        child.send_signal(sent)
        asking.join(20)
        assert child.wait(10) == 0
        assert took
        assert took[0] > 0.5
        assert child.stderr.read() == b""


def test_while_a_slow_request_runs_others_are_answered(url: str) -> None:
    times = int(1.0 / infer_slow(url, 40) * 40)
    asking = threading.Thread(target=infer_slow, args=(url, times))
    asking.start()
    time.sleep(0.2)
    began = time.monotonic()
    with Client(url) as client:
        client.infer("two", 1, {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32)}, binary=False)
    waited = time.monotonic() - began
    assert asking.is_alive()
    asking.join()
    assert waited < 0.5


def test_kill_9_of_the_parent_ends_the_server(models: dict[str, Path], command: Command, tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            """
            import json, subprocess, sys, time
            child = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            print(json.dumps({"pid": child.pid} | json.loads(child.stdout.readline())), flush=True)
            time.sleep(60)
            """
        )
    )
    arguments = [sys.executable, str(parent), json.dumps(command(("two", 1, models["two"])))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        said = json.loads(process.stdout.readline())
        with Client(said["url"]) as client:
            assert client.ready()
        process.kill()
    for _ in range(100):
        if not Path(f"/proc/{said['pid']}/stat").exists() or _is_zombie(said["pid"]):
            break
        time.sleep(0.05)
    else:
        os.kill(said["pid"], signal.SIGKILL)
        pytest.fail("the server outlived its parent")
    with Client(said["url"]) as client:
        assert not client.ready()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_taken_port_is_refused_with_its_number(models: dict[str, Path], start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(Failed, match="exit code 2") as failed, start(("two", 1, models["two"]), port=port):
            pytest.fail("it started")
    assert f"port {port} is taken" in failed.value.found
    assert "--port" in failed.value.found
    assert "Traceback" not in failed.value.found


def test_two_servers_that_bind_at_once_do_not_share_a_port() -> None:
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.bind("127.0.0.1", port) as second:
            first.listen()
            with pytest.raises(Refused, match=f"port {port} is taken"):
                server._listen(second, ServeSettings(port=port))


def test_unusable_hosts_are_refused() -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".x", "x..y"):
        with pytest.raises(Refused, match="is not known"):
            server.bind(host, 0)
    with pytest.raises(Refused, match=r"cannot listen on 203.0.113.7 port 0"):
        server.bind("203.0.113.7", 0)


def test_a_privileged_port_is_refused_with_the_mend() -> None:
    refused = server._unusable("127.0.0.1", 80, PermissionError(errno.EACCES, "Permission denied"))
    assert refused.what == "this user may not listen on port 80"
    assert "1023" in refused.next


def test_ports_come_free_when_the_server_ends(models: dict[str, Path], start: Start) -> None:
    with start(("two", 1, models["two"])) as url:
        port = urllib.parse.urlsplit(url).port
    with start(("two", 1, models["two"]), port=port) as again, Client(again) as client:
        assert client.ready()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_ipv6_address_is_written_in_brackets(models: dict[str, Path], start: Start) -> None:
    with start(("two", 1, models["two"]), host="::1") as url, Client(url) as client:
        assert url.startswith("http://[::1]:")
        assert client.ready()


def test_a_host_that_others_can_reach_is_warned_of(models: dict[str, Path], command: Command) -> None:
    with begun(command(("two", 1, models["two"]), host="0.0.0.0")) as (child, _):  # noqa: S104
        child.terminate()
        assert child.wait(10) == 0
        assert b"other machines can reach this server" in child.stderr.read()


def test_a_broken_model_or_none_is_refused_before_anything_listens(
    tmp_path: Path, models: dict[str, Path], command: Command
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    wrong = {
        "nothing to serve": [],
        "bad.onnx": [("m", 1, bad)],
        "none.onnx": [("m", 1, tmp_path / "none.onnx")],
        "named twice": [("m", 1, models["two"]), ("m", 1, models["two"])],
    }
    for text, served in wrong.items():
        done = subprocess.run(
            command(*served), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2, text
        assert text in done.stderr
        assert not done.stdout


def loaded(path: Path, **options: object) -> tuple[Worker, bool]:
    """A worker that has loaded one model as 'm', and whether it calls that light."""
    given = Given([ServedModel("m", 1, path, Target())])
    worker = Worker(Work([given.find("m")], given, ServeSettings(**options), 2), socket.socket())
    ((model,),) = [offer.versions for offer in worker._load()]
    light = model.cost is not None and model.cost.light
    worker._control.close()
    return worker, light


def test_warming_up_runs_each_model_and_a_failure_there_refuses_nothing(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[list[str]] = []
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, inputs: runs.append(sorted(inputs)) or run(self, inputs))
    loaded(models["two"], tune=False)
    assert runs == [["a", "b"]]
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, _: run(self, {}))
    worker, light = loaded(models["two"])
    assert worker._catalog.find("m").version == 1
    assert not light, "a model of unknown cost may be heavy"


def test_the_cost_of_a_run_decides_how_it_is_served(models: dict[str, Path]) -> None:
    assert loaded(models["two"])[1]
    assert not loaded(models["two"], tune=False)[1]


def test_the_server_is_light(models: dict[str, Path]) -> None:
    code = (
        "import sys, socket; from pathlib import Path; from shipworthy.records import Target\n"
        "from shipworthy.serve import server; from shipworthy.serve.worker import *\n"
        "from shipworthy.serve.source import Given, ServedModel\n"
        "from shipworthy.settings import ServeSettings\n"
        "given = Given([ServedModel('m', 1, Path(sys.argv[1]), Target())])\n"
        "Worker(Work([given.find('m')], given, ServeSettings(), 2), socket.socket())._load()\n"
        "heavy = 'onnx rich sklearn skl2onnx scipy matplotlib mlflow pandas torch sqlite3 sqlalchemy'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(models["two"])], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_a_kept_connection_answers_many_requests(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    kept = connection.sock
    for path, status in [("/v2/health/ready", 200), ("/v2/models/nope", 404), ("/v2/models/two", 200)]:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    assert connection.sock is kept
    connection.close()
