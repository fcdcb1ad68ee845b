"""Open Inference Protocol v2 over REST with the binary tensor data extension: the messages, both ends. Pure.

A body is JSON, or JSON followed by the bytes of its binary tensors in their order; then a header gives the length of
the JSON. Where the specification leaves a choice: unknown fields are ignored; a dimension below 0 is the caller's
error, and so is to ask for an output as JSON that has no form there (FP16, NaN, infinity): bytes carry it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import fit, tensors

LENGTH_HEADER = "Inference-Header-Content-Length"

Parameters = dict[str, str | int | float | bool] | None
M = TypeVar("M")
_NO_DATA = msgspec.Raw()


class Request(msgspec.Struct, frozen=True):
    """A request as the model takes it: arrays in the signature's dtypes, and output to whether it is wanted as bytes.

    ``rows`` is the first dimension, where that is free, else 1; ``timeout_us`` 0 is none, ``priority`` 0 the default;
    ``nbytes`` of the inputs where that is known beforehand, else 0.
    """

    inputs: dict[str, Array]
    outputs: dict[str, bool]
    id: str | None = None
    rows: int = 1
    timeout_us: int = 0
    priority: int = 0
    nbytes: int = 0

    def deadline_ns(self) -> int:
        """When the caller's patience ends, of ``time.monotonic_ns``; 0: never."""
        return time.monotonic_ns() + 1000 * self.timeout_us if self.timeout_us else 0


