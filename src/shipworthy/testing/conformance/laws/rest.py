"""What the Open Inference Protocol says of REST: health, metadata, inference, versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from shipworthy.testing.conformance.case import Answer, Broken, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.messages import (
    OK,
    ask,
    explained,
    fits,
    get,
    infer,
    inferred,
    is_refused,
    nested,
    read,
    refused,
    same,
    tensors,
    with_bytes,
)
from shipworthy.testing.conformance.subject import NotTried, Subject, Tensor

SPEC = "OIP inference_rest.md"
KSERVE = "kserve's client (inference_client.py) reads it"
TRITON = "tritonclient (http/_client.py)"
ID, ANY_ID = "request-42", 'an id: "42/é", \U0001f642'
UNSUPPORTED = 501
REDIRECTS = {301, 302, 307, 308}
BIG = (1 << 53) + 1  # the first whole number that a double does not hold


class _Live(msgspec.Struct):
    live: bool


class _Ready(msgspec.Struct):
    ready: bool


class _ModelReady(msgspec.Struct):
    name: str
    ready: bool


class ServerMetadata(msgspec.Struct):
    """What a server says of itself."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(msgspec.Struct):
    """What a server says of a model."""

    name: str
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    versions: list[str] | None = None


def _live(_subject: Subject, answers: Sequence[Answer]) -> None:
    if not read(answers[0], _Live).live:
        raise Broken('{"live": true}', str(answers[0]))


def _ready(_subject: Subject, answers: Sequence[Answer]) -> None:
    if not read(answers[0], _Ready).ready:
        raise Broken('{"ready": true}', str(answers[0]))


def _model_ready(subject: Subject, answers: Sequence[Answer]) -> None:
    said = read(answers[0], _ModelReady)
    if (said.name, said.ready) != (subject.name, True):
        raise Broken(f'{{"name": "{subject.name}", "ready": true}}', str(answers[0]))


