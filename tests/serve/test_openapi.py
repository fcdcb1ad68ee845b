from __future__ import annotations

import ast
import json
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from shipworthy.protocols import Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import docs, guard, oip, openapi, tfs
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Live
from shipworthy.serve.statistics import Statistics
from shipworthy.serve.tensors import DATATYPES


class Still:
    """A runner that is never run."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def run(self, inputs: Arrays) -> dict[str, Any]:  # noqa: ARG002
        raise AssertionError

    def close(self) -> None:
        pass


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


ALL = tuple(spec(f"in {dtype}", dtype, None, 2) for dtype in DATATYPES if dtype != "float16")
ONE = Signature(inputs=(spec("x", "float32", None, 4),), outputs=(spec("y", "int64", None),))
EVIL = "it's </code><script>$style"


def live(name: str, version: int, inputs: tuple[TensorSpec, ...], bundle: str = "") -> Live:
    runner = Still(Signature(inputs=inputs, outputs=ONE.outputs))
    statistics = Statistics()
    return Live(name, version, bundle, runner, Batcher(runner, Plan(), statistics), statistics)


LIVES = [
    live("digits", 1, ONE.inputs),
    live("digits", 3, (spec("x", "float32", None, 5),), bundle="b" * 64),
    live("all", 1, ALL),
    live("image", 1, (spec("x", "float32", None, 3, 224, 224),)),
    live("half", 1, (spec("x", "float16", None, 2),)),
    live("scalar", 1, (spec("x", "float64"),)),
    live(EVIL, 1, (spec(EVIL, "str", None, 1),)),
]
DOCUMENT = json.loads(json.dumps(openapi.document({live.name: live for live in LIVES}.values(), LIVES, "1.2")))
PATHS = DOCUMENT["paths"]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, verb, one) for path, item in PATHS.items() for verb, one in item.items() if verb in {"get", "post"}]


def test_the_document_has_the_parts_that_openapi_wants() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"] == "1.2"
    for path, verb, one in operations():
        assert path.startswith("/")
        assert one["summary"]
        assert one["responses"]["200"]["description"]
        assert ("requestBody" in one) == (verb == "post")
        if verb == "post":
            assert one["requestBody"]["content"]["application/json"]["schema"]
        for status, answer in one["responses"].items():
            assert status.isdigit()
            assert answer["description"]
        in_path = [one["name"] for one in PATHS[path].get("parameters", []) if one["in"] == "path"]
        assert re.findall(r"\{(.*?)\}", path) == in_path
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(DOCUMENT)):
        assert reference in DOCUMENT["components"]["schemas"]


def test_it_says_where_a_key_is_asked_for() -> None:
    (name,) = DOCUMENT["components"]["securitySchemes"]
    assert DOCUMENT["components"]["securitySchemes"][name]["type"] == "http"
    assert DOCUMENT["components"]["securitySchemes"][name]["scheme"] == "bearer"
    assert DOCUMENT["security"] == [{}, {name: []}], "a server without keys asks for none"
    for path, _, one in operations():
        assert (one.get("security") == []) == (path in guard.OPEN_PATHS), path
        assert ("security" in one) == (path in guard.OPEN_PATHS), path
        assert ("401" in one["responses"]) == (path not in guard.OPEN_PATHS), path
        of_a_model = re.match(r"/v1/models/|/v2/(repository/)?models/(?!stats)", path) is not None
        assert ("403" in one["responses"]) == of_a_model, path


def test_every_route_of_every_model_and_version_is_there() -> None:
    assert {
        "/v2",
        "/v2/models",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/repository/index",
        "/v2/repository/models/digits/load",
        "/v2/repository/models/all/unload",
    } <= PATHS.keys()
    for which in ("digits", "digits/versions/1", "digits/versions/3", "all", "all/versions/1"):
        for end, verb in (("", "get"), ("/ready", "get"), ("/infer", "post"), ("/config", "get"), ("/stats", "get")):
            assert verb in PATHS[f"/v2/models/{which}{end}"]
        for end, verb in (("", "get"), ("/metadata", "get"), (":predict", "post"), (":classify", "post"), (":regress", "post")):
            assert verb in PATHS[f"/v1/models/{which}{end}"]


def test_the_routes_of_tensorflow_serving_are_those_that_are_read() -> None:
    found = [(path, verb) for path, verb, _ in operations() if path.startswith("/v1/")]
    places = {tfs.read_place(verb.upper(), path) for path, verb in found}
    assert len(places) == len(found)
    assert {place.name for place in places} == {one.name for one in LIVES}


def example(path: str) -> Any:
    return PATHS[path]["post"]["requestBody"]["content"]["application/json"].get("example")


@pytest.mark.parametrize("which", ["digits/versions/1", "digits/versions/3", "all/versions/1", "scalar/versions/1"])
def test_the_examples_are_requests_that_the_model_takes(which: str) -> None:
    name, _, version = which.split("/")
    signature = next(one.signature for one in LIVES if (one.name, str(one.version)) == (name, version))
    wanted = openapi.example_inputs(signature)
    for inputs in (
        oip.parse(json.dumps(example(f"/v2/models/{which}/infer")).encode(), None, signature).inputs,
        tfs.parse_predict(json.dumps(example(f"/v1/models/{which}:predict")).encode(), signature).inputs,
    ):
        for key, array in wanted.items():
            np.testing.assert_array_equal(inputs[key], array, strict=True)
    assert example("/v2/models/digits/infer") == example("/v2/models/digits/versions/3/infer")


@pytest.mark.parametrize("name", ["image", "half"])
def test_an_input_that_is_long_or_has_no_json_has_no_example(name: str) -> None:
    assert example(f"/v2/models/{name}/infer") is None
    assert example(f"/v1/models/{name}:predict") is None


def test_schemas_say_name_datatype_and_shape() -> None:
    schema = PATHS["/v2/models/digits/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (tensor,) = schema["properties"]["inputs"]["items"]["oneOf"]
    assert tensor["properties"]["name"] == {"const": "x"}
    assert tensor["properties"]["datatype"] == {"const": "FP32"}
    shape = tensor["properties"]["shape"]
    assert shape["items"] == {"type": "integer", "minimum": 0}
    assert (shape["minItems"], shape["maxItems"], shape["description"]) == (2, 2, "[-1, 5], where -1 is any size")
    predict = PATHS["/v1/models/digits:predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = predict["oneOf"][0]["properties"]["instances"]["items"]["anyOf"][0]
    assert row == {"type": "array", "items": {"type": "number"}, "minItems": 5, "maxItems": 5}


# ---------------------------------------------------------------- the page


class Reader(HTMLParser):
    """What a page holds: its tags with their attributes, and the texts of its examples."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.codes: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if self.open[-2:] == ["pre", "code"]:
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open[-2:] == ["pre", "code"]:
            self.codes[-1] += data


