"""The common request in one pass: the same messages as ``oip``, for one model, with everything known beforehand.

A reader is made once for a model version. It gives ``None`` for whatever is not common (nested data, parameters in
JSON, wrong names…), and ``oip`` then reads the request in full, or says what is wrong with it: what is refused, and
how, stands there alone. A property test holds the two together.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import numpy as np

from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import oip, tensors
from shipworthy.serve.oip import Request

# Heads of binary requests that are remembered: a client sends the same few again and again.
MOST_HEADS = 256
LONGEST_HEAD = 2048
# How deep the first data lies: flat, or nested as the tensor.
_OPENING = re.compile(rb'"data"\s*:\s*(\[[\[\s]*)')

Layout = list[tuple[str, np.dtype[Any], tuple[int, ...], int, int]]


class Quick:
    """Reads and answers the requests of one model version."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        self._name = name
        self._version = version
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._decoders = {depth: _decoder(signature, depth) for depth in {1, _rank(signature)}}
        self._heads: dict[bytes, tuple[Layout, int, dict[str, bool], int]] = {}
        self._answers: dict[tuple[tuple[int, ...], ...], bytes] = {}
        self._jsons = dict.fromkeys((spec.name for spec in signature.outputs), False)
        self._bytes = dict.fromkeys(self._jsons, True)
        self._kinds = {
            spec.name: (np.dtype(_dtype(spec)), msgspec.json.encode(spec.name), tensors.DATATYPES[spec.dtype].encode())
            for spec in signature.outputs
        }
        self._tail = b"]," + msgspec.json.encode({"model_name": name, "model_version": version})[1:]

    def parse(self, body: bytes, header_length: int | None) -> Request:
        """The request in a body; see ``oip.parse``."""
        if header_length is None:
            return self._parse_json(body) or oip.parse(body, None, self._signature)
        head = body[:header_length]
        known = self._heads.get(head)
        if known is not None and len(body) == known[1]:
            inputs: dict[str, Array] = {}
            for name, dtype, shape, count, at in known[0]:
                array = np.frombuffer(body, dtype, count, at)
                inputs[name] = (array if array.flags.aligned else array.copy()).reshape(shape)
            return Request(inputs, known[2], None, known[3])
        request = oip.parse(body, header_length, self._signature)
        self._remember(head, body, request)
        return request

    def answer(self, request: Request, outputs: Arrays) -> tuple[bytes, int | None]:
        """The body that answers; see ``oip.answer``."""
        if request.id is None and request.outputs is self._bytes:
            return self._answer_bytes(request, outputs)
        if request.id is not None or (request.outputs is not self._jsons and any(request.outputs.values())):
            return oip.answer(request, self._name, self._version, outputs)
        parts = []
        for name in request.outputs:
            array, (dtype, quoted, datatype) = outputs[name], self._kinds[name]
            if array.dtype != dtype or dtype.kind == "O" or dtype == np.float16:
                return oip.answer(request, self._name, self._version, outputs)
            data = msgspec.json.encode(array.ravel().tolist())
            if b"null" in data:  # what JSON makes of NaN and infinity
                return oip.answer(request, self._name, self._version, outputs)
            shape = ",".join(map(str, array.shape)).encode()
            parts.append(b'{"name":%b,"shape":[%b],"datatype":"%b","data":%b}' % (quoted, shape, datatype, data))
        return b'{"outputs":[' + b",".join(parts) + self._tail, None

    def _answer_bytes(self, request: Request, outputs: Arrays) -> tuple[bytes, int | None]:
        """All outputs as bytes: the JSON before them depends on their shapes alone."""
        arrays = [outputs[name] for name in request.outputs]
        shapes = tuple(array.shape for array in arrays)
        head = self._answers.get(shapes)
        if head is not None:
            return head + b"".join([array.tobytes() for array in arrays]), len(head)
        body, length = oip.answer(request, self._name, self._version, outputs)
        if length is not None and all(array.dtype.kind not in "OU" for array in arrays):
            if len(self._answers) >= MOST_HEADS:
                self._answers.clear()
            self._answers[shapes] = body[:length]
        return body, length

    def _parse_json(self, body: bytes) -> Request | None:
        opening = _OPENING.search(body)
        decoder = self._decoders.get(opening[1].count(b"[")) if opening else None
        if decoder is None:
            return None
        try:
            ask = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if ask.parameters is not None or len(ask.inputs) != len(self._specs):
            return None
        wanted = self._wanted(ask.outputs) if ask.outputs else self._jsons
        if wanted is None:
            return None
        inputs: dict[str, Array] = {}
        rows = None
        for entry in ask.inputs:
            spec = self._specs.get(entry.name)
            if spec is None or entry.parameters is not None or not _fits(entry, spec):
                return None
            try:
                with np.errstate(over="raise"):
                    array = np.array(entry.data, dtype=spec.dtype)
                if array.ndim > 1 and array.shape != entry.shape:
                    return None
                inputs[entry.name] = array.reshape(entry.shape)
            except (ValueError, OverflowError, FloatingPointError):
                return None
            if spec.shape and spec.shape[0] is None:
                if entry.shape[0] == 0 or (rows is not None and rows != entry.shape[0]):
                    return None
                rows = entry.shape[0]
        if len(inputs) != len(self._specs):
            return None
        return Request(inputs, wanted, ask.id, 1 if rows is None else rows)

    def _wanted(self, outputs: list[Any]) -> dict[str, bool] | None:
        """The outputs asked for as JSON; ``None`` when there is more to it."""
        wanted = {one.name: False for one in outputs if one.parameters is None and one.name in self._jsons}
        return wanted if len(wanted) == len(outputs) else None

    def _remember(self, head: bytes, body: bytes, request: Request) -> None:
        """Keep the layout of a well-formed binary request without an id, so that the next one is read at a glance."""
        if not head or len(head) > LONGEST_HEAD or request.id is not None or request.timeout_us or request.priority:
            return
        ask = msgspec.json.decode(head)
        layout: Layout = []
        at = len(head)
        for entry in ask["inputs"]:
            size = (entry.get("parameters") or {}).get("binary_data_size")
            dtype = np.dtype(_dtype(self._specs[entry["name"]]))
            if size is None or dtype.kind in "Ob":  # JSON beside bytes, or bytes that are looked into
                return
            layout.append((entry["name"], dtype, tuple(entry["shape"]), math.prod(entry["shape"]), at))
            at += size
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        wanted = self._bytes if list(request.outputs.items()) == list(self._bytes.items()) else request.outputs
        self._heads[head] = (layout, len(body), wanted, request.rows)


