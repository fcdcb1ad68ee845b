"""The conformance suite against our own server, and every law against answers that are wrong."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.testing.conformance import (
    GROUPS,
    Answer,
    Ask,
    Case,
    Examination,
    Result,
    Server,
    Subject,
    Verdict,
    examine,
    judge,
)
from shipworthy.testing.conformance.case import Step
from shipworthy.testing.conformance.subject import Tensor
from shipworthy.testing.conformance.wire import field

CASES = {case.id: case for group in GROUPS for case in group.cases}

# Laws that our server may not offer for a model, each with the reason.
NOT_OFFERED = {"tfs.rest.regress": "only a model that gives one number a row has a regression"}


class Recorder(Server):
    """A server that keeps what was asked and answered, by the requests."""

    def __init__(self, url: str, grpc: str) -> None:
        super().__init__(url, grpc)
        self.seen: list[list[Answer]] = []

    def ask(self, steps: Sequence[Step]) -> list[Answer]:
        answers = super().ask(steps)
        self.seen.append(answers)
        return answers


@dataclass(frozen=True)
class Record:
    """An examination, and the answers by which each law was held."""

    found: Examination
    subject: Subject
    answers: dict[str, list[Answer]]


@pytest.fixture(scope="module")
def models(onnx_model: Callable[..., onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A repository of three models: one input and one output; one number; three tensors of different kinds."""
    exp, same = partial(helper.make_node, "Exp"), partial(helper.make_node, "Identity")
    x, y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])
    others = [("n", "int64", [None, 2]), ("t", "str", [None, 1])]
    nodes = [exp(["x"], ["y"]), same(["n"], ["same_n"]), same(["t"], ["same_t"])]
    built = {
        "number": onnx_model([exp(["x"], ["y"])], [("x", "float32", [None, 1])], [("y", "float32", [None, 1])], opset=17),
        "one": onnx_model([exp(["x"], ["y"])], [x], [y], opset=17),
        "three": onnx_model(
            nodes, [x, *others], [y, *(("same_" + name, kind, shape) for name, kind, shape in others)], opset=17
        ),
    }
    folder = tmp_path_factory.mktemp("conformance")
    paths = {name: folder / name / "1" / "model.onnx" for name in built}
    for name, path in paths.items():
        path.parent.mkdir(parents=True)
        onnx.save(built[name], path)
    return paths


@pytest.fixture(scope="module")
def records(models: dict[str, Path]) -> dict[str, Record]:
    """Our server examined with each of them."""
    found = {}
    repository = models["one"].parents[2]
    command = [sys.executable, "-m", "shipworthy", "serve", str(repository), "--port", "0", "--json", "--stop-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = json.loads(process.stdout.readline())
        assert "url" in said, said
        for name, path in models.items():
            answers: dict[str, list[Answer]] = {}
            server = Recorder(said["url"], said["grpc"])
            results = examine(server, model=name, unload=True, seen=partial(keep, server, answers))
            found[name] = Record(results, subject_of(path), answers)
        process.stdin.close()
        process.wait(30)
    return found


def keep(server: Recorder, answers: dict[str, list[Answer]], result: Result) -> None:
    if result.state == "held":
        answers[result.id] = server.seen[-1]


def subject_of(path: Path) -> Subject:
    """What metadata says of a model, read from its file."""
    names = {1: "FP32", 7: "INT64", 8: "BYTES"}
    graph = onnx.load(path).graph

    def specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                value.name,
                names[value.type.tensor_type.elem_type],
                tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim),
            )
            for value in values
        )

    return Subject(path.parents[1].name, specs(graph.input), specs(graph.output), "1", unload=True)


# ---------------------------------------------------------------- our server


@pytest.mark.parametrize("name", ["number", "one", "three"])
def test_our_server_breaks_no_law(records: dict[str, Record], name: str) -> None:
    results = records[name].found.results
    assert [f"{one.id}: expected {one.expected}, found {one.found}" for one in results if one.state == "broken"] == []
    assert {one.id for one in results if one.state == "not offered"} <= set(NOT_OFFERED)
    assert records[name].found.conforms
    assert len(results) == len(CASES)


