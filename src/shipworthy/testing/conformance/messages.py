"""The Open Inference Protocol over REST: requests from arrays, arrays from answers, and what every answer must be. Pure."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np

from shipworthy.protocols import Array, Arrays
from shipworthy.testing.conformance.case import Answer, Ask, Broken, shown
from shipworthy.testing.conformance.subject import DTYPES, NotTried, Subject, Tensor, datatype_of, to_blob

LENGTH_HEADER = "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}
OK = 200
MOST_BYTES = 64 << 20
MOST_DIMENSIONS = 32
LONGEST_VALUE = 100

Parameters = dict[str, str | int | float | bool] | None
T = TypeVar("T")


class Output(msgspec.Struct):
    """One output in an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: Any = msgspec.UNSET
    parameters: Parameters = None


class InferAnswer(msgspec.Struct):
    """An answer to a request for inference."""

    model_name: str
    outputs: list[Output]
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters = None


class Error(msgspec.Struct):
    """What every refusal says."""

    error: str


# ---------------------------------------------------------------- requests


def get(path: str) -> Ask:
    """A plain question."""
    return Ask("GET", path)


def ask(arrays: Arrays, **more: Any) -> dict[str, Any]:
    """The JSON that asks for inference, data flat; ``more`` are further keys of it."""
    return {"inputs": [_entry(name, array, flat=True) for name, array in arrays.items()], **more}


def nested(arrays: Arrays) -> dict[str, Any]:
    """As ``ask``, the data nested as the tensor is."""
    return {"inputs": [_entry(name, array, flat=False) for name, array in arrays.items()]}


def infer(subject: Subject, body: Mapping[str, Any] | bytes | None = None, path: str = "", **headers: str) -> Ask:
    """A request for inference by JSON: of one row when no body is given.

    Raises:
        NotTried: the model takes or gives FP16, which JSON does not have.
    """
    if not subject.in_json:
        raise NotTried("the model takes or gives FP16, which has no form in JSON")
    data = body if isinstance(body, bytes) else json.dumps(ask(subject.values()) if body is None else body).encode()
    return Ask("POST", (path or subject.path) + "/infer", data, JSON | headers)


def with_bytes(
    subject: Subject,
    arrays: Arrays,
    as_bytes: Collection[str] | None = None,
    tail: bytes = b"",
    length: str | None = None,
    **more: Any,
) -> Ask:
    """A request with binary tensors.

    Args:
        subject: the model.
        arrays: the inputs.
        as_bytes: the inputs that go as bytes; by default all.
        tail: bytes after the last tensor, which belong to none.
        length: what the header says in place of the JSON's length.
        more: further keys of the JSON.
    """
    entries, blobs = [], []
    for name, array in arrays.items():
        if as_bytes is not None and name not in as_bytes:
            entries.append(_entry(name, array, flat=True))
            continue
        blobs.append(to_blob(array))
        size = {"binary_data_size": len(blobs[-1])}
        entries.append({"name": name, "shape": array.shape, "datatype": datatype_of(array), "parameters": size})
    head = json.dumps({"inputs": entries, **more}).encode()
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head)) if length is None else length}
    return Ask("POST", f"{subject.path}/infer", b"".join([head, *blobs, tail]), headers)


def _entry(name: str, array: Array, *, flat: bool) -> dict[str, Any]:
    datatype = datatype_of(array)
    data = (array.ravel() if flat or not array.ndim else array).tolist()  # data is always a list
    return {"name": name, "shape": array.shape, "datatype": datatype, "data": data}


# ---------------------------------------------------------------- answers


