"""The client and the sending of a whole data set, against a real server and against sockets that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused
from shipworthy.serve import verify
from shipworthy.serve.client import Client

ONES = np.ones((1, 3), np.float32)


@contextmanager
def scripted(*answers: bytes) -> Iterator[str]:
    """The URL of a socket that answers each request with the next of ``answers`` (empty: it hangs up)."""

    def serve() -> None:
        connection = None
        for answer in answers:
            if connection is None:
                connection, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            if answer:
                connection.sendall(answer)
            else:
                connection.close()
                connection = None
        if connection:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def http_answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


READY = http_answer(b"{}")


@pytest.mark.parametrize("url", ["", "localhost:8000", "https://x", "http://", "http://x:notaport", "http://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="not the URL"):
        Client(url)


def test_the_servers_message_comes_with_the_failure(url: str) -> None:
    with Client(url) as client:
        with pytest.raises(Failed, match="answered 404") as failed:
            client.infer("no pé", 1, {"x": ONES}, binary=False)
        assert "there is no model 'no pé'" in failed.value.found
        with pytest.raises(Failed, match="answered 400") as failed:
            client.infer("two", 1, {"a": ONES}, binary=True)
        assert "the inputs are not those of the model" in failed.value.found
        assert client.infer("two", 12, {"a": ONES, "b": ONES}, binary=True)["y"].tolist() == [[2, 2, 2]]


def test_a_server_that_is_not_there_is_not_ready_and_fails() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{holder.getsockname()[1]}") as client:
            assert not client.ready()
            with pytest.raises(Failed, match="did not answer"):
                client.infer("m", 1, {"x": ONES}, binary=True)


def test_a_server_that_says_nothing_is_a_failure_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with Client(url, timeout_seconds=0.2) as client:
            assert not client.ready()
        assert time.monotonic() - began < 3


def test_a_kept_connection_that_was_closed_is_opened_again_once() -> None:
    with scripted(READY, b"", READY) as url, Client(url) as client:
        assert client.ready()
        assert client.ready()
    with scripted(READY, b"", b"") as url, Client(url) as client:
        assert client.ready()
        assert not client.ready()
    with scripted(b"", READY) as url, Client(url) as client:
        assert not client.ready()
        assert client.ready()


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"hello"),
        http_answer(b'{"outputs": [{"name": "y", "shape": [2], "datatype": "FP32", "data": [1]}]}'),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nInference-Header-Content-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{}",
        b"SMTP\r\n\r\n",
        http_answer(b"\xff", "500 Oops"),
        http_answer(b"[]", "500 Oops"),
        http_answer(b"{}", "500 Oops"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    with scripted(answer) as url, Client(url) as client, pytest.raises(Failed):
        client.infer("m", 1, {"x": ONES}, binary=False)


def data(rows: np.ndarray) -> Dataset:
    return Dataset("", "", {"x": rows})


def test_a_data_set_goes_in_at_most_a_thousand_requests_in_order(url: str) -> None:
    rows = np.arange(2500 * 16, dtype=np.float32).reshape(2500, 16)
    sent = verify.send_all(url, "linear", 1, data(rows), "binary")
    assert (sent.requests, sent.answered, sent.failure) == (834, 834, "")
    assert sent.answered_rows.all()
    assert sent.outputs["scores"].shape == (2500, 5)
    assert sent.latencies_ms.shape == (834,)
    assert (sent.latencies_ms > 0).all()
    np.testing.assert_allclose(sent.outputs["scores"][1999:2001], _scores(url, rows[1999:2001]), rtol=1e-5)


def _scores(url: str, rows: np.ndarray) -> np.ndarray:
    with Client(url) as client:
        return client.infer("linear", 1, {"x": rows}, binary=False)["scores"]


def test_requests_that_fail_are_counted_and_their_rows_marked(url: str) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2] = -1  # the logarithm of -1 is NaN, which JSON does not have
    sent = verify.send_all(url, "log", 1, data(rows), "json")
    assert (sent.requests, sent.answered) == (4, 3)
    assert sent.answered_rows.tolist() == [True, True, False, True]
    assert sent.outputs["y"].shape == (3, 3)
    assert "NaN" in sent.failure
    assert verify.send_all(url, "log", 1, data(rows), "binary").answered == 4


def test_without_a_server_nothing_is_answered(
    models: dict[str, Path], start: Callable[..., AbstractContextManager[str]]
) -> None:
    with start(("log", 1, models["log"])) as gone:
        pass
    sent = verify.send_all(gone, "log", 1, data(np.ones((3, 3), np.float32)), "json")
    assert (sent.requests, sent.answered, sent.outputs) == (3, 0, {})
    assert not sent.answered_rows.any()
    assert sent.latencies_ms.shape == (0,)
    assert "did not answer" in sent.failure


def test_answers_that_do_not_fit_the_rows_or_each_other_are_failures() -> None:
    def answer(name: str, shape: str, values: str) -> bytes:
        return http_answer(
            f'{{"outputs": [{{"name": "{name}", "shape": {shape}, "datatype": "INT8", "data": {values}}}]}}'.encode()
        )

    right = answer("y", "[1, 2]", "[1, 2]")
    with scripted(
        answer("y", "[2]", "[1, 2]"), right, answer("z", "[1, 2]", "[1, 2]"), answer("y", "[1]", "[1]"), right
    ) as url:
        sent = verify.send_all(url, "m", 1, data(np.ones((5, 1), np.int8)), "json")
    assert sent.answered_rows.tolist() == [False, True, False, False, True]
    assert sent.outputs["y"].tolist() == [[1, 2], [1, 2]]
    assert sent.failure == "output 'y' has the shape [2] for 1 rows"