def _dtype(spec: TensorSpec) -> str:
    return "object" if spec.dtype == "str" else spec.dtype


def _rank(signature: Signature) -> int:
    """How deep nested data lies; 1 when the inputs differ in that."""
    ranks = {len(spec.shape) for spec in signature.inputs}
    return max(1, ranks.pop()) if len(ranks) == 1 else 1


def _decoder(signature: Signature, depth: int) -> msgspec.json.Decoder[Any] | None:
    """A decoder whose tensors hold lists of the one kind that all inputs are of; ``None`` when they are of several."""
    kinds = {"f": float, "i": int, "u": int, "b": bool}
    found = {np.dtype(_dtype(spec)).kind for spec in signature.inputs}
    if len(found) != 1 or not found <= kinds.keys() or any(spec.dtype == "float16" for spec in signature.inputs):
        return None
    values: Any = kinds[found.pop()]
    for _ in range(depth):
        values = list[values]
    shape: Any = tuple[int, ...]
    parameters: Any = ("parameters", Any, None)
    tensor: Any = msgspec.defstruct(
        "Tensor", [("name", str), ("shape", shape), ("datatype", str), ("data", values), parameters]
    )
    text: Any = str | None
    wanted: Any = msgspec.defstruct("Wanted", [("name", str), parameters])
    outputs: Any = list[wanted] | None
    fields = [("inputs", list[tensor]), ("id", text, None), parameters, ("outputs", outputs, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Ask", fields))


def _fits(entry: Any, spec: TensorSpec) -> bool:
    if entry.datatype != tensors.DATATYPES[spec.dtype] or len(entry.shape) != len(spec.shape):
        return False
    count = 1
    for n, wanted in zip(entry.shape, spec.shape, strict=True):
        if n < 0 or (wanted is not None and wanted != n):
            return False
        count *= n
    # Nested data shows its shape when it is an array.
    return bool(entry.data) and (isinstance(entry.data[0], list) or len(entry.data) == count)
