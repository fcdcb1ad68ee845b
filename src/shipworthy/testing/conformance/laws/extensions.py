"""Extensions of the Open Inference Protocol that Triton's clients and tools use: repository, statistics, configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from shipworthy.testing.conformance.case import Answer, Ask, Broken, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.messages import JSON, OK, ask, get, infer, is_refused, read, refused, same, tensors
from shipworthy.testing.conformance.subject import NotTried, Subject

REPOSITORY = "Triton, extension_model_repository.md"
STATISTICS = "Triton, extension_statistics.md"
CONFIGURATION = "Triton, extension_model_configuration.md"
ABSENT = {400, 404, 405, 501, 503}
RESTRICTED = {401, 403}
ROWS = 3


class ModelIndex(msgspec.Struct):
    """One line of the index."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class _Duration(msgspec.Struct):
    count: int
    ns: int


class _Inferences(msgspec.Struct):
    success: _Duration
    fail: _Duration
    queue: _Duration
    compute_input: _Duration
    compute_infer: _Duration
    compute_output: _Duration


class _Batch(msgspec.Struct):
    batch_size: int
    compute_input: _Duration
    compute_infer: _Duration
    compute_output: _Duration


class _Model(msgspec.Struct):
    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: _Inferences
    batch_stats: list[_Batch]


class _Statistics(msgspec.Struct):
    model_stats: list[_Model]


class _Tensor(msgspec.Struct):
    name: str
    data_type: str
    dims: list[int]


class _Configuration(msgspec.Struct):
    name: str
    max_batch_size: int
    input: list[_Tensor]
    output: list[_Tensor]


def _offered(answer: Answer, extension: str, subject: Subject) -> None:
    if answer.status in RESTRICTED or (answer.status in ABSENT and extension not in subject.extensions):
        raise NotOffered(str(answer))


# ---------------------------------------------------------------- repository


def _post(path: str, body: dict[str, Any] | None = None) -> Ask:
    return Ask("POST", path, json.dumps(body or {}).encode(), JSON)


def _index(subject: Subject, answers: Sequence[Answer]) -> None:
    _offered(answers[0], "model_repository", subject)
    lines = read(answers[0], list[ModelIndex])
    if not any(line.name == subject.name and line.state == "READY" for line in lines):
        raise Broken(f"a line for {subject.name} with the state READY", str(answers[0]))


def _all_ready(subject: Subject, answers: Sequence[Answer]) -> None:
    _index(subject, answers)
    others = {line.state for line in read(answers[0], list[ModelIndex])} - {"READY"}
    if others:
        raise Broken("only lines with the state READY", ", ".join(sorted(others)))


def _change(subject: Subject, verb: str) -> Ask:
    return _post(f"/v2/repository{subject.path.removeprefix('/v2')}/{verb}")


def _away_and_back(subject: Subject) -> list[Step]:
    if not subject.unload:
        raise NotTried("the model was not to be unloaded: --unload asks for it")
    ready = get(subject.path + "/ready")
    away, back = _change(subject, "unload"), _change(subject, "load")
    return [infer(subject), away, ready, infer(subject), back, ready, infer(subject)]


def _came_back(_subject: Subject, answers: Sequence[Answer]) -> None:
    before, away, gone, refusal, back, ready, after = answers
    if away.status in ABSENT:
        raise NotOffered(f"unload: {away}")
    for what, answer, good in (
        ("unload: status 200", away, away.status == OK),
        ("an unloaded model is not ready", gone, gone.status != OK),
        ("load: status 200", back, back.status == OK),
        ("a loaded model is ready", ready, ready.status == OK),
    ):
        if not good:
            raise Broken(what, str(answer))
    refused(refusal)
    same(tensors(before), tensors(after), "the model answers as before")


# ---------------------------------------------------------------- statistics


def _stats(subject: Subject) -> str:
    return (subject.versioned if subject.version else subject.path) + "/stats"


def _of_model(subject: Subject, answer: Answer) -> _Model:
    _offered(answer, "statistics", subject)
    for one in read(answer, _Statistics).model_stats:
        if one.name == subject.name and subject.version in {"", one.version}:
            return one
    raise Broken(f"statistics of {subject.name}, version {subject.version}", str(answer))


