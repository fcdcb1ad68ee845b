"""TensorFlow Serving over REST: where a request goes, its messages, and the answers. Pure.

``predict`` takes rows (``instances``) or columns (``inputs``); ``classify`` and ``regress`` take ``examples``. Values are
nested as the tensor is; a text may stand as ``{"b64": …}``. Beyond JSON, the bare tokens ``NaN``, ``Infinity`` and
``-Infinity`` are read and written, as that server does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast
from urllib.parse import unquote

import msgspec
import numpy as np
from msgspec import UNSET

from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import fit, tensors
from shipworthy.serve.tfs_messages import SIGNATURE_NAME, read_examples, read_predict

DATATYPES = {
    "bool": "DT_BOOL",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "str": "DT_STRING",
}

Verb = Literal["predict", "classify", "regress", "status", "metadata"]

_WHICH = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<verb>metadata))?", re.IGNORECASE)
_LONGEST_VERSION = 19  # digits of the largest 64-bit number


@dataclass(frozen=True)
class Place:
    """What a URL means: a verb of a model, and which version (both empty: not said; at most one is filled)."""

    verb: Verb
    name: str
    version: str = ""
    label: str = ""


class Request(msgspec.Struct, frozen=True):
    """A request as the model takes it: arrays in the signature's dtypes, and whether it came in rows.

    ``rows`` is the first dimension, where that is free, else 1. The protocol knows no timeout and no priority.
    """

    inputs: dict[str, Array]
    rows: int
    by_row: bool = True
    timeout_us: ClassVar[int] = 0
    priority: ClassVar[int] = 0
    nbytes: ClassVar[int] = 0


def read_place(method: str, path: str) -> Place:
    """What a method and a path, as they came (percent-encoded, no query), ask for; the case of fixed words is free.

    Version 0 is no version: so clients say that they name none.

    Raises:
        Refused: no route has this form, or no model is named; that is a 400 in this protocol.
    """
    match = (_POST if method == "POST" else _GET).fullmatch(path) if method in {"POST", "GET"} else None
    if match is None:
        raise Refused(
            f"malformed request: {method[:20]} {path[:200]}",
            expected="POST /v1/models/NAME[/versions/N|/labels/LABEL]:(predict|classify|regress), "
            "or GET /v1/models/NAME[/versions/N|/labels/LABEL][/metadata]",
        )
    parts = match.groupdict(default="")
    version = parts["version"].lstrip("0")
    if len(version) > _LONGEST_VERSION:
        raise Refused("the version is not a number that fits 64 bits", found=version[:100])
    if not parts["name"]:
        raise Refused("Missing model name in request.", expected="GET /v1/models/NAME")
    verb = cast("Verb", parts["verb"].lower() or "status")
    return Place(verb, unquote(parts["name"]), version, unquote(parts["label"]))


def parse_predict(body: bytes, signature: Signature) -> Request:
    """The request in ``body``, as JSON of ``predict``.

    Raises:
        Refused: whatever is wrong with it; the message names the tensor or the place, what was found and expected.
    """
    return to_predict(read_predict(body, signature), signature)


def to_predict(ask: Any, signature: Signature) -> Request:
    """The request in a message of ``predict``.

    Raises:
        Refused: whatever is wrong with it; the message names the tensor or the place, what was found and expected.
    """
    _refuse_other_signature(ask)
    by_row = ask.instances is not UNSET
    if by_row == (ask.inputs is not UNSET):
        raise Refused(
            "the body has " + ("both 'instances' and 'inputs'" if by_row else "neither 'instances' nor 'inputs'"),
            expected="one of them: 'instances' (rows) or 'inputs' (columns)",
        )
    columns = _of_rows(ask.instances, signature) if by_row else _of_columns(ask.inputs, signature)
    arrays = {spec.name: _array(spec, values) for spec, values in zip(signature.inputs, columns, strict=True)}
    return Request(arrays, fit.rows({name: array.shape for name, array in arrays.items()}, signature), by_row)


def answer_predict(request: Request, outputs: Arrays) -> bytes:
    """The body that answers ``request``; a single output goes without its name.

    Raises:
        Refused: rows were asked for, but the outputs differ in their number of rows.
        Failed: an output holds text that is not Unicode.
    """
    if request.by_row and (len({array.shape[:1] for array in outputs.values()}) > 1 or not all(map(np.ndim, outputs.values()))):
        raise Refused(
            "the outputs do not have the same number of rows",
            found=", ".join(f"'{name}' {list(array.shape)}" for name, array in outputs.items())[:500],
            next="ask in columns: 'inputs' in place of 'instances'",
        )
    values = {name: _values(name, array) for name, array in outputs.items()}
    key = "predictions" if request.by_row else "outputs"
    if len(values) == 1:
        return _encode(key, next(iter(values.values())), outputs)
    if request.by_row:
        return _encode(key, [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)], outputs)
    return _encode(key, values, outputs)


def parse_classify(body: bytes, signature: Signature) -> Request:
    """The request in ``body``, as JSON of ``classify``; features are the model's inputs.

    Raises:
        Refused: the model has no scores to classify by, or the request is wrong; the message says where.
    """
    fit.scores(signature)
    return _parse_examples(body, signature)


def answer_classify(signature: Signature, outputs: Arrays) -> bytes:
    """The body with a list of [label, score] for each row; a model that gives no texts has empty labels.

    Raises:
        Refused: the model has no scores to classify by.
        Failed: a label is not Unicode.
    """
    scores = fit.scores(signature)
    shape = outputs[scores.name].shape
    texts = [spec.name for spec in signature.outputs if spec.dtype == "str" and outputs[spec.name].shape == shape]
    labels = outputs[texts[0]] if texts else np.full(shape, "", dtype=object)
    pairs = zip(labels.tolist(), outputs[scores.name].tolist(), strict=True)
    results = [[[label, score] for label, score in zip(*row, strict=True)] for row in pairs]
    return _encode("results", results, outputs)


def parse_regress(body: bytes, signature: Signature) -> Request:
    """The request in ``body``, as JSON of ``regress``; features are the model's inputs.

    Raises:
        Refused: the model has no single number a row, or the request is wrong; the message says where.
    """
    fit.number_a_row(signature)
    return _parse_examples(body, signature)


def answer_regress(signature: Signature, outputs: Arrays) -> bytes:
    """The body with one number for each row.

    Raises:
        Refused: the model has no single number a row.
    """
    numbers = outputs[fit.number_a_row(signature).name]
    return _encode("results", numbers.ravel().tolist(), outputs)


def status_body(versions: Sequence[int], state: str = "AVAILABLE") -> bytes:
    """The status of versions: those that are served are available; ``START``: known, and not loaded yet."""
    fine = {"error_code": "OK", "error_message": ""}
    return msgspec.json.encode(
        {"model_version_status": [{"version": str(n), "state": state, "status": fine} for n in versions]}
    )


def metadata_body(name: str, version: int, signature: Signature) -> bytes:
    """The signature as that server's metadata shows it (the JSON of its ``SignatureDefMap``)."""
    definition = {
        "inputs": {spec.name: _describe(spec) for spec in signature.inputs},
        "outputs": {spec.name: _describe(spec) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return msgspec.json.encode(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
        }
    )


def _describe(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(-1 if n is None else n), "name": ""} for n in spec.shape]
    return {"name": spec.name, "dtype": DATATYPES[spec.dtype], "tensor_shape": {"dim": sizes, "unknown_rank": False}}