def read(answer: Answer, kind: type[T], body: bytes | None = None) -> T:
    """The JSON of a successful answer, in the form that the law names.

    Raises:
        Broken: it is no success, no JSON, or has another form.
    """
    if answer.status != OK:
        raise Broken("status 200", str(answer))
    return decode(plain(answer) if body is None else body, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """JSON in the form that the law names.

    Raises:
        Broken: it is no JSON, or has another form.
    """
    if not body:
        raise Broken(f"JSON: {_form(kind)}", "an empty body")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Broken(f"JSON: {_form(kind)}", f"{error}: {shown(body)}") from None


def _form(kind: Any) -> str:
    if get_origin(kind) is list:
        return "a list, each " + _form(get_args(kind)[0])
    fields = getattr(kind, "__struct_fields__", None)
    return "an object with " + ", ".join(fields) if fields else "an object"


def plain(answer: Answer) -> bytes:
    """The body, as it was before it was compressed.

    Raises:
        Broken: it is compressed in a way that is not read here, or wrongly.
    """
    encoding = answer.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return answer.body
    if encoding not in {"gzip", "deflate"}:
        raise Broken("a body in gzip, deflate or as it is", encoding)
    expander = zlib.decompressobj(47)  # gzip or zlib's own header, whichever is there
    try:
        body = expander.decompress(answer.body, MOST_BYTES)
    except zlib.error as error:
        raise Broken(f"a body in {encoding}", str(error)) from None
    if not expander.eof:
        raise Broken(f"a whole body in {encoding}", f"{len(answer.body)} bytes without the end")
    return body


def inferred(answer: Answer) -> tuple[InferAnswer, dict[str, Array]]:
    """An answer to a request for inference, and its tensors by name.

    Raises:
        Broken: it is no success, or not in the form of the protocol.
    """
    body = plain(answer)
    length = answer.headers.get(LENGTH_HEADER.lower())
    if length is None:
        said, tail = read(answer, InferAnswer, body), b""
    else:
        if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):  # noqa: PLR2004
            raise Broken(f"the header {LENGTH_HEADER} from 0 to {len(body)}", length)
        said, tail = read(answer, InferAnswer, body[: int(length)]), body[int(length) :]
    arrays: dict[str, Array] = {}
    for output in said.outputs:
        if output.name in arrays:
            raise Broken("each output once", output.name)
        size = (output.parameters or {}).get("binary_data_size")
        if size is None:
            arrays[output.name] = _from_json(output)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(tail):
            raise Broken(f"binary_data_size of {output.name} up to the {len(tail)} bytes left", str(size))
        arrays[output.name] = from_blob(output.name, output.datatype, output.shape, tail[:size])
        tail = tail[size:]
    if tail:
        raise Broken("a body that ends with the last tensor", f"{len(tail)} bytes more")
    return said, arrays


def tensors(answer: Answer) -> dict[str, Array]:
    """The tensors of a successful answer, by name."""
    return inferred(answer)[1]


def from_blob(name: str, datatype: str, shape: list[int], blob: bytes) -> Array:
    """A tensor from its bytes.

    Raises:
        Broken: the data type is unknown, or the bytes are not those of the shape.
    """
    count = _count(name, datatype, shape)
    if datatype == "BYTES":
        return _texts(name, blob, count).reshape(shape)
    kind = np.dtype(DTYPES[datatype])
    if len(blob) != count * kind.itemsize:
        raise Broken(f"{count * kind.itemsize} bytes for {name}, {datatype} {shape}", f"{len(blob)} bytes")
    return np.frombuffer(blob, kind).reshape(shape)


def _texts(name: str, blob: bytes, count: int) -> Array:
    found = []
    while len(blob) >= 4:  # noqa: PLR2004
        size = int.from_bytes(blob[:4], "little")
        found.append(blob[4 : 4 + size].decode(errors="replace"))
        blob = blob[4 + size :] if len(blob) >= 4 + size else b"?"
    if blob or len(found) != count:
        raise Broken(f"{count} texts for {name}, each after its length in 4 bytes", f"{len(found)}, {len(blob)} bytes over")
    return np.array(found, dtype=object)


def _from_json(output: Output) -> Array:
    name, datatype, shape = output.name, output.datatype, output.shape
    _count(name, datatype, shape)
    if output.data is msgspec.UNSET:
        raise Broken(f"data for the output {name}", "none")
    values = _flat(name, output.data)
    wanted: tuple[type, ...] = (int,)
    if datatype in {"BOOL", "BYTES"}:
        wanted = (bool,) if datatype == "BOOL" else (str,)
    elif datatype.startswith("FP"):
        wanted = (int, float)
    for value in values:
        if type(value) not in wanted:
            raise Broken(f"values of {datatype} for {name}", repr(value)[:100])
    try:
        with np.errstate(over="ignore"):  # a number beyond the type is infinite, and differs from what it should be
            return np.array(values, dtype=DTYPES[datatype]).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise Broken(f"values of {datatype} for {name}, shape {shape}", str(error)) from None


