"""TensorFlow Serving over REST, its answers compared with those of the Open Inference Protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from shipworthy.protocols import Array, Arrays
from shipworthy.testing.conformance.case import Answer, Ask, Broken, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.messages import (
    JSON,
    OK,
    explained,
    get,
    infer,
    is_refused,
    plain,
    read,
    refused,
    same,
    tensors,
)
from shipworthy.testing.conformance.subject import DTYPES, NotTried, Subject

SPEC = "TensorFlow Serving, api_rest.md"
OVMS = "ovmsclient reads it"
ABSENT = {400, 404, 405, 501, 503}


class _Code(msgspec.Struct):
    error_code: str
    error_message: str


class _Version(msgspec.Struct):
    version: str
    state: str
    status: _Code


class _Status(msgspec.Struct):
    model_version_status: list[_Version]


class _Results(msgspec.Struct):
    results: list[Any]


class _Info(msgspec.Struct):
    name: str
    version: str


class _Metadata(msgspec.Struct):
    model_spec: _Info
    metadata: dict[str, Any]


# ---------------------------------------------------------------- requests


def _url(subject: Subject, *, versioned: bool = False) -> str:
    path = subject.versioned if versioned else subject.path
    return path.replace("/v2/", "/v1/", 1)


def _post(path: str, body: Any) -> Ask:
    return Ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), JSON)


def _columns(subject: Subject, **more: Any) -> dict[str, Any]:
    """A request in columns, every input by name."""
    return {"inputs": {name: _listed(array) for name, array in subject.values().items()}, **more}


def _listed(value: Any) -> Any:
    """An array as lists; one text of an array of texts is a text already."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _rows(arrays: Arrays) -> dict[str, Any]:
    """A request in rows, each an object."""
    count = len(next(iter(arrays.values())))
    return {"instances": [{name: _listed(array[i]) for name, array in arrays.items()} for i in range(count)]}


def _predict(subject: Subject, body: Any) -> Ask:
    return _post(_url(subject) + ":predict", body)


def _in_rows(subject: Subject) -> list[Step]:
    if not subject.has_rows:
        raise NotTried("the inputs have no rows")
    return [infer(subject), _predict(subject, _rows(subject.values()))]


def _unnamed(key: str) -> Callable[[Subject], Sequence[Step]]:
    def steps(subject: Subject) -> list[Step]:
        if len(subject.inputs) != 1:
            raise NotTried("the model has several inputs")
        (array,) = subject.values().values()
        return [infer(subject), _predict(subject, {key: _listed(array)})]

    return steps


def _b64(subject: Subject) -> list[Step]:
    name = subject.of_kind("BYTES").name
    body = _columns(subject)
    coded = [{"b64": base64.b64encode(str(text).encode()).decode()} for text in subject.values()[name].ravel()]
    values = np.array(coded, dtype=object).reshape(subject.values()[name].shape)
    body["inputs"][name] = values.tolist()
    return [infer(subject), _predict(subject, body)]


def _nan(subject: Subject) -> list[Step]:
    name = subject.of_kind("FP32", "FP64").name
    arrays = subject.values()
    arrays[name].ravel()[0] = float("nan")
    return [_predict(subject, {"inputs": {one: _listed(array) for one, array in arrays.items()}})]


# ---------------------------------------------------------------- answers


def _loose(answer: Answer) -> dict[str, Any]:
    """The object in an answer, whose JSON may have the bare tokens NaN and Infinity."""
    if answer.status != OK:
        raise Broken("status 200", str(answer))
    try:
        said = json.loads(plain(answer))
    except (ValueError, RecursionError) as error:
        raise Broken("JSON, or JSON with NaN and Infinity", f"{error}: {answer}") from None
    if not isinstance(said, dict):
        raise Broken("an object", str(answer))
    return said


