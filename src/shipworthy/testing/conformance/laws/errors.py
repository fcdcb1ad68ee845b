"""What a server must refuse: every case is one change to a valid request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from shipworthy.testing.conformance.case import Answer, Ask, Broken, Case, Group, Level, Step
from shipworthy.testing.conformance.messages import OK, ask, decode, explained, infer, is_refused, plain, refused
from shipworthy.testing.conformance.subject import Subject

SPEC = "OIP inference_rest.md"
TRITON = "Triton refuses it (qa/L0_http, qa/L0_input_validation, qa/L0_json)"
DEPTH = 100_000

Body = dict[str, Any]
Change = Callable[[Body], Body | bytes]


def _put(**changed: Any) -> Change:
    """A change to the first input."""

    def change(body: Body) -> Body:
        first, *others = body["inputs"]
        return body | {"inputs": [first | changed, *others]}

    return change


def _without(key: str) -> Change:
    def change(body: Body) -> Body:
        first, *others = body["inputs"]
        return body | {"inputs": [{name: value for name, value in first.items() if name != key}, *others]}

    return change


def _twice(body: Body) -> Body:
    return body | {"inputs": [*body["inputs"], body["inputs"][0]]}


def _another(body: Body) -> Body:
    return body | {"inputs": [*body["inputs"], body["inputs"][0] | {"name": "no-such-input"}]}


def _other_type(body: Body) -> Body:
    first = body["inputs"][0]["datatype"]
    return _put(datatype="INT32" if first != "INT32" else "FP64")(body)  # type: ignore[return-value]


def _wrong_element(body: Body) -> Body:
    first = body["inputs"][0]
    value: Any = {"an": "object"} if first["datatype"] == "BYTES" else "not a number"
    return _put(data=[value, *first["data"][1:]])(body)  # type: ignore[return-value]


def _one_value_more(body: Body) -> Body:
    data = body["inputs"][0]["data"]
    return _put(data=[*data, data[0]])(body)  # type: ignore[return-value]


def _one_dimension_more(body: Body) -> Body:
    shape = body["inputs"][0]["shape"]
    return _put(shape=[*shape, 1, 1])(body)  # type: ignore[return-value]


_REQUIRED = f"{SPEC}: Inference Request JSON Object"
_INPUT = f"{SPEC}: Request Input"
_SIZES = f"{_INPUT}: shape and data represent the full shape and contents"
_ELEMENTS = f"{SPEC}: Tensor Data: coerce each element or return an error"

CHANGES: tuple[tuple[str, str, str, Level, Change], ...] = (
    ("empty", "an empty body", _REQUIRED, "specification", lambda _: b""),
    ("no-json", "a body that is not JSON", _REQUIRED, "specification", lambda _: b'{"inputs": [{'),
    ("no-object", "a list in place of the object", _REQUIRED, "specification", lambda body: json.dumps([body]).encode()),
    ("null", "null in place of the object", _REQUIRED, "specification", lambda _: b"null"),
    ("not-utf8", "an id that is not UTF-8", "RFC 8259, 8.1: JSON is UTF-8", "specification",
     lambda body: json.dumps(body | {"id": "BYTES"}).encode().replace(b"BYTES", b"\xff\xfe", 1)),
    ("no-inputs", "a request without inputs", _REQUIRED, "specification", lambda _: {}),
    ("inputs-no-list", "inputs that are no list", _REQUIRED, "specification", lambda body: body | {"inputs": {"a": 1}}),
    ("input-no-object", "an input that is no object", _INPUT, "specification", lambda body: body | {"inputs": [1]}),
    ("missing-input", "a request that lacks an input the model requires", f"{SPEC}: Model Metadata: inputs",
     "specification", lambda body: body | {"inputs": body["inputs"][1:]}),
    ("no-shape", "an input without a shape", _INPUT, "specification", _without("shape")),
    ("no-datatype", "an input without a data type", _INPUT, "specification", _without("datatype")),
    ("no-data", "an input without data", _INPUT, "specification", _without("data")),
    ("unknown-datatype", "a data type that is not in the table", f"{SPEC}: Tensor Data Types", "specification",
     _put(datatype="FP31")),
    ("negative-dimension", "a dimension below zero", f"{_INPUT}: shape", "specification", _put(shape=[-1, -1])),
    ("fraction-dimension", "a dimension that is no whole number", f"{_INPUT}: shape", "specification", _put(shape=[1.5, 2])),
    ("text-dimension", "a dimension that is a text", f"{_INPUT}: shape", "specification", _put(shape=["1", "2"])),
    ("overflow", "dimensions whose product passes 2^64", _SIZES, "specification", _put(shape=[1 << 32, 1 << 32, 1 << 32])),
    ("huge", "dimensions of far more values than the data has", _SIZES, "specification", _put(shape=[1 << 40, 1 << 20])),
    ("too-few-values", "fewer values than the shape has", _SIZES, "specification", _put(data=[])),
    ("too-many-values", "more values than the shape has", _SIZES, "specification", _one_value_more),
    ("wrong-element", "a value that cannot be one of its data type", _ELEMENTS, "specification", _wrong_element),
    ("null-element", "data that is null", _ELEMENTS, "specification", _put(data=None)),
    ("unknown-input", "an input that the model does not have", TRITON, "client", _another),
    ("duplicate-input", "an input that is given twice", TRITON, "client", _twice),
    ("wrong-datatype", "another data type than the model's", TRITON, "client", _other_type),
    ("wrong-rank", "more dimensions than the model's", TRITON, "client", _one_dimension_more),
    ("unknown-output", "an output that the model does not have", TRITON, "client",
     lambda body: body | {"outputs": [{"name": "no-such-output"}]}),
    ("deep", "lists nested 100,000 deep", TRITON, "client",
     lambda body: json.dumps(_put(data="DEEP")(body)).encode().replace(b'"DEEP"', b"[" * DEPTH + b"]" * DEPTH)),
)  # fmt: skip


def _changed(change: Change) -> Callable[[Subject], Sequence[Step]]:
    return lambda subject: [infer(subject, change(ask(subject.values())))]


def _nan(subject: Subject) -> list[Step]:
    name = subject.of_kind("FP32", "FP64").name
    arrays = subject.values()
    arrays[name].ravel()[0] = float("nan")
    return [infer(subject, ask(arrays))]  # json writes the bare token NaN


def _json_anyway(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != OK:
        refused(answers[0])
        return
    decode(plain(answers[0]), dict)


# Those that may take a server down are asked once, by the law of their own.
ORDINARY = tuple(one for one in CHANGES if one[0] not in {"overflow", "huge", "deep"})


def _every(subject: Subject) -> list[Step]:
    return [infer(subject, change(ask(subject.values()))) for *_, change in ORDINARY]


def _explained(_subject: Subject, answers: Sequence[Answer]) -> None:
    explained({change[0]: answer for change, answer in zip(ORDINARY, answers, strict=True)})


def _callers_fault(_subject: Subject, answers: Sequence[Answer]) -> None:
    others = [f"{change[0]}: {answer.status}" for change, answer in zip(ORDINARY, answers, strict=True) if answer.status >= 500]  # noqa: PLR2004
    if others:
        raise Broken("status 400 to 499 for every request of this group", ", ".join(others))


def _method(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != 405:  # noqa: PLR2004
        raise Broken("status 405", str(answers[0]))


def _missing(_subject: Subject, answers: Sequence[Answer]) -> None:
    refused(answers[0], 404)


def _no_model(subject: Subject) -> list[Step]:
    return [infer(subject, path="/v2/models/no-such-model")]


GROUP = Group(
    "oip.error",
    "Requests that must be refused",
    (
        *(
            Case(f"oip.error.{key}", f"Refused: {what}.", source, level,
                 _changed(change), is_refused)
            for key, what, source, level, change in CHANGES
        ),
        Case("oip.error.body", 'Every refusal says why: {"error": a text}.',
             f"{SPEC}: Inference Response JSON Error Object", "specification", _every, _explained),
        Case("oip.error.unknown-model", "Refused: a model that does not exist.",
             f"{SPEC}: Inference Response JSON Error Object", "specification", _no_model, is_refused),
        Case("oip.error.unknown-model-404", "A model that does not exist is 404.", "Triton, KServe and MLServer answer 404",
             "client", _no_model, _missing),
        Case("oip.error.method", "GET where only POST is known is 405.", "RFC 9110, 15.5.6; Triton, KServe and MLServer",
             "client", lambda s: [Ask("GET", f"{s.path}/infer")], _method),
        Case("oip.error.nan", "A bare NaN in a request is refused, or answered in JSON that is valid.", "RFC 8259, 6",
             "specification", _nan, _json_anyway),
        Case("oip.error.callers-fault", "A malformed request is the caller's fault: its status is 4xx, never 5xx.",
             "RFC 9110, 15.5 and 15.6; clients repeat what failed with 5xx", "client", _every, _callers_fault),
    ),
)  # fmt: skip