def test_every_law_was_tried(records: dict[str, Record]) -> None:
    held = {one.id for record in records.values() for one in record.found.results if one.state == "held"}
    assert set(CASES) - held == set()


def test_ids_are_those_of_their_groups_and_unique() -> None:
    every = [case.id for group in GROUPS for case in group.cases]
    assert len(every) == len(set(every)) > 150
    assert [case.id for group in GROUPS for case in group.cases if not case.id.startswith(group.key + ".")] == []
    assert all(case.law.endswith(".") and case.source for case in CASES.values())


# ---------------------------------------------------------------- every law can be broken


def wrong(answers: list[Answer], i: int, stranger: Answer) -> Iterator[tuple[str, list[Answer]]]:
    """The answers, with one of them wrong in some way."""
    one = answers[i]

    def put(other: Answer) -> list[Answer]:
        return [*answers[:i], other, *answers[i + 1 :]]

    if one.messages or one.status in range(20):
        yield "no message", put(replace(one, messages=(b"",)))
        yield "a stranger's message", put(replace(one, status=0, messages=(b"\x0a\x08stranger",)))
        yield "internal", put(Answer(13, body=b"oh"))
        return
    yield "empty object", put(replace(one, status=200, body=b"{}"))
    yield "a stranger's answer", put(stranger)
    yield "another state", put(replace(one, body=one.body.replace(b"AVAILABLE", b"LOADING")))
    yield "no JSON", put(Answer(200, {"content-type": "application/json"}, b'{"outputs": [NaN]}'))
    yield "a server's fault", put(Answer(500, {}, b"oh"))


@pytest.mark.parametrize("key", CASES)
def test_every_law_can_be_broken(records: dict[str, Record], key: str) -> None:
    """By silence, and by an answer that is not what the law says."""
    tried = [record for record in records.values() if key in record.answers]
    record = tried[-1]
    answers = record.answers[key]
    assert judge(CASES[key], record.subject, answers).state == "held"
    assert judge(CASES[key], record.subject, [*answers[:-1], Answer(failure="gone")]) == Verdict("broken", "an answer", "gone")
    stranger = Answer(200, {"content-type": "text/plain"}, b'{"model_name": "stranger", "outputs": []}')
    verdicts = [
        judge(CASES[key], record.subject, changed) for i in range(len(answers)) for _, changed in wrong(answers, i, stranger)
    ]
    broken = [verdict for verdict in verdicts if verdict.state == "broken"]
    assert broken, verdicts
    assert all(verdict.expected and verdict.found for verdict in broken)


