"""ModelInfer of the Open Inference Protocol over gRPC: requests from arrays, arrays from answers, by field numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shipworthy.protocols import Array, Arrays
from shipworthy.testing.conformance.case import Answer, Broken, Call
from shipworthy.testing.conformance.messages import from_blob
from shipworthy.testing.conformance.subject import DTYPES, NotTried, Subject, datatype_of, to_blob
from shipworthy.testing.conformance.wire import Message, field, packed

SERVICE = "/inference.GRPCInferenceService/"
OK = 0

CONTENTS = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), 2),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), 4),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": 8,
}


# ---------------------------------------------------------------- requests


def contents(array: Array) -> bytes:
    """An InferTensorContents.

    Raises:
        NotTried: FP16 has no typed form.
    """
    datatype = datatype_of(array)
    if datatype not in CONTENTS:
        raise NotTried(f"{datatype} has no typed form in gRPC")
    number = CONTENTS[datatype]
    if datatype == "BYTES":
        return b"".join(field(number, str(text)) for text in array.ravel())
    if datatype.startswith("FP"):
        return field(number, array.tobytes())
    return packed(number, array.ravel().tolist())


def tensor(name: str, array: Array, *, raw: bool, datatype: str = "", shape: Sequence[int] | None = None) -> bytes:
    """An InferInputTensor; without its contents when they stand apart."""
    said = field(1, name) + field(2, datatype or datatype_of(array)) + packed(3, array.shape if shape is None else shape)
    return said if raw else said + field(5, contents(array))


def request(subject: Subject, arrays: Arrays | None = None, *, raw: bool = False, more: bytes = b"", name: str = "") -> bytes:
    """A ModelInferRequest; ``more`` are further fields of it."""
    given = subject.values() if arrays is None else arrays
    said = field(1, name or subject.name) + b"".join(field(5, tensor(one, array, raw=raw)) for one, array in given.items())
    return said + more + (b"".join(field(7, to_blob(array)) for array in given.values()) if raw else b"")


def call(method: str, message: bytes = b"") -> Call:
    """A call of the service."""
    return Call(SERVICE + method, (message,))


# ---------------------------------------------------------------- answers


def is_refused(_subject: Subject, answers: Sequence[Answer]) -> None:
    """The law that the one call is refused.

    Raises:
        Broken: it succeeded.
    """
    if answers[0].status == OK:
        raise Broken("an error status", str(answers[0]))


def only(answer: Answer) -> Message:
    """The message of a call that succeeded.

    Raises:
        Broken: it did not, or has not one message.
    """
    if answer.status != OK or len(answer.messages) != 1:
        raise Broken("status 0 (OK) and one message", str(answer))
    return Message(answer.messages[0])


def outputs(said: Message) -> dict[str, Array]:
    """The tensors of a ModelInferResponse, raw or typed.

    Raises:
        Broken: it is not one.
    """
    raw, given = said.blobs(6), said.messages(5)
    if raw and len(raw) != len(given):
        raise Broken(f"raw contents of {len(given)} outputs", f"{len(raw)}")
    found: dict[str, Array] = {}
    for i, one in enumerate(given):
        name, datatype, shape = one.text(1), one.text(2), one.numbers(3)
        blob = raw[i] if raw else _blob(name, datatype, one.message(5))
        found[name] = from_blob(name, datatype, shape, blob)
    return found


def _blob(name: str, datatype: str, said: Message) -> bytes:
    """Typed contents as the bytes that they would be when raw."""
    if datatype not in CONTENTS:
        raise Broken(f"a data type of {name} that has typed contents, or raw contents", datatype or "none")
    number = CONTENTS[datatype]
    if datatype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in said.blobs(number))
    if datatype.startswith("FP"):
        return said.floats(number, DTYPES[datatype]).tobytes()
    values = said.numbers(number)
    kind = np.dtype(DTYPES[datatype])
    if datatype == "UINT64":
        values = [value % (1 << 64) for value in values]
    try:
        return np.array(values, dtype=kind).tobytes()
    except OverflowError as error:
        raise Broken(f"values of {datatype} for {name}", str(error)) from None
