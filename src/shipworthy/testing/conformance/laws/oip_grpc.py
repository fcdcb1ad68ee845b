"""The Open Inference Protocol over gRPC, written and read by field numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shipworthy.testing.conformance.case import Answer, Broken, Call, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.grpc_messages import CONTENTS, OK, SERVICE, call, is_refused, only, outputs, request, tensor
from shipworthy.testing.conformance.laws.rest import ANY_ID, ID
from shipworthy.testing.conformance.messages import infer, same, tensors
from shipworthy.testing.conformance.subject import NotTried, Subject, to_blob
from shipworthy.testing.conformance.wire import Message, field

SPEC = "OIP open_inference_grpc.proto"
TRITON = "Triton, grpc_service.proto"
INVALID, NOT_FOUND, UNIMPLEMENTED = 3, 5, 12
ABSENT = {7, UNIMPLEMENTED, 14, 16}  # 7: PERMISSION_DENIED, 14: UNAVAILABLE, 16: UNAUTHENTICATED
CALLERS_FAULT = {INVALID, NOT_FOUND, 9, 11, UNIMPLEMENTED}  # 9: FAILED_PRECONDITION, 11: OUT_OF_RANGE


def _infer(message: bytes) -> list[Step]:
    return [call("ModelInfer", message)]


def _flag(_subject: Subject, answers: Sequence[Answer]) -> None:
    if only(answers[0]).number(1) != 1:
        raise Broken("true in field 1", str(answers[0]))


def _offered(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status == UNIMPLEMENTED:
        raise NotOffered(str(answers[0]))
    _flag(subject, answers)


def _not_ready(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status == OK and only(answers[0]).number(1):
        raise Broken("false, or an error status", "ready: true")


def _server(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[0])
    if not said.text(1) or not said.text(2):
        raise Broken("a name (field 1) and a version (field 2)", str(answers[0]))
    said.texts(3)


def _model(subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[0])
    if said.text(1) != subject.name:
        raise Broken(f"the name {subject.name}", said.text(1))
    for number, specs in ((4, subject.inputs), (5, subject.outputs)):
        found = [(one.text(1), one.text(2), tuple(one.numbers(3))) for one in said.messages(number)]
        wanted = [(one.name, one.datatype, one.shape) for one in specs]
        if found != wanted:
            raise Broken(f"in field {number} what REST says: {wanted}", str(found))


def _as_rest(subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[1])
    same(tensors(answers[0]), outputs(said), "the answer is that of REST")
    if said.text(1) != subject.name:
        raise Broken(f"model_name {subject.name}", said.text(1))


def _raw_for_raw(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[0])
    outputs(said)
    if not said.blobs(6):
        raise Broken("raw_output_contents (field 6) for raw_input_contents", "typed contents")


def _typed_for_typed(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[0])
    if any(datatype not in CONTENTS for datatype in (one.text(2) for one in said.messages(5))):
        raise NotTried("an output has no typed form")
    outputs(said)
    if said.blobs(6):
        raise Broken("typed contents for typed contents", "raw_output_contents (field 6)")


def _exclusive(_subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers:
        said = only(answer)
        outputs(said)
        if said.blobs(6) and any(any(one.blobs(5)) for one in said.messages(5)):
            raise Broken("no contents where raw_output_contents are given", "both")


def _echoes(asked: str) -> Callable[[Subject, Sequence[Answer]], None]:
    def holds(_subject: Subject, answers: Sequence[Answer]) -> None:
        said = only(answers[0]).text(3)
        if said != asked:
            raise Broken(f"the id of the request, '{asked}'", said)

    return holds


def _last_only(subject: Subject) -> list[Step]:
    if len(subject.outputs) < 2:  # noqa: PLR2004
        raise NotTried("the model has one output")
    return _infer(request(subject, raw=True, more=field(6, field(1, subject.outputs[-1].name))))


def _one(subject: Subject, answers: Sequence[Answer]) -> None:
    found = sorted(outputs(only(answers[0])))
    if found != [subject.outputs[-1].name]:
        raise Broken(f"the output {subject.outputs[-1].name} alone", ", ".join(found))


def _version(subject: Subject) -> list[Step]:
    if not subject.version:
        raise NotTried("the metadata names no version of the model")
    return _infer(request(subject, raw=True, more=field(2, subject.version)))


def _of_version(subject: Subject, answers: Sequence[Answer]) -> None:
    said = only(answers[0])
    outputs(said)
    if said.text(2) != subject.version:
        raise Broken(f"model_version {subject.version}", said.text(2))


# ---------------------------------------------------------------- what must be refused


def _both_forms(subject: Subject) -> bytes:
    return request(subject) + b"".join(field(7, to_blob(array)) for array in subject.values().values())


def _first(subject: Subject, *, datatype: str = "", shape: Sequence[int] | None = None) -> bytes:
    """A request whose first input says another data type or shape."""
    entries = list(subject.values().items())
    given = [
        field(5, tensor(name, array, raw=True, datatype="" if i else datatype, shape=None if i else shape))
        for i, (name, array) in enumerate(entries)
    ]
    return field(1, subject.name) + b"".join(given) + b"".join(field(7, to_blob(array)) for _, array in entries)


def _stranger(subject: Subject) -> bytes:
    array = next(iter(subject.values().values()))
    return request(subject, more=field(5, tensor("no-such-input", array, raw=False)))


def _longer(subject: Subject) -> bytes:
    arrays = subject.values()
    given = b"".join(field(5, tensor(name, array, raw=True)) for name, array in arrays.items())
    return field(1, subject.name) + given + b"".join(field(7, to_blob(array) + b"\0\0\0") for array in arrays.values())


REFUSALS: tuple[tuple[str, str, str, Callable[[Subject], bytes]], ...] = (
    ("garbage", "bytes that are no message", "protobuf encoding", lambda _: b"\xff\xff\xff\xff"),
    ("unknown-model", "a model that does not exist", SPEC, lambda s: request(s, raw=True, name="no-such-model")),
    ("missing-input", "a request without inputs", SPEC, lambda s: field(1, s.name)),
    ("both-forms", "typed and raw contents together", f"{SPEC}: raw_input_contents", _both_forms),
    ("too-few-raw", "raw contents of one input fewer", f"{SPEC}: raw_input_contents",
     lambda s: field(1, s.name) + b"".join(field(5, tensor(n, a, raw=True)) for n, a in s.values().items())),
    ("raw-size", "raw contents of another size than the shape", f"{SPEC}: raw_input_contents", _longer),
    ("negative-dimension", "a dimension below zero", SPEC, lambda s: _first(s, shape=[-1, -1])),
    ("overflow", "dimensions whose product passes 2^64", SPEC, lambda s: _first(s, shape=[1 << 32, 1 << 32, 1 << 32])),
    ("unknown-datatype", "a data type that does not exist", SPEC, lambda s: _first(s, datatype="FP31")),
)  # fmt: skip


# Garbage is answered by gRPC's own libraries, and with INTERNAL; overflow may take a server down.
ORDINARY = tuple(one for one in REFUSALS if one[0] not in {"garbage", "overflow"})


def _callers_fault(_subject: Subject, answers: Sequence[Answer]) -> None:
    found = {one[0]: answer.status for one, answer in zip(ORDINARY, answers, strict=True)}
    others = [f"{key}: {status}" for key, status in found.items() if status not in {OK, *CALLERS_FAULT}]
    if others:
        raise Broken("INVALID_ARGUMENT (3), or another status that blames the caller", ", ".join(others))


def _not_found(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != NOT_FOUND:
        raise Broken("status 5 (NOT_FOUND)", str(answers[0]))


def _no_method(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != UNIMPLEMENTED:
        raise Broken("status 12 (UNIMPLEMENTED)", str(answers[0]))


# ---------------------------------------------------------------- extensions


def _stream(subject: Subject) -> list[Step]:
    good = [request(subject, raw=True, more=field(3, f"answer {i}")) for i in range(3)]
    return [infer(subject), Call(SERVICE + "ModelStreamInfer", (*good[:2], field(1, "no-such-model"), good[2]), 4)]


def _streamed(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status in ABSENT:
        raise NotOffered(str(answers[1]))
    if answers[1].status != OK or len(answers[1].messages) != 4:  # noqa: PLR2004
        raise Broken("status 0 (OK) and four answers: an error in one leaves the stream open", str(answers[1]))
    said = [Message(message) for message in answers[1].messages]
    for one in said:
        answer, error = one.message(2), one.text(1)
        if not error:
            same(tensors(answers[0]), outputs(answer), "an answer in a stream is that of REST")
    ids = sorted(one.message(2).text(3) for one in said if not one.text(1))
    if ids != ["answer 0", "answer 1", "answer 2"]:
        raise Broken("an answer to each request, with its id, and an error to the wrong one", str(ids))


def _index(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status in ABSENT:
        raise NotOffered(str(answers[0]))
    lines = [(one.text(1), one.text(3)) for one in only(answers[0]).messages(1)]
    if (subject.name, "READY") not in lines:
        raise Broken(f"{subject.name} with the state READY", str(lines))


def _statistics(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[2].status in ABSENT:
        raise NotOffered(str(answers[2]))
    before, after = (
        sum(one.number(4) for one in only(answer).messages(1) if one.text(1) == subject.name) for answer in answers[::2]
    )
    if after <= before:
        raise Broken(f"an inference_count (field 4) above {before} after a request", str(after))


def _config(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status in ABSENT:
        raise NotOffered(str(answers[0]))
    said = only(answers[0]).message(1)
    found = [one.text(1) for one in said.messages(5)]
    if said.text(1) != subject.name or found != [one.name for one in subject.inputs]:
        raise Broken(f"{subject.name} with the inputs of its metadata", f"{said.text(1)}: {found}")


def _counted(subject: Subject) -> list[Step]:
    stats = call("ModelStatistics", field(1, subject.name))
    return [stats, call("ModelInfer", request(subject, raw=True)), stats]


def _away_and_back(subject: Subject) -> list[Step]:
    if not subject.unload:
        raise NotTried("the model was not to be unloaded: --unload asks for it")
    name, ready = field(2, subject.name), call("ModelReady", field(1, subject.name))
    asked = call("ModelInfer", request(subject, raw=True))
    return [asked, call("RepositoryModelUnload", name), ready, asked, call("RepositoryModelLoad", name), ready, asked]


def _came_back(_subject: Subject, answers: Sequence[Answer]) -> None:
    before, away, gone, refusal, back, ready, after = answers
    if away.status in ABSENT:
        raise NotOffered(str(away))
    for what, answer, good in (
        ("unload: status 0 (OK)", away, away.status == OK),
        ("an unloaded model is not ready", gone, gone.status != OK or not only(gone).number(1)),
        ("an unloaded model refuses", refusal, refusal.status != OK),
        ("load: status 0 (OK)", back, back.status == OK),
        ("a loaded model is ready", ready, ready.status == OK and only(ready).number(1) == 1),
    ):
        if not good:
            raise Broken(what, str(answer))
    same(outputs(only(before)), outputs(only(after)), "the model answers as before")


GROUP = Group(
    "oip.grpc",
    "Open Inference Protocol, gRPC",
    (
        Case("oip.grpc.live", "ServerLive says true.", SPEC, "specification", lambda _: [call("ServerLive")], _offered),
        Case("oip.grpc.ready", "ServerReady says true.", SPEC, "specification", lambda _: [call("ServerReady")], _flag),
        Case("oip.grpc.model-ready", "ModelReady says true of a loaded model.", SPEC, "specification",
             lambda s: [call("ModelReady", field(1, s.name))], _flag),
        Case("oip.grpc.unknown-model-ready", "ModelReady does not say true of a model that does not exist.", SPEC,
             "specification", lambda _: [call("ModelReady", field(1, "no-such-model"))], _not_ready),
        Case("oip.grpc.server", "ServerMetadata has name and version.", SPEC, "specification",
             lambda _: [call("ServerMetadata")], _server),
        Case("oip.grpc.model", "ModelMetadata says what REST says.", SPEC, "specification",
             lambda s: [call("ModelMetadata", field(1, s.name))], _model),
        Case("oip.grpc.typed", "A request with typed contents is answered as by REST.", SPEC, "specification",
             lambda s: [infer(s), call("ModelInfer", request(s))], _as_rest),
        Case("oip.grpc.raw", "A request with raw contents is answered as by REST.", SPEC, "specification",
             lambda s: [infer(s), call("ModelInfer", request(s, raw=True))], _as_rest),
        Case("oip.grpc.exclusive", "An answer has raw contents or typed ones, never both.", f"{SPEC}: raw_output_contents",
             "specification", lambda s: [*_infer(request(s)), *_infer(request(s, raw=True))], _exclusive),
        Case("oip.grpc.raw-for-raw", "Who sends raw contents gets raw contents.", "tritonclient.grpc reads numbers only so",
             "client", lambda s: _infer(request(s, raw=True)), _raw_for_raw),
        Case("oip.grpc.typed-for-typed", "Who sends typed contents gets typed contents.",
             "KServe and MLServer do so; clients that are generated from the .proto read contents", "client",
             lambda s: _infer(request(s)), _typed_for_typed),
        Case("oip.grpc.id", "The id of a request is returned in its answer.", SPEC, "specification",
             lambda s: _infer(request(s, raw=True, more=field(3, ID))), _echoes(ID)),
        Case("oip.grpc.any-id", "An id may be any text, also beyond ASCII.", SPEC, "specification",
             lambda s: _infer(request(s, raw=True, more=field(3, ANY_ID))), _echoes(ANY_ID)),
        Case("oip.grpc.one-output", "A request that names an output gets that one and no other.", SPEC, "specification",
             _last_only, _one),
        Case("oip.grpc.version", "A version that is asked for answers, and says so in model_version.", SPEC, "specification",
             _version, _of_version),
        *(
            Case(f"oip.grpc.{key}", f"Refused: {what}.", source, "specification",
                 lambda s, make=make: _infer(make(s)), is_refused)  # type: ignore[misc]
            for key, what, source, make in REFUSALS
        ),
        Case("oip.grpc.unknown-input", "Refused: an input that the model does not have.",
             "Triton refuses it", "client", lambda s: _infer(_stranger(s)), is_refused),
        Case("oip.grpc.unknown-output", "Refused: an output that the model does not have.",
             "Triton refuses it", "client",
             lambda s: _infer(request(s, raw=True, more=field(6, field(1, "no-such-output")))), is_refused),
        Case("oip.grpc.not-found", "A model that does not exist is NOT_FOUND.", "Triton, KServe and MLServer say so", "client",
             lambda s: _infer(request(s, raw=True, name="no-such-model")), _not_found),
        Case("oip.grpc.callers-fault", "A malformed request is the caller's fault: no INTERNAL, no UNKNOWN.",
             "grpc.io, Status codes and their use", "client",
             lambda s: [call("ModelInfer", make(s)) for *_, make in ORDINARY], _callers_fault),
        Case("oip.grpc.no-method", "A method that does not exist is UNIMPLEMENTED.", "grpc.io, Status codes and their use",
             "specification", lambda _: [call("NoSuchMethod")], _no_method),
        Case("oip.grpc.stream", "ModelStreamInfer answers each request with its id; an error leaves the stream open.", TRITON,
             "extension", _stream, _streamed),
        Case("oip.grpc.index", "RepositoryIndex has the model with the state READY.", TRITON, "extension",
             lambda _: [call("RepositoryIndex")], _index),
        Case("oip.grpc.statistics", "ModelStatistics counts a request.", TRITON, "extension", _counted, _statistics),
        Case("oip.grpc.config", "ModelConfig names the model and its inputs.", TRITON, "extension",
             lambda s: [call("ModelConfig", field(1, s.name))], _config),
        Case("oip.grpc.unload", "An unloaded model is not ready and refuses; loaded again, it answers as before.", TRITON,
             "extension", _away_and_back, _came_back),
    ),
    grpc=True,
)  # fmt: skip
