"""TensorFlow Serving over gRPC, written and read by field numbers, its answers compared with those of REST."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shipworthy.protocols import Array
from shipworthy.testing.conformance.case import Answer, Broken, Call, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.grpc_messages import is_refused, only
from shipworthy.testing.conformance.laws.oip_grpc import NOT_FOUND, UNIMPLEMENTED
from shipworthy.testing.conformance.messages import from_blob, infer, same, tensors
from shipworthy.testing.conformance.subject import NotTried, Subject, datatype_of
from shipworthy.testing.conformance.wire import Message, entry, field, packed

SPEC = "TensorFlow Serving, apis/*.proto"
TENSOR = "TensorFlow, tensor.proto"
OVMS = "ovmsclient reads it"
PREDICT = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
AVAILABLE = 30

# Data type: (number in DataType, field of its values in TensorProto).
TYPES = {
    "FP32": (1, 5),
    "FP64": (2, 6),
    "INT32": (3, 7),
    "UINT8": (4, 7),
    "INT16": (5, 7),
    "INT8": (6, 7),
    "BYTES": (7, 8),
    "INT64": (9, 10),
    "BOOL": (10, 11),
    "UINT16": (17, 7),
    "FP16": (19, 13),
    "UINT32": (22, 16),
    "UINT64": (23, 17),
}
NAMES = {number: name for name, (number, _) in TYPES.items()}


# ---------------------------------------------------------------- requests


def spec(subject: Subject, name: str = "", version: int | None = None, more: bytes = b"") -> bytes:
    """A ModelSpec."""
    said = field(1, name or subject.name)
    return said + (b"" if version is None else field(2, field(1, version))) + more


def tensor(array: Array, *, typed: bool) -> bytes:
    """A TensorProto: its values one by one, or as bytes (texts always one by one)."""
    number, place = TYPES[datatype_of(array)]
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    said = field(1, number) + field(2, shape)
    if array.dtype.kind == "O":
        return said + b"".join(field(place, str(text)) for text in array.ravel())
    if not typed:
        return said + field(4, array.tobytes())
    if array.dtype.kind == "f" and array.dtype.itemsize > 2:  # noqa: PLR2004
        return said + field(place, array.tobytes())
    values = array.view(np.uint16) if array.dtype.kind == "f" else array
    return said + packed(place, values.ravel().tolist())


def request(
    subject: Subject, *, typed: bool = False, model: bytes = b"", arrays: dict[str, Array] | None = None, more: bytes = b""
) -> bytes:
    """A PredictRequest."""
    given = subject.values() if arrays is None else arrays
    said = field(1, model or spec(subject)) + more
    return said + b"".join(entry(2, name, tensor(array, typed=typed)) for name, array in given.items())


def _predict(message: bytes) -> Call:
    return Call(PREDICT + "Predict", (message,))


def _version(subject: Subject) -> int:
    if not subject.version.isdecimal():
        raise NotTried("the metadata names no version that is a number")
    return int(subject.version)


def _repeated(subject: Subject) -> list[Step]:
    """Every value of the first numeric input the same, and given once."""
    arrays = subject.values()
    name = next((one.name for one in subject.inputs if one.datatype not in {"BYTES", "FP16"}), None)
    if name is None:
        raise NotTried("the model has no numeric input")
    arrays[name] = np.ones_like(arrays[name])
    whole = request(subject, typed=True, arrays=arrays)
    number, place = TYPES[datatype_of(arrays[name])]
    shape = b"".join(field(2, field(1, size)) for size in arrays[name].shape)
    value = arrays[name].ravel()[:1]
    once = field(place, value.tobytes()) if value.dtype.kind == "f" else packed(place, value.tolist())
    others = {one: array for one, array in arrays.items() if one != name}
    short = request(subject, typed=True, arrays=others) + entry(2, name, field(1, number) + field(2, shape) + once)
    return [_predict(whole), _predict(short)]


# ---------------------------------------------------------------- answers


def outputs(answer: Answer) -> dict[str, Array]:
    """The tensors of a PredictResponse.

    Raises:
        Broken: it is not one.
    """
    return {name: _read(name, one) for name, one in only(answer).map(1).items()}


def _read(name: str, said: Message) -> Array:
    datatype = NAMES.get(said.number(1), "")
    shape = [one.number(1) for one in said.message(2).messages(2)]
    if not datatype:
        raise Broken(f"a data type of {name}", str(said.number(1)))
    if 4 in said:  # noqa: PLR2004
        return from_blob(name, datatype, shape, said.blobs(4)[-1])
    place = TYPES[datatype][1]
    if datatype == "BYTES":
        blob = b"".join(len(text).to_bytes(4, "little") + text for text in said.blobs(place))
    elif datatype in {"FP32", "FP64"}:
        blob = said.floats(place, "<f4" if datatype == "FP32" else "<f8").tobytes()
    else:
        kind = np.dtype("<u2") if datatype == "FP16" else from_blob(name, datatype, [0], b"").dtype
        values = said.numbers(place)
        try:
            blob = np.array([value % (1 << 64) if datatype == "UINT64" else value for value in values], dtype=kind).tobytes()
        except OverflowError as error:
            raise Broken(f"values of {datatype} for {name}", str(error)) from None
    return from_blob(name, datatype, shape, blob)


def _status(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status == UNIMPLEMENTED:
        raise NotOffered(str(answers[0]))
    found = [(one.number(1), one.number(2)) for one in only(answers[0]).messages(1)]
    if not any(state == AVAILABLE and subject.version in {"", str(version)} for version, state in found):
        raise Broken(f"version {subject.version} as AVAILABLE (30)", str(found))


def _as_rest(_subject: Subject, answers: Sequence[Answer]) -> None:
    same(tensors(answers[0]), outputs(answers[1]), "the answer is that of the Open Inference Protocol")


def _as_whole(_subject: Subject, answers: Sequence[Answer]) -> None:
    same(outputs(answers[0]), outputs(answers[1]), "a value given once stands for all that follow")


def _filled(subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers:
        said = only(answer).message(2)
        found = said.text(1), said.message(2).number(1)
        if found != (subject.name, _version(subject)):
            raise Broken(f"model_spec with {subject.name} and version {subject.version}", str(found))


def _filtered(subject: Subject) -> list[Step]:
    if len(subject.outputs) < 2:  # noqa: PLR2004
        raise NotTried("the model has one output")
    return [_predict(request(subject, more=field(3, subject.outputs[-1].name)))]


def _one(subject: Subject, answers: Sequence[Answer]) -> None:
    found = sorted(outputs(answers[0]))
    if found != [subject.outputs[-1].name]:
        raise Broken(f"the output {subject.outputs[-1].name} alone", ", ".join(found))


def _metadata(subject: Subject, answers: Sequence[Answer]) -> None:
    found = only(answers[0]).map(2).get("signature_def")
    if found is None:
        raise Broken("metadata with the entry signature_def", str(answers[0]))
    if found.text(1) != "type.googleapis.com/tensorflow.serving.SignatureDefMap":
        raise Broken("an Any of tensorflow.serving.SignatureDefMap", found.text(1))
    signature = found.message(2).map(1).get("serving_default")
    if signature is None or sorted(signature.map(1)) != sorted(one.name for one in subject.inputs):
        raise Broken("the signature serving_default with the model's inputs", str(answers[0]))


def _not_found(_subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers:
        if answer.status != NOT_FOUND:
            raise Broken("status 5 (NOT_FOUND)", str(answer))


def _stranger(subject: Subject) -> bytes:
    array = next(iter(subject.values().values()))
    return request(subject, more=entry(2, "no-such-input", tensor(array, typed=False)))


def _misfit(subject: Subject) -> bytes:
    name, array = next(iter(subject.values().items()))
    others = {one: other for one, other in subject.values().items() if one != name}
    return request(subject, arrays=others) + entry(2, name, tensor(array, typed=False) + field(2, field(2, field(1, -7))))


REFUSALS: tuple[tuple[str, str, Callable[[Subject], bytes]], ...] = (
    ("garbage", "bytes that are no message", lambda _: b"\xff\xff\xff\xff"),
    ("missing-input", "a request without inputs", lambda s: field(1, spec(s))),
    ("unknown-input", "an input that the model does not have", _stranger),
    ("negative-dimension", "a dimension below zero", _misfit),
    ("unknown-signature", "a signature that does not exist",
     lambda s: request(s, model=spec(s, more=field(3, "no-such-signature")))),
    ("unknown-output", "an output that does not exist", lambda s: request(s, more=field(3, "no-such-output"))),
)  # fmt: skip

GROUP = Group(
    "tfs.grpc",
    "TensorFlow Serving, gRPC",
    (
        Case("tfs.grpc.status", "GetModelStatus says AVAILABLE.", f"{SPEC}; {OVMS}", "extension",
             lambda s: [Call(MODEL + "GetModelStatus", (field(1, spec(s)),))], _status),
        Case("tfs.grpc.metadata", "GetModelMetadata has the signature serving_default.", f"{SPEC}; {OVMS}", "extension",
             lambda s: [Call(PREDICT + "GetModelMetadata", (field(1, spec(s)) + field(2, "signature_def"),))], _metadata),
        Case("tfs.grpc.content", "Predict with tensor_content is answered as by REST.", TENSOR, "extension",
             lambda s: [infer(s), _predict(request(s))], _as_rest),
        Case("tfs.grpc.typed", "Predict with values one by one is answered as by REST.", TENSOR, "extension",
             lambda s: [infer(s), _predict(request(s, typed=True))], _as_rest),
        Case("tfs.grpc.repeated", "A value that is given once fills the shape.", TENSOR, "extension", _repeated, _as_whole),
        Case("tfs.grpc.model-spec", "An answer says in model_spec which version gave it, asked for or not.", SPEC, "extension",
             lambda s: [_predict(request(s)), _predict(request(s, model=spec(s, version=_version(s))))], _filled),
        Case("tfs.grpc.filter", "output_filter gives the outputs it names and no others.", SPEC, "extension",
             _filtered, _one),
        *(
            Case(f"tfs.grpc.{key}", f"Refused: {what}.", SPEC, "extension",
                 lambda s, make=make: [_predict(make(s))], is_refused)  # type: ignore[misc]
            for key, what, make in REFUSALS
        ),
        Case("tfs.grpc.not-found", "A model or a version that does not exist is NOT_FOUND.", SPEC, "extension",
             lambda s: [_predict(request(s, model=spec(s, "no-such-model"))),
                        _predict(request(s, model=spec(s, version=987654321))),
                        Call(MODEL + "GetModelStatus", (field(1, spec(s, "no-such-model")),))], _not_found),
    ),
    grpc=True,
)  # fmt: skip
