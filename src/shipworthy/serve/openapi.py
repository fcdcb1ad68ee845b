"""The OpenAPI 3.1 document of a server: every route over HTTP, with the schemas and examples of its models. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from shipworthy.protocols import Array
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import oip
from shipworthy.serve.catalog import Live
from shipworthy.serve.guard import OPEN_PATHS
from shipworthy.serve.tensors import DATATYPES

# An example with more values than this helps nobody to read it.
EXAMPLE_VALUES = 256

Plain = dict[str, Any]

_ERRORS = {
    "400": "the request is wrong; the message says what was found and what was expected",
    "404": "there is no such model or version; the message names those there are",
}
_BODY_ERRORS = _ERRORS | {
    "413": "the body is too large",
    "415": "the body is in an encoding that is not read",
    "500": "the model could not be run",
    "503": "too much waits, or the request's timeout passed: try again after Retry-After",
}
_KEY = "key"
_KEYS: Plain = {
    "type": "http",
    "scheme": "bearer",
    "description": "a key made by `shipworthy key`, where the server asks for keys (`--api-key-file`); else none is asked for",
}
_NO_KEY = {"401": "the server asks for a key, and there is none or a wrong one"}
_NO_RIGHT = {"403": "the key may not use this model, or may not load and unload"}


def document(defaults: Iterable[Live], lives: Iterable[Live], version: str) -> Plain:
    """The document.

    Args:
        defaults: of each model, the version that answers when none is named.
        lives: every version that is served.
        version: of this server.
    """
    paths = _server_paths()
    of_the_server = frozenset(paths)
    for live in defaults:
        name = _quoted(live.name)
        paths |= _model_paths(live, f"/v2/models/{name}", f"/v1/models/{name}", "")
        for verb in ("load", "unload"):
            change = _post(f"{verb.capitalize()} {live.name} in all workers", live.name, _ANY, _ANY, required=False)
            change["post"]["responses"] |= _responses(None, {"503": "too many changes wait: try again after Retry-After"})
            paths[f"/v2/repository/models/{name}/{verb}"] = change
    for live in lives:
        which = f"{_quoted(live.name)}/versions/{live.version}"
        paths |= _model_paths(live, f"/v2/models/{which}", f"/v1/models/{which}", f", version {live.version}")
    for path, item in paths.items():
        for operation in item.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"] |= _error_responses(_NO_KEY | ({} if path in of_the_server else _NO_RIGHT))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shipworthy",
            "version": version,
            "description": "Predictions over the Open Inference Protocol v2 and TensorFlow Serving's REST interface.",
        },
        "paths": paths,
        "security": [{}, {_KEY: []}],
        "components": {"schemas": {"Error": _object({"error": {"type": "string"}})}, "securitySchemes": {_KEY: _KEYS}},
    }


def example_inputs(signature: Signature) -> dict[str, Array]:
    """One row of zeros, or of the text ``a``; each free dimension is 1."""
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = tuple(1 if n is None else n for n in spec.shape)
        text = spec.dtype == "str"
        inputs[spec.name] = np.full(shape, "a", dtype=object) if text else np.zeros(shape, dtype=spec.dtype)
    return inputs


def short(signature: Signature) -> bool:
    """Whether an example of the inputs in JSON is short enough to read; FP16 has none."""
    values = sum(math.prod(1 if n is None else n for n in spec.shape) for spec in signature.inputs)
    return values <= EXAMPLE_VALUES and all(spec.dtype != "float16" for spec in signature.inputs)


def oip_example(signature: Signature) -> Plain:
    """The body of an inference request, as plain JSON."""
    body, _ = oip.request_body(example_inputs(signature))
    plain: Plain = msgspec.json.decode(body)
    return plain


def tfs_example(signature: Signature) -> Plain:
    """The body of a ``predict`` request in columns, or in rows where the model has one input with free rows."""
    inputs = {name: array.tolist() for name, array in example_inputs(signature).items()}
    only = signature.inputs[0] if len(signature.inputs) == 1 else None
    if only is not None and only.shape and only.shape[0] is None:
        return {"instances": inputs[only.name]}
    return {"inputs": inputs}


# ---------------------------------------------------------------- paths

_SERVER = "server"
_ANY: Plain = {"type": "object"}
_STATISTICS: Plain = {"type": "object", "properties": {"model_stats": {"type": "array"}}, "required": ["model_stats"]}


def _server_paths() -> Plain:
    ready = _object({"ready": {"type": "boolean"}})
    return {
        "/v2": _get("Server metadata", _SERVER, _object({"name": _text(), "version": _text(), "extensions": _list(_text())})),
        "/v2/health/live": _get("Whether the process answers", _SERVER, _object({"live": {"type": "boolean"}})),
        "/v2/health/ready": _get("Whether requests can be answered", _SERVER, ready, {"503": "not ready"}),
        "/v2/models": _get("The names of all models", _SERVER, _object({"models": _list(_text())})),
        "/v2/models/stats": _get("What was done with every version, over all workers", _SERVER, _STATISTICS),
        "/v2/repository/index": _post("Every version there is, and its state", _SERVER, _ANY, _list(_ANY), required=False),
        "/openapi.json": _get("This document", _SERVER, _ANY),
        "/metrics": _page("What all workers have done and are doing, for Prometheus", "text/plain"),
        "/monitoring/prometheus/metrics": _page("The same, where TensorFlow Serving has it", "text/plain"),
        "/docs": _page("A page about the models for people", "text/html"),
    }


def _model_paths(live: Live, v2: str, v1: str, which: str) -> Plain:
    name, signature = live.name, live.signature
    metadata = _object({"name": _text(), "versions": _list(_text()), "inputs": _list(_ANY), "outputs": _list(_ANY)})
    infer = _post(
        f"Infer with {name}{which}",
        name,
        _infer_schema(signature.inputs, "inputs"),
        _infer_schema(signature.outputs, "outputs"),
        oip_example(signature) if short(signature) else None,
    )
    binary = {"schema": {"type": "string", "format": "binary"}}
    infer["post"]["requestBody"]["content"]["application/octet-stream"] = binary
    infer["post"]["responses"]["200"]["content"]["application/octet-stream"] = binary
    infer["post"]["parameters"] = [
        {
            "name": oip.LENGTH_HEADER,
            "in": "header",
            "description": "bytes of JSON before the binary tensors; 0: the body is the only input",
            "schema": {"type": "integer", "minimum": 0},
        }
    ]
    ready = _object({"name": _text(), "ready": {"type": "boolean"}})
    return {
        v2: _get(f"Metadata of {name}{which}", name, metadata, _ERRORS),
        f"{v2}/ready": _get(f"Whether {name}{which} can answer", name, ready, _ERRORS),
        f"{v2}/infer": infer,
        f"{v2}/stats": _get(f"What was done with {name}{which}, over all workers", name, _STATISTICS, _ERRORS),
        f"{v2}/config": _get(f"Configuration of {name}{which}", name, _ANY, _ERRORS),
        **_tfs_paths(live, v1, which),
    }


def _tfs_paths(live: Live, base: str, which: str) -> Plain:
    name, signature = live.name, live.signature
    example = tfs_example(signature) if short(signature) else None
    examples = _object({"examples": _list(_ANY), "context": _ANY}, required=["examples"])
    status = _object({"model_version_status": _list(_ANY)})
    metadata = _object({"model_spec": _ANY, "metadata": _ANY})
    results = _object({"results": _list({})})
    return {
        base: _get(f"Status of {name}{which}", name, status, _ERRORS),
        f"{base}/metadata": _get(f"Signature of {name}{which}", name, metadata, _ERRORS),
        f"{base}:predict": _post(f"Predict with {name}{which}", name, _predict_schema(signature), _PREDICTED, example),
        f"{base}:classify": _post(f"Classify with {name}{which}", name, examples, results),
        f"{base}:regress": _post(f"Regress with {name}{which}", name, examples, results),
    }


def _page(summary: str, media_type: str) -> Plain:
    answer = {"description": "the page", "content": {media_type: {"schema": _text()}}}
    return {"get": {"summary": summary, "tags": [_SERVER], "responses": {"200": answer}}}


def _get(summary: str, tag: str, schema: Plain, errors: Mapping[str, str] | None = None) -> Plain:
    return {"get": {"summary": summary, "tags": [tag], "responses": _responses(schema, errors or {})}}


def _post(
    summary: str, tag: str, body: Plain, answer: Plain | None, example: Plain | None = None, *, required: bool = True
) -> Plain:
    content = {"schema": body} | ({"example": example} if example is not None else {})
    return {
        "post": {
            "summary": summary,
            "tags": [tag],
            "requestBody": {"required": required, "content": {"application/json": content}},
            "responses": _responses(answer, _BODY_ERRORS if required else _ERRORS),
        }
    }


def _responses(schema: Plain | None, errors: Mapping[str, str]) -> Plain:
    fine: Plain = {"description": "the answer"}
    if schema is not None:
        fine["content"] = {"application/json": {"schema": schema}}
    return {"200": fine} | _error_responses(errors)


def _error_responses(errors: Mapping[str, str]) -> Plain:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": error} for status, text in errors.items()}


# ---------------------------------------------------------------- schemas


def _infer_schema(specs: Iterable[TensorSpec], key: str) -> Plain:
    """A request (``inputs``) or an answer (``outputs``): its tensors are any order of these."""
    parameters = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    tensors = [
        _object(
            {
                "name": {"const": spec.name},
                "shape": _dimensions(spec),
                "datatype": {"const": DATATYPES[spec.dtype]},
                "parameters": parameters,
                "data": {"type": "array", "description": "values, flat in row-major order or nested as the shape"},
            },
            required=["name", "shape", "datatype"],
        )
        for spec in specs
    ]
    fields: Plain = {"id": _text(), "parameters": parameters, key: _list({"oneOf": tensors})}
    if key == "inputs":
        wanted = _object({"name": _text(), "parameters": parameters}, required=["name"])
        return _object(fields | {"outputs": _list(wanted)}, required=[key])
    return _object(fields | {"model_name": _text(), "model_version": _text()}, required=[key, "model_name"])


def _predict_schema(signature: Signature) -> Plain:
    rows = _object({spec.name: _nested(spec, spec.shape[1:]) for spec in signature.inputs})
    columns = _object({spec.name: _nested(spec, spec.shape) for spec in signature.inputs})
    if len(signature.inputs) == 1:
        only = signature.inputs[0]
        rows = {"anyOf": [_nested(only, only.shape[1:]), rows]}
        columns = {"anyOf": [_nested(only, only.shape), columns]}
    name = {"signature_name": {"enum": ["", "serving_default"]}}
    return {
        "oneOf": [
            _object(name | {"instances": {"type": "array", "items": rows, "minItems": 1}}, required=["instances"]),
            _object(name | {"inputs": columns}, required=["inputs"]),
        ]
    }


_PREDICTED: Plain = {
    "description": "predictions for instances, outputs for inputs; a single output goes without its name",
    "oneOf": [
        {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]},
        {"type": "object", "properties": {"outputs": {}}, "required": ["outputs"]},
    ],
}


def _nested(spec: TensorSpec, shape: tuple[int | None, ...]) -> Plain:
    scalar: Plain = {"type": {"b": "boolean", "f": "number", "U": "string"}.get(np.dtype(spec.dtype).kind, "integer")}
    if spec.dtype == "str":
        scalar = {"anyOf": [scalar, _object({"b64": {"type": "string", "contentEncoding": "base64"}})]}
    for n in reversed(shape):
        sizes = {} if n is None else {"minItems": n, "maxItems": n}
        scalar = {"type": "array", "items": scalar} | sizes
    return scalar


def _dimensions(spec: TensorSpec) -> Plain:
    """Every size by itself would need ``prefixItems``, which tools that read such documents stumble over."""
    shape = [-1 if n is None else n for n in spec.shape]
    return _list({"type": "integer", "minimum": 0}) | {
        "minItems": len(shape),
        "maxItems": len(shape),
        "description": f"{shape}, where -1 is any size",
    }


def _object(properties: Plain, required: list[str] | None = None) -> Plain:
    wanted = list(properties) if required is None else required
    return {"type": "object", "properties": properties} | ({"required": wanted} if wanted else {})


def _list(items: Plain) -> Plain:
    return {"type": "array", "items": items}


def _text() -> Plain:
    return {"type": "string"}


def _quoted(name: str) -> str:
    """The name as a path has it; braces would be a template."""
    return quote(name, safe="")