def _has_statistics(subject: Subject, answers: Sequence[Answer]) -> None:
    _of_model(subject, answers[0])


def _counted(subject: Subject) -> list[Step]:
    many = ask(subject.values(ROWS))
    return [get(_stats(subject)), infer(subject, many), get(_stats(subject)), get(_stats(subject))]


def _counts(subject: Subject, answers: Sequence[Answer]) -> None:
    tensors(answers[1])
    before, after, again = (_of_model(subject, answers[i]) for i in (0, 2, 3))
    rows = ROWS if subject.has_rows else 1
    for what, least, found in (
        ("inference_count", before.inference_count + rows, after.inference_count),
        ("execution_count", before.execution_count + 1, after.execution_count),
        ("success.count", before.inference_stats.success.count + 1, after.inference_stats.success.count),
        ("success.ns", before.inference_stats.success.ns + 1, after.inference_stats.success.ns),
        ("inference_count asked again", after.inference_count, again.inference_count),
    ):
        if found < least:
            raise Broken(f"{what} of at least {least} after a request of {rows} rows", str(found))


# ---------------------------------------------------------------- configuration


def _configured(subject: Subject, answers: Sequence[Answer]) -> None:
    _offered(answers[0], "model_configuration", subject)
    said = read(answers[0], _Configuration)
    if said.name != subject.name:
        raise Broken(f"the name {subject.name}", said.name)


def _as_metadata(subject: Subject, answers: Sequence[Answer]) -> None:
    said = read(answers[0], _Configuration)
    for given, specs in ((said.input, subject.inputs), (said.output, subject.outputs)):
        batch = [-1] if said.max_batch_size > 0 else []
        found = {one.name: (one.data_type, batch + one.dims) for one in given}
        wanted = {one.name: ("TYPE_" + {"BYTES": "STRING"}.get(one.datatype, one.datatype), list(one.shape)) for one in specs}
        if found != wanted:
            raise Broken(f"as the metadata has it: {wanted}", str(found))


def _at_config(subject: Subject) -> list[Step]:
    return [get((subject.versioned if subject.version else subject.path) + "/config")]


GROUPS = (
    Group(
        "oip.repository",
        "Model repository",
        (
            Case("oip.repository.index", "The index is a list of objects, and has the model with the state READY.", REPOSITORY,
                 "extension", lambda _: [_post("/v2/repository/index")], _index),
            Case("oip.repository.index-empty-body", "The index needs no body.", "curl -X POST; tritonclient sends none",
                 "extension", lambda _: [Ask("POST", "/v2/repository/index")], _index),
            Case("oip.repository.index-ready", "The index of what is ready has only that.", REPOSITORY, "extension",
                 lambda _: [_post("/v2/repository/index", {"ready": True})], _all_ready),
            Case("oip.repository.load-unknown", "Loading what does not exist is refused.", REPOSITORY,
                 "extension", lambda _: [_post("/v2/repository/models/no-such-model/load")], is_refused),
            Case("oip.repository.unload", "An unloaded model is not ready and refuses; loaded again, it answers as before.",
                 REPOSITORY, "extension", _away_and_back, _came_back),
        ),
    ),
    Group(
        "oip.statistics",
        "Statistics",
        (
            Case("oip.statistics.model", "A model's statistics have their counts and durations.",
                 f"{STATISTICS}; perf_analyzer reads them", "extension", lambda s: [get(_stats(s))], _has_statistics),
            Case("oip.statistics.all", "The statistics of all models have those of the model.", STATISTICS, "extension",
                 lambda _: [get("/v2/models/stats")], _has_statistics),
            Case("oip.statistics.count", "A request is counted, row by row, before it is answered; no count falls.",
                 STATISTICS, "extension", _counted, _counts),
        ),
    ),
    Group(
        "oip.configuration",
        "Model configuration",
        (
            Case("oip.configuration.model", "A configuration has name, max_batch_size, input and output.",
                 f"{CONFIGURATION}; perf_analyzer reads it", "extension", _at_config, _configured),
            Case("oip.configuration.as-metadata", "The configuration and the metadata name the same tensors.", CONFIGURATION,
                 "extension", _at_config, _as_metadata),
        ),
    ),
)  # fmt: skip