def _flat(name: str, data: Any) -> list[Any]:
    """The values of nested lists, in their order."""
    values = [data]
    for _ in range(MOST_DIMENSIONS + 1):
        if not any(isinstance(value, list) for value in values):
            return values
        values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    raise Broken(f"data of {name} in at most {MOST_DIMENSIONS} lists", "deeper lists")


def _count(name: str, datatype: str, shape: list[int]) -> int:
    if datatype not in DTYPES:
        raise Broken(f"a data type of the protocol for {name}", datatype)
    if any(n < 0 for n in shape):
        raise Broken(f"dimensions of 0 or more for {name}", str(shape))
    count = math.prod(shape)
    if count > MOST_BYTES or len(shape) > MOST_DIMENSIONS:
        raise Broken(f"a shape for {name} that its values fill", str(shape))
    return count


# ---------------------------------------------------------------- what must hold


def same(expected: Arrays, found: Arrays, what: str) -> None:
    """Both hold the same outputs with the same values, floats as near as batching may move them.

    Raises:
        Broken: they do not; ``what`` says of whom that was expected.
    """
    if set(expected) != set(found):
        raise Broken(f"{what}: the outputs {_names(expected)}", _names(found))
    for name, array in expected.items():
        other = found[name]
        if array.shape != other.shape:
            raise Broken(f"{what}: {name} with the shape {list(array.shape)}", str(list(other.shape)))
        if array.dtype.kind == "f" and other.dtype.kind == "f":
            alike = np.isclose(array, other, rtol=1e-3, atol=1e-4, equal_nan=True)
        else:
            alike = np.asarray(array == other)
        if not alike.all():
            first = int(np.argmin(alike.ravel()))
            raise Broken(
                f"{what}: {name} with {array.ravel()[first]!r} as value {first}", repr(other.ravel()[first])[:LONGEST_VALUE]
            )


def fits(specs: tuple[Tensor, ...], found: Arrays) -> None:
    """The outputs are those of the metadata, in their data types and shapes.

    Raises:
        Broken: they are not.
        NotTried: the metadata names no outputs.
    """
    if not specs:
        raise NotTried("the metadata names no outputs")
    if {one.name for one in specs} != set(found):
        raise Broken(f"the outputs {_names({one.name: None for one in specs})}", _names(found))
    for one in specs:
        array = found[one.name]
        if datatype_of(array) != one.datatype:
            raise Broken(f"{one.name} as {one.datatype}", datatype_of(array))
        if len(one.shape) != array.ndim or any(n not in (-1, m) for n, m in zip(one.shape, array.shape, strict=True)):
            raise Broken(f"{one.name} in the shape {list(one.shape)} of the metadata", str(list(array.shape)))


def refused(answer: Answer, *statuses: int) -> None:
    """A refusal: an error status, one of ``statuses`` where any are given.

    Raises:
        Broken: it has another.
    """
    wanted = " or ".join(map(str, statuses)) or "400 to 599"
    if answer.status not in (statuses or range(400, 600)):
        raise Broken(f"status {wanted}", str(answer))


def is_refused(_subject: Subject, answers: Sequence[Answer]) -> None:
    """The law that the one request is refused."""
    refused(answers[0])


def explained(answers: Mapping[str, Answer]) -> None:
    """Every refusal among the answers, by what was asked, says why in JSON: ``{"error": a text}``.

    Raises:
        Broken: some do not.
    """
    silent: dict[str, str] = {}
    for name, answer in answers.items():
        if answer.status in range(400, 600):
            try:
                if not decode(plain(answer), Error).error:
                    silent[name] = "an empty text"
            except Broken:
                silent[name] = shown(answer.body)
    if silent:
        name, body = next(iter(silent.items()))
        raise Broken('{"error": a text} in every refusal', f"{len(silent)} of {len(answers)} without: {name}: {body}")


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(sorted(named)) or "none"