def _array(subject: Subject, name: str, value: Any) -> Array:
    datatype = next((one.datatype for one in subject.outputs if one.name == name), None)
    if datatype is None:
        raise Broken("an output of the metadata", name)
    if datatype == "BYTES" and name.endswith("_bytes"):
        raise NotTried(f"{name} is given as base64")
    try:
        with np.errstate(over="ignore"):
            return np.array(value, dtype=DTYPES[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise Broken(f"values of {datatype} for {name}", str(error)) from None


def _of_columns(subject: Subject, answer: Answer) -> dict[str, Array]:
    said = _loose(answer)
    if "outputs" not in said:
        raise Broken('{"outputs": …}', str(answer))
    if len(subject.outputs) == 1:
        name = subject.outputs[0].name
        return {name: _array(subject, name, said["outputs"])}
    if not isinstance(said["outputs"], dict):
        raise Broken("outputs as an object, by name", str(answer))
    return {name: _array(subject, name, value) for name, value in said["outputs"].items()}


def _of_rows(subject: Subject, answer: Answer) -> dict[str, Array]:
    rows = _loose(answer).get("predictions")
    if not isinstance(rows, list):
        raise Broken('{"predictions": a list}', str(answer))
    if len(subject.outputs) == 1:
        name = subject.outputs[0].name
        return {name: _array(subject, name, rows)}
    names = [one.name for one in subject.outputs]
    if any(not isinstance(row, dict) or sorted(row) != sorted(names) for row in rows):
        raise Broken(f"predictions with {', '.join(names)} each", str(answer))
    return {name: _array(subject, name, [row[name] for row in rows]) for name in names}


def _status(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status in ABSENT or b"model_version_status" not in plain(answers[0]):
        raise NotOffered(str(answers[0]))
    found = read(answers[0], _Status).model_version_status
    fine = [one.version for one in found if (one.state, one.status.error_code) == ("AVAILABLE", "OK")]
    if not fine or subject.version not in {"", *fine}:
        raise Broken(f"version {subject.version} as AVAILABLE and OK", str(answers[0]))


def _metadata(subject: Subject, answers: Sequence[Answer]) -> None:
    said = read(answers[0], _Metadata)
    try:
        definition = said.metadata["signature_def"]["signature_def"]["serving_default"]
        found = sorted(definition["inputs"]), sorted(definition["outputs"])
        types = {one["dtype"][:3] for one in definition["inputs"].values()}
    except (KeyError, TypeError, AttributeError) as error:
        raise Broken("metadata.signature_def.signature_def.serving_default, inputs with a dtype", repr(error)) from None
    wanted = sorted(one.name for one in subject.inputs), sorted(one.name for one in subject.outputs)
    if found != wanted or said.model_spec.name != subject.name or types != {"DT_"}:
        raise Broken(f"{subject.name}: {wanted}, data types DT_…", f"{said.model_spec.name}: {found}, {types}")


def _same_columns(subject: Subject, answers: Sequence[Answer]) -> None:
    same(tensors(answers[0]), _of_columns(subject, answers[1]), "columns are answered as by the Open Inference Protocol")


def _same_rows(subject: Subject, answers: Sequence[Answer]) -> None:
    expected = tensors(answers[0])
    if any(not array.ndim for array in expected.values()):
        raise NotTried("an output has no rows")
    same(expected, _of_rows(subject, answers[1]), "rows are answered as by the Open Inference Protocol")


def _examples(subject: Subject) -> dict[str, Any]:
    """One row as an example, whose features are flat."""
    return {"examples": [{name: _listed(array[0].ravel()) for name, array in subject.with_rows(1).items() if array.ndim > 1}]}


def _classified(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = _results(answers[0])
    rows = [row if isinstance(row, list) else [row] for row in said]
    if len(rows) != 1 or any(not isinstance(pair, list) or list(map(type, pair)) != [str, float] for pair in rows[0]):
        raise Broken("results with a list of [label, score] for one row", str(answers[0]))


def _regressed(_subject: Subject, answers: Sequence[Answer]) -> None:
    said = _results(answers[0])
    if len(said) != 1 or not isinstance(said[0], float):
        raise Broken("results with one number for one row", str(answers[0]))


def _results(answer: Answer) -> list[Any]:
    if answer.status in ABSENT:
        raise NotOffered(f"for this model: {answer}")
    return read(answer, _Results).results


def _answered(subject: Subject, answers: Sequence[Answer]) -> None:
    _of_columns(subject, answers[0])


def _bad(_subject: Subject, answers: Sequence[Answer]) -> None:
    refused(answers[0], 400)


def _missing(_subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers:
        refused(answer, 404)


def _mixed(subject: Subject) -> list[Step]:
    if len(subject.inputs) != 1 or not subject.has_rows:
        raise NotTried("rows of both forms need a model with one input")
    named = _rows(subject.values())["instances"][0]
    return [_predict(subject, {"instances": [named, next(iter(named.values()))]})]


REFUSALS: tuple[tuple[str, str, Callable[[Subject], Any]], ...] = (
    ("no-json", "a body that is not JSON", lambda _: b"{"),
    ("neither", "neither instances nor inputs", lambda _: {}),
    ("both", "both instances and inputs", lambda s: _columns(s, instances=[1])),
    ("no-rows", "no row", lambda _: {"instances": []}),
    ("unknown-input", "an input that the model does not have", lambda _: {"inputs": {"no-such-input": [1]}}),
    ("ragged", "rows of different lengths", lambda s: {"inputs": {one.name: [[1, 2], [3]] for one in s.inputs}}),
    ("wrong-element", "a value that cannot be a number", lambda s: {"inputs": {one.name: {"a": 1} for one in s.inputs}}),
    ("unknown-signature", "a signature that does not exist", lambda s: _columns(s, signature_name="no-such-signature")),
)


def _every(subject: Subject) -> list[Step]:
    return [_predict(subject, make(subject)) for *_, make in REFUSALS]


def _explained(_subject: Subject, answers: Sequence[Answer]) -> None:
    explained({one[0]: answer for one, answer in zip(REFUSALS, answers, strict=True)})


GROUP = Group(
    "tfs.rest",
    "TensorFlow Serving, REST",
    (
        Case("tfs.rest.status", "The status lists versions as texts, each with its state.", f"{SPEC}: Model status; {OVMS}",
             "extension", lambda s: [get(_url(s))], _status),
        Case("tfs.rest.version-status", "A version has a status of its own.", f"{SPEC}: Model status", "extension",
             lambda s: [get(_url(s, versioned=True))], _status),
        Case("tfs.rest.metadata", "The metadata has the signature serving_default with its inputs and outputs.",
             f"{SPEC}: Model metadata; {OVMS}", "extension", lambda s: [get(_url(s) + "/metadata")], _metadata),
        Case("tfs.rest.columns", "predict in columns is answered in columns; a single output drops its name.",
             f"{SPEC}: Predict", "extension", lambda s: [infer(s), _predict(s, _columns(s))], _same_columns),
        Case("tfs.rest.rows", "predict in rows is answered in rows; a single output drops its name.", f"{SPEC}: Predict",
             "extension", _in_rows, _same_rows),
        Case("tfs.rest.column-unnamed", "The single input of a model needs no name in columns.", f"{SPEC}: Predict",
             "extension", _unnamed("inputs"), _same_columns),
        Case("tfs.rest.row-unnamed", "The single input of a model needs no name in rows.", f"{SPEC}: Predict", "extension",
             _unnamed("instances"), _same_rows),
        Case("tfs.rest.signature", "The signature serving_default may be named.", f"{SPEC}: Predict", "extension",
             lambda s: [infer(s), _predict(s, _columns(s, signature_name="serving_default"))], _same_columns),
        Case("tfs.rest.version", "predict by a version in the URL is answered.", f"{SPEC}: Predict", "extension",
             lambda s: [infer(s), _post(_url(s, versioned=True) + ":predict", _columns(s))], _same_columns),
        Case("tfs.rest.case", "The verb may be in any case.", "TensorFlow Serving, http_rest_api_util.cc: (?i)", "extension",
             lambda s: [infer(s), _post(_url(s) + ":PREDICT", _columns(s))], _same_columns),
        Case("tfs.rest.b64", 'A text may be given as {"b64": …}.', f"{SPEC}: Encoding binary values", "extension",
             _b64, _same_columns),
        Case("tfs.rest.nan", "A bare NaN is read, and written where it is the answer.", f"{SPEC}: JSON conformance",
             "extension", _nan, _answered),
        Case("tfs.rest.classify", "classify gives each row a list of [label, score].", f"{SPEC}: Classify and Regress",
             "extension", lambda s: [_post(_url(s) + ":classify", _examples(s))], _classified),
        Case("tfs.rest.regress", "regress gives each row a number.", f"{SPEC}: Classify and Regress",
             "extension", lambda s: [_post(_url(s) + ":regress", _examples(s))], _regressed),
        *(
            Case(f"tfs.rest.{key}", f"Refused: {what}.", f"{SPEC}: Predict",
                 "extension", lambda s, make=make: [_predict(s, make(s))], is_refused)  # type: ignore[misc]
            for key, what, make in REFUSALS
        ),
        Case("tfs.rest.body", 'Every refusal says why: {"error": a text}.', f"{SPEC}: Return format", "extension",
             _every, _explained),
        Case("tfs.rest.mixed", "Refused: rows of which some are objects and some are not.",
             f"{SPEC}: Predict", "extension", _mixed, is_refused),
        Case("tfs.rest.no-name", "The status of no model is refused with 400.", "TensorFlow Serving, http_rest_api_handler.cc",
             "extension", lambda _: [get("/v1/models")], _bad),
        Case("tfs.rest.not-found", "A model or a version that does not exist is 404.", f"{SPEC}: error codes; {OVMS}",
             "extension",
             lambda s: [get("/v1/models/no-such-model"), get(_url(s) + "/versions/987654321"),
                        _post("/v1/models/no-such-model:predict", _columns(s))], _missing),
    ),
)  # fmt: skip