def infer_answer(**changed: object) -> Answer:
    """An answer of the model ``one`` to one row, somehow wrong."""
    output = {"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}
    body = {"model_name": "one", "model_version": "1", "outputs": [output | changed.pop("output", {})]} | changed
    return Answer(200, {"content-type": "application/json"}, json.dumps(body).encode())


GOOD = infer_answer()
BAD: dict[str, tuple[str, list[Answer]]] = {
    "wrong-status": ("oip.rest.infer", [replace(GOOD, status=201)]),
    "model-name": ("oip.rest.infer", [infer_answer(model_name="other")]),
    "model-name-number": ("oip.rest.infer", [infer_answer(model_name=1)]),
    "no-outputs": ("oip.rest.infer", [infer_answer(outputs=[])]),
    "output-twice": ("oip.rest.infer", [infer_answer(outputs=json.loads(GOOD.body)["outputs"] * 2)]),
    "too-few-values": ("oip.rest.infer", [infer_answer(output={"data": [1.0, 2.0]})]),
    "negative-shape": ("oip.rest.infer", [infer_answer(output={"shape": [-1, 4]})]),
    "shape-of-text": ("oip.rest.infer", [infer_answer(output={"shape": "1,4"})]),
    "unknown-datatype": ("oip.rest.infer", [infer_answer(output={"datatype": "FLOAT"})]),
    "text-for-number": ("oip.rest.infer", [infer_answer(output={"data": ["1", 2.0, 3.0, 4.0]})]),
    "nan": ("oip.rest.infer", [replace(GOOD, body=GOOD.body.replace(b"2.0", b"NaN"))]),
    "left-over": ("oip.rest.infer", [replace(GOOD, headers={"inference-header-content-length": "5"})]),
    "length-no-number": ("oip.rest.infer", [replace(GOOD, headers={"inference-header-content-length": "-1"})]),
    "not-gzip": ("oip.rest.infer", [replace(GOOD, headers={"content-encoding": "gzip"})]),
    "other-datatype": ("oip.rest.metadata-holds", [infer_answer(output={"datatype": "FP64"})]),
    "other-rank": ("oip.rest.metadata-holds", [infer_answer(output={"shape": [4]})]),
    "other-dimension": ("oip.rest.metadata-holds", [infer_answer(output={"shape": [2, 2]})]),
    "other-name": ("oip.rest.metadata-holds", [infer_answer(output={"name": "z"})]),
    "no-id": ("oip.rest.id", [GOOD]),
    "other-id": ("oip.rest.id", [infer_answer(id="request-43")]),
    "one-value": ("oip.rest.nested", [GOOD, infer_answer(output={"data": [1.0, 2.0, 3.0, 4.1]})]),
    "other-version": ("oip.version.infer", [infer_answer(model_version="2")]),
    "no-version": ("oip.version.infer", [replace(GOOD, body=GOOD.body.replace(b'"model_version": "1", ', b""))]),
    "html": ("oip.rest.content-type", [replace(GOOD, headers={"content-type": "text/html"})]),
    "rows-mixed-up": ("oip.rest.rows", [infer_answer(output={"shape": [3, 4], "data": [1.0] * 12}), GOOD, GOOD, GOOD]),
    "closed": ("http.after-error", [GOOD, Answer(400, {}, b'{"error": "no"}'), replace(GOOD, reopened=True)]),
    "error-is-no-text": ("oip.rest.unknown-model", [Answer(404, {}, b'{"error": ["no"]}')]),
    "error-is-empty": ("oip.rest.unknown-model", [Answer(404, {}, b'{"error": ""}')]),
    "server-error": ("oip.error.unknown-model-404", [Answer(400, {}, b'{"error": "no"}')]),
    "json-anyway": ("oip.binary.all-outputs", [GOOD, GOOD]),
    "header-without-bytes": (
        "oip.binary.json-stays-json",
        [replace(GOOD, headers={"inference-header-content-length": str(len(GOOD.body))})],
    ),
    "index-empty": ("oip.repository.index", [Answer(200, {}, b"[]")]),
    "index-object": ("oip.repository.index", [Answer(200, {}, b'{"models": []}')]),
    "not-live": ("oip.health.live-body", [Answer(200, {}, b'{"live": false}')]),
    "live-text": ("oip.health.live-body", [Answer(200, {}, b'{"live": "true"}')]),
    "unknown-is-ready": ("oip.health.unknown-model", [Answer(200, {}, b"{}")]),
    "no-number-of-rest": ("tfs.rest.columns", [GOOD, Answer(200, {}, b'{"outputs": [[1.0, 2.0, 3.0, 5.0]]}')]),
    "predictions-named": ("tfs.rest.rows", [GOOD, Answer(200, {}, b'{"predictions": {"y": [[1, 2, 3, 4]]}}')]),
    "no-serving": ("grpc.health.check", [Answer(messages=(b"\x08\x02",))]),
    "both-forms": (
        "oip.grpc.exclusive",
        [Answer(messages=(b"\x2a\x13\x0a\x01y\x12\x04FP32\x1a\x01\x01\x2a\x05\x32\x03abc\x32\x04abcd",))] * 2,
    ),
    "other-version-in-model-spec": (
        "tfs.grpc.model-spec",
        [Answer(messages=(field(2, field(1, "one") + field(2, field(1, version))),)) for version in (1, 2)],
    ),
}  # fmt: skip


def statistics(rows: int) -> Answer:
    duration = {"count": rows, "ns": rows * 10}
    names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    model = {"name": "one", "version": "1", "last_inference": 1, "inference_count": rows, "execution_count": rows}
    model |= {"inference_stats": dict.fromkeys(names, duration), "batch_stats": []}
    return Answer(200, {}, json.dumps({"model_stats": [model]}).encode())


BAD["statistics-stand-still"] = ("oip.statistics.count", [statistics(5), GOOD, statistics(7), statistics(7)])
BAD["statistics-fall"] = ("oip.statistics.count", [statistics(5), GOOD, statistics(8), statistics(2)])
ONE = Subject("one", (Tensor("x", "FP32", (-1, 4)),), (Tensor("y", "FP32", (-1, 4)),), "1")


@pytest.mark.parametrize(("key", "answers"), BAD.values(), ids=BAD)
def test_a_law_sees_what_is_wrong(key: str, answers: list[Answer]) -> None:
    verdict = judge(CASES[key], ONE, answers)
    assert verdict.state == "broken", verdict


def test_good_answers_are_good() -> None:
    assert judge(CASES["oip.rest.infer"], ONE, [GOOD]).state == "held"
    assert judge(CASES["oip.rest.metadata-holds"], ONE, [GOOD]).state == "held"
    held = judge(CASES["oip.statistics.count"], ONE, [statistics(5), GOOD, statistics(8), statistics(8)])
    assert held.state == "held"


def test_rows_of_another_caller_are_seen(records: dict[str, Record]) -> None:
    """The law of concurrency: two of the 64 answers swapped."""
    answers = list(records["one"].answers["load.own-rows"])
    same_rows = 64 + 5  # as many rows as the first, other values
    answers[64], answers[same_rows] = answers[same_rows], answers[64]
    verdict = judge(CASES["load.own-rows"], records["one"].subject, answers)
    assert (verdict.state, "caller 0 gets its own rows" in verdict.expected) == ("broken", True)


@pytest.mark.parametrize("key", ["oip.repository.unload", "oip.grpc.unload"])
def test_a_model_that_does_not_go_or_does_not_come_back_is_seen(records: dict[str, Record], key: str) -> None:
    record = records["one"]
    before, away, gone, refusal, back, ready, after = record.answers[key]
    oh = Answer(500, body=b"oh") if before.headers else Answer(13, body=b"oh")
    for i, other in ((1, oh), (2, ready), (3, before), (4, oh), (5, gone), (6, oh), (6, away)):
        answers = [before, away, gone, refusal, back, ready, after]
        answers[i] = other
        assert judge(CASES[key], record.subject, answers).state == "broken", i


# ---------------------------------------------------------------- whatever a server answers


JUNK = [
    b"", b"{}", b"[]", b"null", b"1", b'"a"', b"NaN", b"{", b"\xff\xfe", b"\x00" * 40, b"[" * 5000 + b"]" * 5000,
    b'{"outputs": {}}', b'{"outputs": [[]]}', b'{"outputs": null, "model_name": null}', b'{"error": {"a": 1}}',
    b'{"model_stats": [{}]}', b'{"predictions": [1, {"y": [[]]}]}', b'{"outputs": [[1e999, "a"]]}', b'{"outputs": "\\ud800"}',
    b'{"model_name":"one","outputs":[{"name":"y","datatype":"FP32","shape":[1,4],"data":[[[[[[1e400,2,3,4]]]]]]}]}',
    b'{"model_name":"one","outputs":[{"name":"y","datatype":"BYTES","shape":[4294967296,4294967296],"data":[]}]}',
    b'{"model_name":"one","outputs":[{"name":"y","datatype":"INT64","shape":[1],"data":[99999999999999999999999]}]}',
    b'{"metadata": {"signature_def": {"signature_def": 3}}, "model_spec": {"name": "one", "version": "1"}}',
    b'{"metadata": {"signature_def": []}, "model_spec": {"name": "one", "version": "1"}}',
    b"\x0a\x01", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x2a\x02\x2a\x00", b"\x32\x00\x2a\x00", b"\x0d\x01",
    b"\x2a\x0f\x0a\x01y\x12\x04FP32\x1a\x01\x01\x2a\x01\x32", b"\x12\x04\x0a\x02\x08\x01\x0a\x08\x0a\x01y\x12\x03\x08\x63\x22",
    b"\x0a\x0c\x0a\x01y\x12\x07\x08\x01\x28\xff\xff\xff\xff\x7f",
]  # fmt: skip
HEADERS = [
    {}, {"content-encoding": "gzip"}, {"content-encoding": "br"}, {"content-type": "application/json"},
    {"inference-header-content-length": "2"}, {"inference-header-content-length": "9" * 30},
    {"inference-header-content-length": "\u00b2"},
]  # fmt: skip


@pytest.mark.parametrize("key", CASES)
def test_no_answer_makes_the_judge_fail(records: dict[str, Record], key: str) -> None:
    case = CASES[key]
    choose = random.Random(key)  # noqa: S311 - the same junk in every run
    recorded = next((record.answers[key] for record in records.values() if key in record.answers), [])
    subjects = [record.subject for record in records.values()]
    for round_number in range(120):
        subject = subjects[round_number % len(subjects)]
        count = len(recorded) or count_of(case, subject)
        answers = [answer_of(choose, recorded[i] if recorded else None) for i in range(count)]
        if answers:
            assert judge(case, subject, answers).state in {"held", "broken", "not offered", "not tried"}


def count_of(case: Case, subject: Subject) -> int:
    try:
        steps = case.steps(subject)
    except Exception:  # noqa: BLE001 - NotTried: then it is not judged either
        return 0
    return sum(len(step) if isinstance(step, tuple) else 1 for step in steps)


def answer_of(choose: random.Random, recorded: Answer | None) -> Answer:
    """Junk, or a recorded answer with some of its bytes changed."""
    status = choose.choice([0, 0, 3, 5, 12, 13, 200, 200, 200, 400, 404, 500])
    if recorded is None or choose.random() < 0.5:
        junk = choose.choice(JUNK)
        return Answer(status, choose.choice(HEADERS), junk, (junk,) * choose.choice([0, 1, 1, 1, 4]))
    return replace(
        recorded,
        body=damaged(choose, recorded.body),
        messages=tuple(damaged(choose, message) for message in recorded.messages),
    )


def damaged(choose: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(choose.choice([0, 1, 1, 3])):
        if changed:
            changed[choose.randrange(len(changed))] = choose.randrange(256)
    return bytes(changed[: choose.randrange(len(changed) + 1)] if choose.random() < 0.2 else changed)


# ---------------------------------------------------------------- the model


def test_made_up_values_fit_and_differ() -> None:
    kinds = ["BOOL", "UINT8", "INT16", "INT64", "FP16", "FP32", "FP64", "BYTES"]
    subject = Subject("m", tuple(Tensor(kind, kind, (-1, 3, -1)) for kind in kinds))
    values = subject.values(rows=4, seed=1)
    assert {array.shape for array in values.values()} == {(4, 3, 1)}
    assert values["FP16"].dtype == np.float16
    again, other = subject.values(4, 1), subject.values(4, 2)
    assert all((values[kind] == again[kind]).all() for kind in kinds)
    assert (values["FP32"] != other["FP32"]).all()
    assert (values["BYTES"] != other["BYTES"]).all()
    assert not Subject("m", (Tensor("x", "FP32", (1, 3)),)).has_rows


def test_every_request_can_be_shown() -> None:
    shown = [str(step) for case in CASES.values() for step in flat(case) if isinstance(step, Ask)]
    assert all("\n" not in text and len(text) < 600 for text in shown)
    assert len(shown) > 100


def flat(case: Case) -> list[object]:
    try:
        steps = case.steps(ONE)
    except Exception:  # noqa: BLE001 - NotTried
        return []
    return list(itertools.chain.from_iterable(step if isinstance(step, tuple) else [step] for step in steps))
