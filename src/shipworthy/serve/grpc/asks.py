"""ModelInferRequest: what is asked, read out of the message and checked against the model."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.serve import fit, tensors
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.grpc import fields, messages
from shipworthy.serve.parts import Raw, may_wait
from shipworthy.serve.statistics import V2_GRPC

FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of a datatype stand when they are not raw; FP16 has no such place."""

# Beginnings of requests that are remembered: a client sends the same one with every request.
MOST_HEADS = 256
LONGEST_HEAD = 2048
_RAW_TAG = b"\x3a"
_FINAL = "triton_enable_empty_final_response"
_NOT_YET = {
    "shared_memory_region": "the tensor in the message",
    "classification": "no such parameter: the scores themselves are given",
}


@dataclass(slots=True)  # not frozen: that costs a microsecond a request
class Ask:
    """A request as the model takes it, and what the answer must keep to.

    ``rows`` is the first dimension where that is free, else 1; ``raw`` says whether tensors came, and so go, as bytes;
    ``timeout_us`` 0 is none, ``priority`` 0 the default; ``final`` asks for a mark on the last answer in a stream.
    """

    live: Live
    inputs: dict[str, Array]
    rows: int
    outputs: tuple[str, ...]
    raw: bool
    id: str = ""
    timeout_us: int = 0
    priority: int = 0
    final: bool = False


@dataclass(frozen=True, slots=True)
class _Head:
    """What the bytes of a request before those of its only raw tensor say; ``words`` are the model and version in them.

    The model that was found is not held: one that was replaced or unloaded goes.
    """

    live: weakref.ref[Live]
    rows: int
    outputs: tuple[str, ...]
    words: tuple[str, str]
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    waits: bool


class Reader:
    """Reads requests to the models of a catalog.

    Requests with one raw tensor differ in its bytes alone, and those stand last: what stands before them is remembered,
    but where an id or a parameter may make each request another.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kind = messages.load()["inference.ModelInferRequest"]
        self._heads: dict[bytes, _Head] = {}
        self._lengths: dict[int, set[int]] = {}

    def read(self, message: bytes) -> Ask:
        """What ``message`` asks.

        Raises:
            Refused: it is not a request of the protocol, or does not fit the model.
            NotFound: there is no such model.
        """
        for length in self._lengths.get(len(message), ()):
            head = self._heads.get(message[:length])
            if head is None or head.size != len(message) - length:
                continue
            live = self._catalog.find(*head.words)
            if live is head.live():
                tensor: Any = Raw(message[length:], head.dtype, head.shape)
                inputs = {head.name: tensor if head.waits else np.asarray(tensor)}
                return Ask(live, inputs, head.rows, head.outputs, raw=True)
        request = messages.read(self._kind, message)
        live = self._catalog.find(request.model_name, request.model_version)
        with live.statistics.until_queued(V2_GRPC):
            ask = parse(request, live)
        if len(request.raw_input_contents) == 1 and not request.id and not request.parameters:
            self._remember(request, ask, message)
        return ask

    def _remember(self, request: Any, ask: Ask, message: bytes) -> None:
        """Keep what stands before the raw bytes, where these are the message's end and any others would do as well."""
        spec = ask.live.signature.inputs[0]
        size = len(request.raw_input_contents[0])
        tag = _RAW_TAG + messages.varint(size)
        head = message[: len(message) - size]
        if spec.dtype in ("str", "bool") or len(head) > LONGEST_HEAD or not head.endswith(tag):
            return
        rest = self._kind()
        rest.CopyFrom(request)
        rest.ClearField("raw_input_contents")
        try:
            if messages.read(self._kind, head[: -len(tag)]) != rest:
                return
        except Refused:
            return
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
            self._lengths.clear()
        words, array, waits = (request.model_name, request.model_version), ask.inputs[spec.name], may_wait(spec, size)
        live = weakref.ref(ask.live)
        self._heads[head] = _Head(live, ask.rows, ask.outputs, words, spec.name, array.dtype, array.shape, size, waits)
        self._lengths.setdefault(len(message), set()).add(len(head))


def parse(request: Any, live: Live) -> Ask:
    """What a ModelInferRequest asks of a model, checked before anything large is made of it.

    Raises:
        Refused: whatever is wrong with it; the message names the tensor, what was found and what was expected.
    """
    for tensor in (*request.inputs, *request.outputs):
        for key, instead in _NOT_YET.items():
            if key in tensor.parameters:
                raise Refused(f"tensor '{tensor.name[:100]}': parameter {key} is not supported", expected=instead)
    entries = [(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in request.inputs]
    rows = fit.check(entries, live.signature, tensors.DATATYPES)
    outputs = fit.wanted([tensor.name for tensor in request.outputs], live.signature)
    blobs = request.raw_input_contents
    raw = len(blobs) > 0
    inputs = {}
    if raw and (len(blobs) != len(entries) or any(tensor.HasField("contents") for tensor in request.inputs)):
        raise Refused(
            "raw_input_contents is not used for every input",
            found=f"{len(blobs)} raw tensors, {sum(tensor.HasField('contents') for tensor in request.inputs)} with contents",
            expected=f"raw_input_contents for all {len(entries)} inputs, or contents for all",
        )
    for at, (name, datatype, shape) in enumerate(entries):
        if raw:
            inputs[name] = tensors.from_blob(name, datatype, shape, memoryview(blobs[at]))
        else:
            inputs[name] = _typed(name, datatype, shape, request.inputs[at].contents)
    timeout_us, priority = (_whole(request.parameters, key) for key in ("timeout", "priority"))
    final = _FINAL in request.parameters and request.parameters[_FINAL].bool_param
    return Ask(live, inputs, rows, outputs, raw, request.id, timeout_us, priority, final)


def _typed(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    """The tensor whose elements stand one by one in its contents."""
    found = [field.name for field, _ in contents.ListFields()]
    place = FIELDS.get(datatype)
    if place is None:
        raise Refused(f"tensor '{name}': {datatype} has no typed contents", expected="its bytes in raw_input_contents")
    if found not in ([place], []):
        raise Refused(f"tensor '{name}': {datatype} is in the wrong place", found=", ".join(found), expected=place)
    dtype = np.dtype(object if datatype == "BYTES" else tensors.DTYPES[datatype])
    count, needed = len(getattr(contents, place)), math.prod(shape)
    if count != needed:
        raise Refused(
            f"tensor '{name}': the contents do not fit the shape",
            found=f"{count} values in {place}",
            expected=f"{needed} values for {list(shape)}",
        )
    if datatype == "BYTES":
        array: Array = np.array(fields.texts(name, contents, place), dtype=object)
    else:
        array = fields.narrow(name, fields.numbers(contents, place), dtype, datatype)
    return fields.shaped(name, array, shape)


def _whole(parameters: Any, key: str) -> int:
    """A parameter of the request that counts (``timeout`` in µs, ``priority``); 0 without it."""
    if key not in parameters:
        return 0
    kind = parameters[key].WhichOneof("parameter_choice")
    value: Any = getattr(parameters[key], kind) if kind else None
    if kind not in ("int64_param", "uint64_param") or not 0 <= value < 1 << 62:
        raise Refused(f"the parameter {key} is wrong", found=str(value)[:100], expected="a whole number, 0 or more")
    return int(value)
