"""Requests sent and answers taken: HTTP by the standard library, gRPC by grpcio. Whatever a server does, this returns."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from shipworthy.errors import Refused
from shipworthy.testing.conformance.case import Answer, Ask, Call, Step
from shipworthy.testing.conformance.messages import MOST_BYTES

_PIECE = 4096


class Server:
    """Where a server is, and how long it may take over one answer (seconds). Closing it ends the gRPC channel."""

    def __init__(self, url: str, grpc: str = "", limit_seconds: float = 10.0) -> None:
        """Store where it is.

        Raises:
            Refused: this is not such a URL.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            parts, host, port = urllib.parse.urlsplit(""), None, 0
        if host is None or parts.scheme != "http" or parts.path not in {"", "/"} or parts.query:
            raise Refused(f"'{url}' is not the URL of a server", expected="http://HOST:PORT")
        self.url = url
        self.grpc = grpc
        self.limit_seconds = limit_seconds
        self._address = (host, port)
        self._channel: Any = None

    def ask(self, steps: Sequence[Step]) -> list[Answer]:
        """The answers to all steps in their order, those of HTTP over one connection where the server keeps it."""
        answers: list[Answer] = []
        with contextlib.closing(Http(*self._address, self.limit_seconds)) as kept:
            for step in steps:
                if isinstance(step, tuple):
                    with ThreadPoolExecutor(len(step)) as pool:
                        answers += pool.map(self._alone, step)
                else:
                    answers.append(kept.send(step) if isinstance(step, Ask) else self._call(step))
        return answers

    def is_there(self) -> bool:
        """Whether anybody answers at all; a server that is just going down takes connections, but does not."""
        return not self._alone(Ask("GET", "/v2/health/live")).failure

    def connect(self) -> None:
        """Look whether anybody is there.

        Raises:
            Refused: nobody answers on HTTP, or on gRPC where an address was given; or grpcio is missing.
        """
        if not self.is_there():
            raise Refused(f"no server answers at {self.url}", next="start it, or correct the URL")
        if not self.grpc:
            return
        try:
            grpc = importlib.import_module("grpc")
        except ImportError:
            raise Refused(
                "the laws of gRPC need the package grpcio", next="pip install 'shipworthy[conformance]', or leave --grpc out"
            ) from None
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MOST_BYTES)]
        self._channel = grpc.insecure_channel(self.grpc, options)
        try:
            grpc.channel_ready_future(self._channel).result(self.limit_seconds)
        except grpc.FutureTimeoutError:
            self.close()
            raise Refused(
                f"no server answers with gRPC at {self.grpc}", expected="HOST:PORT", next="correct --grpc, or leave it out"
            ) from None

    def close(self) -> None:
        """End the gRPC channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _alone(self, one: Ask | Call) -> Answer:
        return self.ask([one])[0]

    def _call(self, call: Call) -> Answer:
        grpc = importlib.import_module("grpc")
        try:
            if call.answers:
                stream = self._channel.stream_stream(call.path)(iter(call.messages), timeout=self.limit_seconds)
                messages = tuple(message for _, message in zip(range(call.answers), stream, strict=False))
                stream.cancel()
            else:
                messages = (self._channel.unary_unary(call.path)(call.messages[0], timeout=self.limit_seconds),)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Answer(failure=f"none within {self.limit_seconds:g} s")
            return Answer(int(code.value[0]), body=(error.details() or "").encode())
        return Answer(messages=messages)


class Http:
    """One connection to a server, opened again whenever it was closed. Not for several threads at once."""

    def __init__(self, host: str, port: int, limit_seconds: float) -> None:
        self._host, self._port = host, port
        self._limit_seconds = limit_seconds
        self._connection: http.client.HTTPConnection | None = None

    def send(self, ask: Ask) -> Answer:
        """The answer to a request; its ``failure`` says why there is none."""
        late = threading.Event()
        watch = threading.Timer(self._limit_seconds, self._give_up, [late])
        watch.daemon = True
        watch.start()
        kept = self._connection is not None
        try:
            try:
                return self._exchange(ask)
            except (http.client.RemoteDisconnected, ConnectionResetError):
                if not kept or late.is_set():
                    raise
            # A server may close a kept connection at any time; a client then sends the request again.
            self.close()
            return replace(self._exchange(ask), reopened=True)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if late.is_set() or isinstance(error, TimeoutError):
                return Answer(failure=f"none within {self._limit_seconds:g} s")
            return Answer(failure=f"{type(error).__name__}: {error}"[:200])
        finally:
            watch.cancel()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, ask: Ask) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._limit_seconds)
            self._connection.connect()
        connection = self._connection
        pieces = (ask.body[at : at + _PIECE] for at in range(0, len(ask.body), _PIECE)) if ask.chunked else ask.body
        # A server that has read enough may answer and close; what it said is read below.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(ask.method, ask.path, pieces or None, dict(ask.headers), encode_chunked=ask.chunked)
        response = connection.getresponse()
        body = response.read(MOST_BYTES + 1)
        if response.length and len(body) <= MOST_BYTES:  # cut off, which read does not say
            raise http.client.IncompleteRead(body, response.length)
        if len(body) > MOST_BYTES:
            self.close()
            return Answer(failure=f"more than {MOST_BYTES} bytes")
        headers = {name.lower(): value for name, value in response.headers.items()}
        if response.will_close:
            self.close()
        return Answer(response.status, headers, body)

    def _give_up(self, late: threading.Event) -> None:
        """Time is up: end the connection under whoever waits on it."""
        late.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