def read(url: str = "http://127.0.0.1:8000", grpc: str = "127.0.0.1:8001", lives: list[Live] = LIVES) -> Reader:
    reader = Reader()
    reader.feed(docs.page(lives, url, grpc, "1.2"))
    return reader


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = read()
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} >= {"/openapi.json", "#model-digits"}
    assert not any(key in {"src", "style"} or key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "url(" not in docs.page(LIVES, "http://h", "", "1")
    assert "@import" not in docs.page(LIVES, "http://h", "", "1")


def test_every_model_is_listed_once_with_its_versions() -> None:
    ids = [attributes["id"] for tag, attributes in read().tags if tag == "section"]
    links = [attributes["href"] for tag, attributes in read().tags if tag == "a"][1:]
    assert ["#" + str(one) for one in ids] == links
    assert len(ids) == len({one.name for one in LIVES})
    assert "versions: 1, 3; a request that names none is answered by version 3" in docs.page(LIVES, "http://h", "", "1")
    swapped = [LIVES[1], LIVES[0]]
    assert "versions: 1, 3; a request that names none is answered by version 1" in docs.page(swapped, "http://h", "", "1")


def test_python_examples_are_python_and_curl_examples_are_shell() -> None:
    codes = read("http://127.0.0.1:8000", "127.0.0.1:8001").codes
    python = [code for code in codes if not code.startswith("curl")]
    assert len(python) == 3 * 6
    for code in python:
        ast.parse(code)
    sent = [shlex.split(code) for code in codes if code.startswith("curl")]
    assert len(sent) == 2 * 4
    for words in sent:
        assert words[1].startswith("http://127.0.0.1:8000/v")
        body = json.loads(words[words.index("-d") + 1])
        assert body.keys() <= {"inputs", "instances"}
    assert all(str([1, 5]) in code for code in codes[2:5])


def test_without_grpc_its_examples_are_left_out() -> None:
    codes = read(grpc="").codes
    assert not any("grpc" in code for code in codes)
    assert any("tritonclient.http" in code for code in codes)


def test_a_hostile_address_stays_text() -> None:
    codes = read(url="http://x'; rm -rf /; '<script>", lives=LIVES[:1]).codes
    assert shlex.split(codes[0])[1] == "http://x'; rm -rf /; '<script>/v2/models/digits/infer"
