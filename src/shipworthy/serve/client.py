"""A small client of the Open Inference Protocol v2 for one server, on one kept connection."""

from __future__ import annotations

import http.client
import urllib.parse
from types import TracebackType
from typing import Self

import msgspec

from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.serve import oip

HTTP_OK = 200


class Client:
    """Speaks to the server at ``url`` (``http://HOST:PORT``). Not for several threads at once."""

    def __init__(self, url: str, timeout_seconds: float = 30.0) -> None:
        """Store where the server is; the first call connects.

        Raises:
            Refused: this is not such a URL.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if host is None or parts.scheme != "http":
            raise Refused(f"'{url}' is not the URL of a server", expected="http://HOST:PORT")
        self._url = url
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def ready(self) -> bool:
        """Whether the server is there and can answer requests."""
        try:
            status, _, _ = self._exchange("GET", "/v2/health/ready", b"", {})
        except Failed:
            return False
        return status == HTTP_OK

    def infer(self, model: str, version: int | str, inputs: Arrays, *, binary: bool) -> dict[str, Array]:
        """All outputs of the model for ``inputs``, by name.

        Args:
            model: its name.
            version: which of its versions.
            inputs: arrays by name, rows along the first axis.
            binary: send and receive tensors as bytes; else as JSON.

        Raises:
            Refused: an input has no such form.
            Failed: no answer, an error as the answer (with the server's message), or one that is not of the protocol.
        """
        body, json_bytes = oip.request_body(inputs, binary=binary)
        headers = {"Content-Type": "application/json"}
        if json_bytes is not None:
            headers = {"Content-Type": "application/octet-stream", oip.LENGTH_HEADER: str(json_bytes)}
        path = f"/v2/models/{urllib.parse.quote(model)}/versions/{urllib.parse.quote(str(version))}/infer"
        status, length, answer = self._exchange("POST", path, body, headers)
        if status != HTTP_OK:
            raise Failed(f"the server at {self._url} answered {status}", found=_message(answer))
        try:
            return oip.read_answer(answer, oip.read_length(length, len(answer)))
        except Refused as error:
            raise Failed(
                f"the server at {self._url} gave no answer of the protocol", found=f"{error.what} {error.found}"
            ) from None

    def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
        """Status, length of the JSON (as the header says it) and body of the answer."""
        kept = self._connection.sock is not None
        try:
            return self._once(method, path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise self._no_answer(error) from error
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._no_answer(error) from error
        try:  # a server may close a kept connection just as we use it: that is no fault of either
            return self._once(method, path, body, headers)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._no_answer(error) from error

    def _once(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
        self._connection.request(method, path, body or None, headers)
        response = self._connection.getresponse()
        return response.status, response.headers.get(oip.LENGTH_HEADER), response.read()

    def _no_answer(self, error: Exception) -> Failed:
        return Failed(f"the server at {self._url} did not answer", found=f"{type(error).__name__}: {error}")


def _message(answer: bytes) -> str:
    """What the server said was wrong."""
    try:
        return msgspec.json.decode(answer, type=dict[str, str])["error"]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return answer[:300].decode(errors="replace")