def _success(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != OK:
        raise Broken("status 200", str(answers[0]))


def _failure(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status not in range(400, 600):
        raise Broken("status 400 to 599", str(answers[0]))


def _explained(_subject: Subject, answers: Sequence[Answer]) -> None:
    refused(answers[0])
    explained({"the request": answers[0]})


def _same_server(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status not in REDIRECTS:
        _server(_subject, answers)
    elif not answers[0].headers.get("location", "").endswith("/v2"):
        raise Broken("the metadata, or the way to /v2", str(answers[0]))


def _server(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = read(answers[0], ServerMetadata)
    if not said.name or not said.version:
        raise Broken("a name and a version", str(answers[0]))


def _model(subject: Subject, answers: Sequence[Answer]) -> None:
    said = read(answers[0], ModelMetadata)
    if said.name != subject.name:
        raise Broken(f"the name {subject.name}", said.name)
    if not said.inputs or not said.outputs:
        raise Broken("the inputs that the model requires, and the outputs that it produces", str(answers[0]))


def _of_model(subject: Subject, answers: Sequence[Answer]) -> None:
    said, found = inferred(answers[0])
    if said.model_name != subject.name:
        raise Broken(f"model_name {subject.name}", said.model_name)
    if not found:
        raise Broken("at least one output", str(answers[0]))


def _fitting(subject: Subject, answers: Sequence[Answer]) -> None:
    fits(subject.outputs, tensors(answers[0]))


def echoes(asked: str) -> Callable[[Subject, Sequence[Answer]], None]:
    """The id of the answer is the one that was asked with."""

    def holds(_subject: Subject, answers: Sequence[Answer]) -> None:
        said = inferred(answers[0])[0].id
        if said != asked:
            raise Broken(f"the id of the request, '{asked}'", str(said))

    return holds


def _last_only(subject: Subject, answers: Sequence[Answer]) -> None:
    every, one = tensors(answers[0]), tensors(answers[1])
    name = _last(subject)
    same({name: every[name]} if name in every else {}, one, "asked for one output alone")


def _all_same(_subject: Subject, answers: Sequence[Answer]) -> None:
    first = tensors(answers[0])
    for answer in answers[1:]:
        same(first, tensors(answer), "the answer to the same request in another form")


def _row_by_row(_subject: Subject, answers: Sequence[Answer]) -> None:
    whole, *rows = (tensors(answer) for answer in answers)
    for name, array in whole.items():
        alone = [row[name] for row in rows if name in row and row[name].ndim]
        if len(alone) != len(rows) or not array.ndim:
            raise Broken(f"an output {name} with its rows in every answer", "one without")
        if any(one.shape[1:] != array.shape[1:] for one in alone):
            raise NotTried(f"the shape of a row of {name} depends on the batch")
        same({name: np.concatenate(alone)}, {name: array}, "rows asked for together are as asked for alone")


def _big(_subject: Subject, answers: Sequence[Answer]) -> None:
    if any(answer.status != OK for answer in answers):
        raise NotTried("the model, or the server's binary extension, does not take such a number")
    same(tensors(answers[1]), tensors(answers[0]), "a large whole number by JSON is as by bytes")


def _last(subject: Subject) -> str:
    if len(subject.outputs) < 2:  # noqa: PLR2004
        raise NotTried("the model has one output")
    return subject.outputs[-1].name


def _rows(subject: Subject) -> list[Step]:
    arrays = subject.with_rows(3)
    alone = [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(3)]
    return [infer(subject, ask(one)) for one in (arrays, *alone)]


def _big_number(subject: Subject) -> list[Step]:
    name = subject.of_kind("INT64").name
    arrays = subject.values()
    arrays[name] = np.full_like(arrays[name], BIG)
    return [infer(subject, ask(arrays)), with_bytes(subject, arrays)]


def _quoted(subject: Subject) -> list[Step]:
    name = "".join(f"%{byte:02X}" for byte in subject.name.encode())
    return [infer(subject), infer(subject, path=f"/v2/models/{name}")]


def _plain_type(subject: Subject, kind: str | None) -> list[Step]:
    whole = infer(subject)
    return [whole, replace(whole, headers={"Content-Type": kind} if kind else {})]


def _json_type(_subject: Subject, answers: Sequence[Answer]) -> None:
    tensors(answers[0])
    kind = answers[0].headers.get("content-type", "")
    if not re.fullmatch(r"application/json\s*(;.*)?", kind, re.IGNORECASE):
        raise Broken("Content-Type: application/json", kind or "none")


# ---------------------------------------------------------------- versions


def _versioned(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != OK:
        raise NotOffered(f"GET {subject.versioned}: {answers[0]}")
    _model(subject, answers)


def _of_version(subject: Subject, answers: Sequence[Answer]) -> None:
    _of_model(subject, answers)
    said = inferred(answers[0])[0].model_version
    if said != subject.version:
        raise Broken(f"model_version {subject.version}", str(said))


def _missing_version(_subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers:
        if answer.status == UNSUPPORTED:
            raise NotOffered(str(answer))
        refused(answer, 404)


def _at(subject: Subject, version: str) -> str:
    return f"{subject.path}/versions/{version}"


_V2 = f"{SPEC}: the table of APIs"
_META = f"{SPEC}: Model Metadata"
_INFER = f"{SPEC}: Inference"
_DATA = f"{SPEC}: Tensor Data"

HEALTH = Group(
    "oip.health",
    "Health and its bodies",
    (
        Case("oip.health.live", "A server that runs is live: status 200.", f"{SPEC}: Server Live", "specification",
             lambda _: [get("/v2/health/live")], _success),
        Case("oip.health.live-body", 'Liveness is said in JSON: {"live": true}.', f"{SPEC}: Server Live; {KSERVE}",
             "specification", lambda _: [get("/v2/health/live")], _live),
        Case("oip.health.ready", "A server whose models are loaded is ready: status 200.", f"{SPEC}: Server Ready",
             "specification", lambda _: [get("/v2/health/ready")], _success),
        Case("oip.health.ready-body", 'Readiness is said in JSON: {"ready": true}.', f"{KSERVE}; {SPEC} writes 'live' here",
             "client", lambda _: [get("/v2/health/ready")], _ready),
        Case("oip.health.model-ready", "A loaded model is ready: status 200.", f"{SPEC}: Model Ready", "specification",
             lambda s: [get(s.path + "/ready")], _success),
        Case("oip.health.model-ready-body", 'A model\'s readiness is said in JSON: {"name": its name, "ready": true}.',
             f"{SPEC}: Model Ready", "specification", lambda s: [get(s.path + "/ready")], _model_ready),
        Case("oip.health.unknown-model", "A model that does not exist is not ready: no status 200.", f"{SPEC}: Model Ready",
             "specification", lambda _: [get("/v2/models/no-such-model/ready")], _failure),
    ),
)  # fmt: skip

REST = Group(
    "oip.rest",
    "Open Inference Protocol, REST",
    (
        Case("oip.rest.server", "Server metadata has a name, a version and a list of extensions.", f"{SPEC}: Server Metadata",
             "specification", lambda _: [get("/v2")], _server),
        Case("oip.rest.server-slash", "Server metadata is at /v2/ as well, or a redirection to /v2.",
             "OIP open_inference_rest.yaml lists that path",
             "client", lambda _: [get("/v2/")], _same_server),
        Case("oip.rest.model", "Model metadata has name, platform, inputs and outputs, each with name, datatype and shape.",
             f"{_META} Response", "specification", lambda s: [get(s.path)], _model),
        Case("oip.rest.unknown-model", 'Metadata of a model that does not exist is refused with {"error": a text}.',
             f"{_META} Response JSON Error Object", "specification", lambda _: [get("/v2/models/no-such-model")], _explained),
        Case("oip.rest.infer", "A valid request is answered with 200, the model's name and its outputs, each whole.",
             f"{_INFER} Response JSON Object", "specification", lambda s: [infer(s)], _of_model),
        Case("oip.rest.metadata-holds", "The outputs have the names, data types and shapes that the metadata gives.",
             _META, "specification", lambda s: [infer(s)], _fitting),
        Case("oip.rest.id", "The id of a request is returned in its answer.", f"{_INFER} Request JSON Object: id",
             "specification", lambda s: [infer(s, ask(s.values(), id=ID))], echoes(ID)),
        Case("oip.rest.any-id", "An id may be any text, also beyond ASCII.", f"{_INFER} Request JSON Object: id",
             "specification", lambda s: [infer(s, ask(s.values(), id=ANY_ID))], echoes(ANY_ID)),
        Case("oip.rest.one-output", "A request that names an output gets that one and no other.",
             f"{SPEC}: Request Output", "specification",
             lambda s: [infer(s), infer(s, ask(s.values(), outputs=[{"name": _last(s)}]))], _last_only),
        Case("oip.rest.nested", "Data may be flat or nested as the tensor is.", _DATA, "specification",
             lambda s: [infer(s), infer(s, nested(s.values()))], _all_same),
        Case("oip.rest.rows", "Each row of a batch is answered as it is alone.", f"{SPEC}: Request Input", "specification",
             _rows, _row_by_row),
        Case("oip.rest.large-number", "A whole number above 2^53 keeps all its digits.", f"{SPEC}: Tensor Data Types, INT64",
             "specification", _big_number, _big),
        Case("oip.rest.content-type", "An answer in JSON says so: Content-Type application/json.",
             f"{SPEC}: Inference Request Examples", "specification", lambda s: [infer(s)], _json_type),
        Case("oip.rest.no-content-type", "A request without a Content-Type is read as JSON.",
             f"{TRITON} sends JSON without one", "client", lambda s: _plain_type(s, None), _all_same),
        Case("oip.rest.form-content-type", "A request that curl sends (application/x-www-form-urlencoded) is read as JSON.",
             "curl -d without a header", "client", lambda s: _plain_type(s, "application/x-www-form-urlencoded"), _all_same),
        Case("oip.rest.quoted-name", "A percent-encoded model name is the same name.", f"RFC 3986, 2.3; {TRITON} quotes names",
             "client", _quoted, _all_same),
    ),
)  # fmt: skip

VERSIONS = Group(
    "oip.version",
    "Versions in the URL",
    (
        Case("oip.version.metadata", "A version that the metadata names has metadata of its own.", _V2, "specification",
             lambda s: [get(s.versioned)], _versioned),
        Case("oip.version.ready", "Such a version is ready.", _V2, "specification",
             lambda s: [get(s.versioned + "/ready")], _model_ready),
        Case("oip.version.infer", "Such a version answers, and says in model_version that it did.",
             f"{_INFER} Response JSON Object: model_version", "specification",
             lambda s: [infer(s, path=s.versioned)], _of_version),
        Case("oip.version.unknown", "Inference by a version that does not exist is refused.",
             f"{_INFER} Response JSON Error Object", "specification",
             lambda s: [infer(s, path=_at(s, "987654321"))], is_refused),
        Case("oip.version.not-a-number", "Inference by a version that is no number is refused.",
             f"{_INFER} Response JSON Error Object", "specification",
             lambda s: [infer(s, path=_at(s, "no-version"))], is_refused),
        Case("oip.version.not-found", "A version that does not exist is 404.", "Triton, KServe and MLServer answer 404",
             "client", lambda s: [get(_at(s, "987654321")), infer(s, path=_at(s, "987654321"))], _missing_version),
    ),
)  # fmt: skip
