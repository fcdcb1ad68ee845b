"""One row as each server wants it on the wire, and the row of its answer back: nobody's own client is needed.

Wires: ``json`` is ``{"x": [[numbers]]}`` and numbers back; ``raw`` the bytes of the row, both ways; ``v2json``,
``v2binary`` and ``grpc`` are the Open Inference Protocol with JSON, with its binary tensors, and over gRPC.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]

KIND = {"json": "JSON", "v2json": "JSON", "raw": "binary", "v2binary": "binary", "grpc": "gRPC"}
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
LENGTH_HEADER = "Inference-Header-Content-Length"
OK = 200
VARINT, FIXED64, BYTES = 0, 1, 2


@dataclass(frozen=True)
class Names:
    """The model and the tensors: one float32 input, one float32 output asked for."""

    model: str
    input: str
    output: str


@dataclass(frozen=True)
class Message:
    """A request: ``body`` to ``path`` with ``headers``; of gRPC the body is the frame, with its five bytes of prefix."""

    wire: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def encode(wire: str, path: str, names: Names, row: Row) -> Message:
    """The request for ``row``, shape [1, …]; ``path`` is used where the wire does not give one."""
    if wire == "raw":
        return Message(wire, path, row.tobytes(), {"Content-Type": "application/octet-stream"})
    if wire == "json":
        return Message(wire, path, json.dumps({"x": [row.ravel().tolist()]}).encode(), {"Content-Type": "application/json"})
    if wire == "grpc":
        frame = _grpc(names, row)
        return Message(wire, GRPC_PATH, struct.pack(">BI", 0, len(frame)) + frame)
    path = f"/v2/models/{names.model}/infer"
    tensor: dict[str, Any] = {"name": names.input, "shape": row.shape, "datatype": "FP32"}
    if wire == "v2json":
        ask = {"inputs": [tensor | {"data": row.ravel().tolist()}], "outputs": [{"name": names.output}]}
        return Message(wire, path, json.dumps(ask).encode(), {"Content-Type": "application/json"})
    tensor["parameters"] = {"binary_data_size": row.nbytes}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": names.output, "parameters": {"binary_data": True}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head))}
    return Message(wire, path, head + row.tobytes(), headers)


class Asker:
    """A kept connection to the server on 127.0.0.1. Not for several threads at once."""

    def __init__(self, wire: str, path: str, names: Names, port: int) -> None:
        self._wire, self._path, self._names, self._port = wire, path, names, port
        self._kept: Any = None

    def __call__(self, row: Row) -> Row:
        """The answer to ``row``, flat.

        Raises:
            OSError, RuntimeError: there was none, or an error.
        """
        message = encode(self._wire, self._path, self._names, row)
        if self._wire == "grpc":
            return self._over_grpc(message)
        import http.client  # noqa: PLC0415

        try:
            if self._kept is None:
                self._kept = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            self._kept.request("POST", message.path, message.body, message.headers)
            response = self._kept.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"no answer: {error!r}") from error
        if response.status != OK:
            raise RuntimeError(f"{response.status}: {body[:300]!r}")
        return _decode(self._wire, body, response.headers.get(LENGTH_HEADER), self._names)

    def close(self) -> None:
        """Close the connection."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def _over_grpc(self, message: Message) -> Row:
        import grpc  # noqa: PLC0415  # heavy, and only this wire needs it

        if self._kept is None:
            self._kept = grpc.insecure_channel(f"127.0.0.1:{self._port}", [("grpc.enable_http_proxy", 0)])
        try:
            return _from_grpc(self._kept.unary_unary(message.path)(message.body[5:], timeout=30), self._names)
        except grpc.RpcError as error:
            self.close()
            raise OSError(f"no answer: {error.code()} {error.details()}") from error


def _decode(wire: str, body: bytes, length: str | None, names: Names) -> Row:
    if wire == "raw":
        return np.frombuffer(body, np.float32)
    if wire == "json":
        return np.array(json.loads(body), np.float32).ravel()
    if length is None:
        return np.array(_only(json.loads(body)["outputs"], names)["data"], np.float32).ravel()
    _only(json.loads(body[: int(length)])["outputs"], names)
    return np.frombuffer(body, np.float32, offset=int(length))


def _only(outputs: list[dict[str, Any]], names: Names) -> dict[str, Any]:
    if [output["name"] for output in outputs] != [names.output]:
        raise RuntimeError(f"asked for {names.output}, got {[output['name'] for output in outputs]}")
    return outputs[0]


# The few fields of inference.ModelInferRequest and ModelInferResponse that a row needs.


def _grpc(names: Names, row: Row) -> bytes:
    shape = b"".join(_varint(n) for n in row.shape)
    tensor = _field(1, names.input.encode()) + _field(2, b"FP32") + _field(3, shape)
    output = _field(1, names.output.encode())
    return _field(1, names.model.encode()) + _field(5, tensor) + _field(6, output) + _field(7, row.tobytes())


def _from_grpc(answer: bytes, names: Names) -> Row:
    """The answer's only tensor: raw (field 6), or in outputs (5), contents (5), fp32_contents (6)."""
    fields = list(_fields(answer))
    outputs = [list(_fields(blob)) for number, blob in fields if number == 5]  # noqa: PLR2004
    found = [blob.decode() for output in outputs for number, blob in output if number == 1]
    if found != [names.output]:
        raise RuntimeError(f"asked for {names.output}, got {found}")
    raw = [blob for number, blob in fields if number == 6]  # noqa: PLR2004
    if raw:
        return np.frombuffer(raw[0], np.float32)
    contents = b"".join(blob for number, blob in outputs[0] if number == 5)  # noqa: PLR2004
    return np.frombuffer(b"".join(blob for number, blob in _fields(contents) if number == 6), np.float32)  # noqa: PLR2004


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:  # noqa: PLR2004
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _field(number: int, blob: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(blob)) + blob


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields; numbers are passed over."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == VARINT:
            _, at = _read_varint(data, at)
            continue
        size = 8 if key & 7 == FIXED64 else 4
        if key & 7 == BYTES:
            size, at = _read_varint(data, at)
            yield key >> 3, data[at : at + size]
        at += size