# ---------------------------------------------------------------- arrays


def _refuse_other_signature(ask: Any) -> None:
    if ask.signature_name not in {"", SIGNATURE_NAME}:
        raise Refused(f"there is no signature '{ask.signature_name[:100]}'", expected=f"'{SIGNATURE_NAME}', or none")


def _of_rows(instances: list[Any], signature: Signature) -> list[Any]:
    """The values of each input, of rows that are all objects or all plain values."""
    if not instances:
        raise Refused("'instances' is empty", expected="at least one row")
    named = {isinstance(one, msgspec.Struct) for one in instances}
    if len(named) > 1:
        raise Refused("'instances' mixes objects with plain values", expected="one or the other")
    if not named.pop():
        return [instances]
    return [[getattr(one, f"f{index}") for one in instances] for index in range(len(signature.inputs))]


def _of_columns(inputs: Any, signature: Signature) -> list[Any]:
    if not isinstance(inputs, msgspec.Struct):
        return [inputs]
    return [getattr(inputs, f"f{index}") for index in range(len(signature.inputs))]


def _parse_examples(body: bytes, signature: Signature) -> Request:
    ask = read_examples(body, signature)
    _refuse_other_signature(ask)
    if not ask.examples:
        raise Refused("'examples' is empty", expected="at least one example")
    arrays = {}
    for index, spec in enumerate(signature.inputs):
        shared = UNSET if ask.context is UNSET else getattr(ask.context, f"f{index}")
        own = [getattr(example, f"f{index}") for example in ask.examples]
        if shared is not UNSET and any(value is not UNSET for value in own):
            raise Refused(f"feature '{spec.name}' stands in 'context' and in an example", expected="one of them")
        values = own if shared is UNSET else [shared] * len(own)
        if UNSET in values:
            raise Refused(f"example {values.index(UNSET)} lacks the feature '{spec.name}'", expected=str(spec))
        flat = [value if isinstance(value, list) else [value] for value in values]
        arrays[spec.name] = _array(spec, flat, flat=True)
    return Request(arrays, fit.rows({name: array.shape for name, array in arrays.items()}, signature))