class _Tensor(msgspec.Struct, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: Parameters = None
    data: msgspec.Raw = _NO_DATA


class _Wanted(msgspec.Struct):
    name: str
    parameters: Parameters = None


class _Ask(msgspec.Struct, omit_defaults=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[_Wanted] | None = None


class _Answer(msgspec.Struct, omit_defaults=True):
    outputs: list[_Tensor]
    model_name: str = ""
    model_version: str | None = None
    id: str | None = None


def read_length(text: str | None, body_bytes: int) -> int | None:
    """The length of the JSON that the header's ``text`` gives; ``None`` without a header: the body is all JSON.

    Raises:
        Refused: not a number from 0 to the length of the body.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= body_bytes):  # noqa: PLR2004
        raise Refused(
            f"the header {LENGTH_HEADER} is wrong",
            found=text[:100],
            expected=f"a number from 0 to {body_bytes}, the body's length",
        )
    return int(text)


def parse(body: bytes, header_length: int | None, signature: Signature) -> Request:
    """The request in ``body``, checked against the signature before anything large is made of it.

    Args:
        body: JSON, or JSON and the bytes of the binary inputs.
        header_length: bytes of JSON in it; ``None``: all; 0: none, the body is the bytes of the only input.
        signature: what the model takes and gives.

    Raises:
        Refused: whatever is wrong with the request; the message names the tensor, what was found and what was expected.
    """
    if header_length == 0:
        return _parse_raw(body, signature)
    ask, tail = _split(body, header_length, _Ask)
    rows = fit.check([(entry.name, entry.datatype, entry.shape) for entry in ask.inputs], signature, tensors.DATATYPES)
    timeout_us, priority = (_whole(ask.parameters, key) for key in ("timeout", "priority"))
    return Request(_arrays(ask.inputs, tail), _wanted(ask, signature), ask.id, rows, timeout_us, priority)


def answer(request: Request, model_name: str, model_version: str, outputs: Arrays) -> tuple[bytes, int | None]:
    """The body that answers ``request``, and the length of its JSON when bytes follow that (``None``: they do not).

    Args:
        request: what was asked; its id is echoed, its wanted outputs are given in the order it names them.
        model_name: the name of the model that answered.
        model_version: its version.
        outputs: what the model gave, by name.

    Raises:
        Refused: an output is FP16, or holds NaN or infinity, and was not asked for as bytes.
    """
    wanted = {name: (outputs[name], binary) for name, binary in request.outputs.items()}
    entries, blobs = _entries(wanted)
    return _join(_Answer(outputs=entries, model_name=model_name, model_version=model_version, id=request.id), blobs)


def request_body(inputs: Arrays, *, binary: bool = False) -> tuple[bytes, int | None]:
    """The body that asks for all outputs, and the length of its JSON when bytes follow that.

    Args:
        inputs: arrays by name.
        binary: send the inputs, and ask for the outputs, as bytes.

    Raises:
        Refused: an input has no form in the protocol, or none in JSON (FP16, NaN, infinity).
    """
    entries, blobs = _entries({name: (array, binary) for name, array in inputs.items()})
    return _join(_Ask(inputs=entries, parameters={"binary_data_output": True} if binary else None), blobs)


def read_answer(body: bytes, header_length: int | None) -> dict[str, Array]:
    """The outputs in an answer's body.

    Raises:
        Refused: it is not an answer of the protocol.
    """
    message, tail = _split(body, header_length, _Answer)
    for entry in message.outputs:
        _refuse_bad_shape(entry)
    return _arrays(message.outputs, tail)


def describe(spec: TensorSpec) -> dict[str, Any]:
    """One input or output as metadata shows it; -1 is a free dimension."""
    shape = [-1 if n is None else n for n in spec.shape]
    return {"name": spec.name, "datatype": tensors.DATATYPES[spec.dtype], "shape": shape}


def _split(body: bytes, header_length: int | None, kind: type[M]) -> tuple[M, memoryview | None]:
    """The JSON message, and the bytes after it; ``None`` when no header said that there are any."""
    head = memoryview(body)[:header_length]
    if not head:
        raise Refused("the body is empty", expected='a JSON object with "inputs" (Open Inference Protocol v2)')
    try:
        message = msgspec.json.decode(head, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("the body is not a message of the Open Inference Protocol v2", found=str(error)[:200]) from None
    return message, None if header_length is None else memoryview(body)[header_length:]


def _join(message: _Ask | _Answer, blobs: list[bytes]) -> tuple[bytes, int | None]:
    head = msgspec.json.encode(message)
    return b"".join([head, *blobs]), len(head) if blobs else None


def _entries(arrays: Mapping[str, tuple[Array, bool]]) -> tuple[list[_Tensor], list[bytes]]:
    """Arrays, each with whether it goes as bytes, as entries of a message and the bytes that follow it."""
    entries, blobs = [], []
    for name, (array, binary) in arrays.items():
        entry = _Tensor(name=name, shape=array.shape, datatype=tensors.datatype_of(array))
        if binary:
            blob = tensors.to_blob(name, array)
            entry.parameters = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            entry.data = tensors.to_json(name, array)
        entries.append(entry)
    return entries, blobs


def _arrays(entries: list[_Tensor], tail: memoryview | None) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    at = 0
    for entry in entries:
        size = _blob_size(entry, 0 if tail is None else len(tail) - at, headed=tail is not None)
        if tail is None or size is None:
            arrays[entry.name] = tensors.from_json(entry.name, entry.datatype, entry.shape, memoryview(entry.data))
        else:
            arrays[entry.name] = tensors.from_blob(entry.name, entry.datatype, entry.shape, tail[at : at + size])
            at += size
    if tail is not None and at != len(tail):
        raise Refused("bytes are left over after the last binary tensor", found=f"{len(tail)} bytes", expected=f"{at} bytes")
    return arrays


def _blob_size(entry: _Tensor, left: int, *, headed: bool) -> int | None:
    """The bytes that the entry takes of those ``left``; ``None``: its data stands in the JSON."""
    size = (entry.parameters or {}).get("binary_data_size")
    if size is None:
        if entry.data == _NO_DATA:
            raise Refused(f"tensor '{entry.name}' has no data", expected='"data", or parameters {"binary_data_size": …}')
        return None
    if entry.data != _NO_DATA:
        raise Refused(f"tensor '{entry.name}' has data twice", found='"data" and "binary_data_size"', expected="one of them")
    if not headed:
        raise Refused(
            f"tensor '{entry.name}' has binary data, but no header says where that begins",
            expected=f"the header {LENGTH_HEADER}",
        )
    if type(size) is not int or not 0 <= size <= left:
        raise Refused(
            f"tensor '{entry.name}': binary_data_size is wrong",
            found=str(size)[:100],
            expected=f"a whole number up to the {left} bytes left",
        )
    return size


def _refuse_bad_shape(entry: _Tensor) -> None:
    if entry.datatype not in tensors.DTYPES:
        raise Refused(
            f"tensor '{entry.name}': unknown datatype", found=entry.datatype[:100], expected=", ".join(tensors.DTYPES)
        )
    if any(n < 0 for n in entry.shape):
        raise Refused(
            f"tensor '{entry.name}': a dimension is negative", found=str(list(entry.shape))[:200], expected="0 or more"
        )


def _whole(parameters: Parameters, key: str) -> int:
    """A parameter of the request that counts (``timeout`` in µs, ``priority``); 0 without it."""
    value = (parameters or {}).get(key, 0)
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise Refused(f"the parameter {key} is wrong", found=str(value)[:100], expected="a whole number, 0 or more")
    return value


def _wanted(ask: _Ask, signature: Signature) -> dict[str, bool]:
    """The outputs to give, each with whether as bytes: what the output says wins over what the request says."""
    default = _flag(ask.parameters, "binary_data_output", "the request", default=False)
    said = {output.name: output.parameters for output in ask.outputs or ()}
    names = fit.wanted([output.name for output in ask.outputs or ()], signature)
    return {name: _flag(said.get(name), "binary_data", f"output '{name}'", default=default) for name in names}


def _flag(parameters: Parameters, key: str, place: str, *, default: bool) -> bool:
    value = (parameters or {}).get(key, default)
    if not isinstance(value, bool):
        raise Refused(f"{place}: parameter {key} is wrong", found=str(value)[:100], expected="true or false")
    return value


def _parse_raw(body: bytes, signature: Signature) -> Request:
    """A body without JSON: the bytes of the only input, whose one free dimension their number gives.

    With several free dimensions the first, the rows, is 1. A BYTES input is one element, the whole body.
    """
    if len(signature.inputs) != 1:
        raise Refused(f"a raw body ({LENGTH_HEADER}: 0) needs a model with one input", found=f"{len(signature.inputs)} inputs")
    spec = signature.inputs[0]
    free = [axis for axis, n in enumerate(spec.shape) if n is None]
    shape = [1 if n is None else n for n in spec.shape]
    blob = memoryview(body)
    if spec.dtype == "str":
        blob = memoryview(len(body).to_bytes(4, "little") + body)
    elif free:
        row_bytes = math.prod(shape) * np.dtype(spec.dtype).itemsize
        if len(free) > 2 or (len(free) == 2 and free[0] != 0):  # noqa: PLR2004
            raise Refused(
                f"tensor '{spec.name}': its shape cannot be told from a raw body", expected=f"JSON with the shape: {spec}"
            )
        shape[free[-1]] = len(body) // max(1, row_bytes)
    datatype = tensors.DATATYPES[spec.dtype]
    array = tensors.from_blob(spec.name, datatype, tuple(shape), blob)
    if spec.shape and spec.shape[0] is None and not array.shape[0]:
        raise Refused(f"tensor '{spec.name}' has no rows", found="an empty body", expected="at least one row")
    rows = array.shape[0] if spec.shape and spec.shape[0] is None else 1
    return Request({spec.name: array}, dict.fromkeys((output.name for output in signature.outputs), True), rows=rows)