def _array(spec: TensorSpec, values: Any, *, flat: bool = False) -> Array:
    """The tensor of nested ``values``; with ``flat``, each row is a flat list of all its values."""
    if isinstance(values, list) and not flat and spec.dtype not in {"str", "float16"}:
        shape = _shape(values)
        if fit.fits(shape, spec) and (common := tensors.from_lists(values, spec.dtype, shape)) is not None:
            return common
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=object if spec.dtype == "str" else spec.dtype)
        if flat and array.ndim == 2:  # noqa: PLR2004
            array = array.reshape(len(array), *(-1 if n is None else n for n in spec.shape[1:]))
        if spec.dtype == "str":
            "".join(array.ravel().tolist()).encode()  # half of a surrogate pair; a ragged list is no text
    except (ValueError, OverflowError, TypeError) as error:
        raise Refused(f"tensor '{spec.name}' does not fit the model", found=str(error)[:200], expected=str(spec)) from None
    if not fit.fits(array.shape, spec):
        raise Refused(
            f"tensor '{spec.name}' does not fit the model", found=f"shape {list(array.shape)}"[:200], expected=str(spec)
        )
    if array.dtype.kind == "f" and np.isinf(array).any() and np.isinf(array).sum() != np.isinf(np.array(values)).sum():
        raise Refused(f"tensor '{spec.name}': a value is too large for {spec.dtype}", expected=str(spec))
    return array


def _shape(values: Any) -> tuple[int, ...]:
    """The shape of nested ``values``, as far as their first elements tell."""
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)


# ---------------------------------------------------------------- answers


def _values(name: str, array: Array) -> Any:
    """The values, nested as the tensor; texts of an output whose name says bytes stand as base64."""
    if array.dtype.kind not in "OU" or not name.endswith("_bytes"):
        return array.tolist()
    coded = np.empty(array.shape, dtype=object)
    coded.ravel()[:] = [{"b64": base64.b64encode(_utf8(name, text)).decode()} for text in array.ravel()]
    return coded.tolist()


def _utf8(name: str, text: Any) -> bytes:
    try:
        return str(text).encode()
    except UnicodeEncodeError as error:
        raise Failed(f"output '{name}' holds a text that is not Unicode", found=str(error)[:200]) from None


def _encode(key: str, values: Any, outputs: Arrays) -> bytes:
    try:
        body = msgspec.json.encode({key: values})
        # Only where null stands, which JSON makes of NaN and infinity, need the arrays be looked at.
        if b"null" not in body or all(array.dtype.kind != "f" or np.isfinite(array).all() for array in outputs.values()):
            return body
        return json.dumps({key: values}, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Failed("an output holds a text that is not Unicode", found=str(error)[:200]) from None
