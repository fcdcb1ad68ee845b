from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Failed, Refused, ShipworthyError
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import tfs
from shipworthy.serve.tfs import Place


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


Y = spec("y", "float32", None, 2)
ONE = Signature(inputs=(spec("x", "float32", None, 2),), outputs=(Y,))
TWO = Signature(inputs=(spec("a", "float32", None, 2), spec("b", "int64", None)), outputs=(Y, spec("z", "str", None)))
TEXT_ONE = Signature(inputs=(spec("t", "str", None),), outputs=(spec("t_bytes", "str", None),))


def read(plain: Any, signature: Signature = ONE) -> tfs.Request:
    return tfs.parse_predict(plain if isinstance(plain, bytes) else json.dumps(plain).encode(), signature)


def the(array: Any, wanted: Any, dtype: str = "float32") -> None:
    np.testing.assert_array_equal(array, np.array(wanted, object if dtype == "str" else dtype), strict=True)


# ---------------------------------------------------------------- places

PLACES = {
    ("GET", "/v1/models/m"): Place("status", "m"),
    ("GET", "/v1/models/m/versions/12"): Place("status", "m", "12"),
    ("GET", "/v1/models/m/labels/stable"): Place("status", "m", "", "stable"),
    ("GET", "/v1/models/m/metadata"): Place("metadata", "m"),
    ("GET", "/v1/models/m/versions/3/metadata"): Place("metadata", "m", "3"),
    ("GET", "/v1/models/m/labels/a%20b/metadata"): Place("metadata", "m", "", "a b"),
    ("POST", "/v1/models/m:predict"): Place("predict", "m"),
    ("POST", "/v1/models/m/versions/007:classify"): Place("classify", "m", "7"),
    ("POST", "/v1/models/m/labels/x:regress"): Place("regress", "m", "", "x"),
    ("POST", "/V1/Models/M/VERSIONS/2:PREDICT"): Place("predict", "M", "2"),
    ("POST", "/v1/models/m/versions/0:predict"): Place("predict", "m"),
    ("POST", "/v1/models/a%2Fb%3A:predict"): Place("predict", "a/b:"),
    ("GET", "/v1/models/metadata"): Place("status", "metadata"),
}


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_a_path_means_a_place(method: str, path: str) -> None:
    assert tfs.read_place(method, path) == PLACES[method, path]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/", "malformed request"),
        ("GET", "/v1/models/m:predict", "malformed request: GET"),
        ("POST", "/v1/models/m", "malformed request"),
        ("POST", "/v1/models/m:explain", "malformed request"),
        ("PUT", "/v1/models/m:predict", "malformed request"),
        ("POST", "/v1/models/m:predict/", "malformed request"),
        ("POST", "/v1/models/m:predict\n", "malformed request"),
        ("POST", "/v1/models/m/versions/1/labels/x:predict", "malformed request"),
        ("POST", "/v1/models/m/versions/x:predict", "malformed request"),
        ("POST", "/v1/models/m/versions/٣:predict", "malformed request"),
        ("POST", "/v1/models/m/versions/" + "9" * 20 + ":predict", "64 bits"),
    ],
)
def test_a_path_of_no_route_is_refused_with_400(method: str, path: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        tfs.read_place(method, path)
    assert refused.value.http_status == 400


# ---------------------------------------------------------------- predict: requests


def test_rows_of_values_and_rows_of_objects_are_the_same() -> None:
    for plain in ({"instances": [[1, 2], [3, 4.5]]}, {"instances": [{"x": [1, 2]}, {"x": [3, 4.5]}]}):
        request = read(plain)
        the(request.inputs["x"], [[1, 2], [3, 4.5]])
        assert (request.rows, request.by_row) == (2, True)


def test_columns_of_values_and_of_an_object_are_the_same() -> None:
    for plain in ({"inputs": [[1, 2]]}, {"inputs": {"x": [[1, 2]]}}, {"inputs": {"x": [[1, 2]], "more": 1}}):
        request = read(plain)
        the(request.inputs["x"], [[1, 2]])
        assert (request.rows, request.by_row) == (1, False)


def test_several_inputs_come_by_name_in_rows_and_in_columns() -> None:
    rows = read({"instances": [{"a": [1, 2], "b": 3}, {"b": 6, "a": [4, 5]}]}, TWO)
    columns = read({"inputs": {"b": [3, 6], "a": [[1, 2], [4, 5]]}}, TWO)
    for request in (rows, columns):
        the(request.inputs["a"], [[1, 2], [4, 5]])
        the(request.inputs["b"], [3, 6], "int64")
        assert request.rows == 2


@pytest.mark.parametrize("name", ["", "serving_default"])
def test_the_default_signature_may_be_named_and_unknown_fields_are_passed_over(name: str) -> None:
    assert read({"signature_name": name, "instances": [[1, 2]], "other": {"deep": [1]}}).rows == 1


def test_bare_tokens_are_numbers_of_floats_only() -> None:
    values = read(b'{"instances": [[NaN, Infinity], [-Infinity, 1e-3], [1, 2.5]]}').inputs["x"]
    the(values, [[math.nan, math.inf], [-math.inf, 1e-3], [1, 2.5]])
    named = read(b'{"inputs": {"a": [[NaN, 1]], "b": [2]}}', TWO).inputs
    the(named["a"], [[math.nan, 1]])
    with pytest.raises(Refused):
        read(b'{"inputs": {"a": [[0, 1]], "b": [NaN]}}', TWO)


def test_base64_stands_for_a_text_anywhere() -> None:
    coded = {"b64": base64.b64encode("nés".encode()).decode().rstrip("=")}
    for plain in (
        {"instances": ["a", coded]},
        {"instances": [{"t": "a"}, {"t": coded}]},
        {"inputs": ["a", coded]},
        {"inputs": {"t": ["a", coded]}},
    ):
        the(read(plain, TEXT_ONE).inputs["t"], ["a", "nés"], "str")
    the(read({"instances": ["b64"]}, TEXT_ONE).inputs["t"], ["b64"], "str")


def test_an_input_without_dimensions_comes_in_columns() -> None:
    scalar = Signature(inputs=(spec("x", "float64"),), outputs=(Y,))
    request = read({"inputs": 2.5}, scalar)
    the(request.inputs["x"], 2.5, "float64")
    assert request.rows == 1
    with pytest.raises(Refused, match="tensor 'x'"):
        read({"instances": [2.5]}, scalar)


def test_a_fixed_batch_is_one_request() -> None:
    fixed = Signature(inputs=(spec("x", "float32", 2, 1),), outputs=(spec("y", "float32", 2, 1), spec("z", "float32", 2)))
    request = read({"instances": [[1], [2]]}, fixed)
    assert request.rows == 1
    outputs = {"y": np.ones((2, 1), np.float32), "z": np.zeros(2, np.float32)}
    assert json.loads(tfs.answer_predict(request, outputs)) == {"predictions": [{"y": [1.0], "z": 0.0}] * 2}


BAD: dict[str, tuple[Any, Signature, str]] = {
    "neither": ({}, ONE, "neither"),
    "both": ({"instances": [[1, 2]], "inputs": [[1, 2]]}, ONE, "both"),
    "empty rows": ({"instances": []}, ONE, "'instances' is empty"),
    "rows not a list": ({"instances": 3}, ONE, r"\$.instances"),
    "null rows": ({"instances": None}, ONE, r"\$.instances"),
    "root is a list": ([[1, 2]], ONE, "x: float32"),
    "other signature": ({"signature_name": "other", "instances": [[1, 2]]}, ONE, "signature 'other'"),
    "signature is a number": ({"signature_name": 1, "instances": [[1, 2]]}, ONE, r"\$.signature_name"),
    "mixed rows": ({"instances": [[1, 2], {"x": [1, 2]}]}, ONE, "mixes"),
    "ragged": ({"instances": [[1, 2], [3]]}, ONE, "tensor 'x'"),
    "ragged texts": (
        {"instances": [["a"], ["b", "c"]]},
        Signature(inputs=(spec("x", "str", None, None),), outputs=(Y,)),
        "tensor 'x'",
    ),
    "wrong width": ({"instances": [[1, 2, 3]]}, ONE, "tensor 'x'"),
    "too deep": ({"instances": [[[1], [2]]]}, ONE, "x: float32"),
    "too shallow": ({"instances": [1, 2]}, ONE, "x: float32"),
    "text among numbers": ({"instances": [[1, "2"]]}, ONE, r"instances\[0\]\[1\]"),
    "flag among numbers": ({"instances": [[1, True]]}, ONE, r"instances\[0\]\[1\]"),
    "null among numbers": ({"instances": [[1, None]]}, ONE, r"instances\[0\]\[1\]"),
    "too large for float32": ({"instances": [[1, 1e39]]}, ONE, "tensor 'x': a value is too large"),
    "too large beside infinity": (b'{"instances": [[Infinity, 1e39]]}', ONE, "tensor 'x': a value is too large"),
    "no float holds it": (b'{"instances": [[1, 1e400]]}', ONE, "out of range"),
    "no float holds it, beside NaN": (b'{"instances": [[NaN, 1e400]]}', ONE, "out of range"),
    "fraction for a whole number": ({"inputs": {"a": [[1, 2]], "b": [1.5]}}, TWO, "inputs.b"),
    "number beyond int64": ({"inputs": {"a": [[1, 2]], "b": [2**63]}}, TWO, "tensor 'b'"),
    "missing input": ({"instances": [{"a": [1, 2]}]}, TWO, "`b`"),
    "missing column": ({"inputs": {"a": [[1, 2]]}}, TWO, "`b`"),
    "unknown input in a row": ({"instances": [{"a": [1, 2], "b": 1, "c": 1}]}, TWO, "`c`"),
    "plain rows for two inputs": ({"instances": [[1, 2]]}, TWO, "instances"),
    "plain columns for two inputs": ({"inputs": [[1, 2]]}, TWO, "inputs"),
    "columns of other lengths": ({"inputs": {"a": [[1, 2]], "b": [1, 2]}}, TWO, "differ in their number of rows"),
    "no rows in columns": ({"inputs": []}, TEXT_ONE, "has no rows"),
    "base64 for numbers": ({"instances": [[1, {"b64": "AA=="}]]}, ONE, "x: float32"),
    "not base64": ({"instances": [{"b64": "*"}]}, TEXT_ONE, "t: str"),
    "base64 not UTF-8": ({"instances": [{"b64": "/w=="}]}, TEXT_ONE, "t: str"),
    "base64 and more": ({"instances": [{"b64": "AA==", "x": 1}]}, TEXT_ONE, "t: str"),
    "half a surrogate pair": (b'{"instances": ["\\ud800"]}', TEXT_ONE, "t: str"),
    "half a surrogate pair beside base64": (b'{"instances": ["\\ud800", {"b64": "AA=="}]}', TEXT_ONE, "tensor 't'"),
    "empty": (b"", ONE, "x: float32"),
    "cut": (b'{"instances": [[1, 2]', ONE, "x: float32"),
    "not UTF-8": (b"\xff\xfe{}NaN", ONE, "x: float32"),
    "trailing": (b'{"instances": [[1, 2]]} NaN', ONE, "x: float32"),
    "deep": (b'{"instances": ' + b"[" * 100_000 + b"NaN" + b"]" * 100_000 + b"}", ONE, "x: float32"),
    "long number": (b'{"instances": [[NaN, ' + b"9" * 5000 + b"]]}", ONE, "x: float32"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_predict_request_is_refused_and_named(case: str) -> None:
    plain, signature, said = BAD[case]
    with pytest.raises(Refused, match=said) as refused:
        read(plain, signature)
    assert refused.value.http_status == 400


def test_an_input_whose_name_no_message_can_hold_is_refused() -> None:
    with pytest.raises(Refused, match="cannot hold"):
        read({"instances": [[1]]}, Signature(inputs=(spec('a"b', "float32", None, 1),), outputs=(Y,)))


# ---------------------------------------------------------------- predict: answers


def answered(outputs: dict[str, np.ndarray], *, by_row: bool = True) -> Any:
    return json.loads(tfs.answer_predict(tfs.Request({}, 2, by_row), outputs))


def test_one_output_goes_without_its_name_several_with() -> None:
    y, z = np.array([[1.5, 2], [3, 4]], np.float32), np.array([True, False])
    assert answered({"y": y}) == {"predictions": [[1.5, 2.0], [3.0, 4.0]]}
    assert answered({"y": y}, by_row=False) == {"outputs": [[1.5, 2.0], [3.0, 4.0]]}
    assert answered({"y": y, "z": z}) == {"predictions": [{"y": [1.5, 2.0], "z": True}, {"y": [3.0, 4.0], "z": False}]}
    assert answered({"y": y, "z": z}, by_row=False) == {"outputs": {"y": [[1.5, 2.0], [3.0, 4.0]], "z": [True, False]}}


def test_outputs_of_other_lengths_answer_columns_only() -> None:
    for outputs in (
        {"y": np.zeros(2, np.float32), "z": np.zeros(3, np.float32)},
        {"y": np.zeros(2, np.float32), "z": np.array(1.0)},
        {"z": np.array(1.0)},
    ):
        with pytest.raises(Refused, match="same number of rows") as refused:
            answered(outputs)
        assert "columns" in refused.value.next
        assert "outputs" in answered(outputs, by_row=False)


def test_numbers_that_json_lacks_are_bare_tokens_and_whole_floats_stay_floats() -> None:
    request = tfs.Request({}, 1)
    body = tfs.answer_predict(request, {"y": np.array([[math.nan, math.inf, -math.inf, 2]], np.float32)})
    assert body == b'{"predictions":[[NaN,Infinity,-Infinity,2.0]]}'
    assert tfs.answer_predict(request, {"y": np.array([2], np.float16)}) == b'{"predictions":[2.0]}'


def test_an_output_named_bytes_goes_as_base64_if_it_is_text() -> None:
    texts = np.array([["né"], ["a"]], object)
    coded = [[{"b64": base64.b64encode("né".encode()).decode()}], [{"b64": "YQ=="}]]
    assert answered({"t_bytes": texts}) == {"predictions": coded}
    assert answered({"t_bytes": texts}, by_row=False) == {"outputs": coded}
    assert answered({"t_bytes_": texts}) == {"predictions": [["né"], ["a"]]}
    assert answered({"n_bytes": np.array([1, 2])}) == {"predictions": [1, 2]}
    assert answered({"t_bytes": np.array("a", object)}, by_row=False) == {"outputs": {"b64": "YQ=="}}


@pytest.mark.parametrize("name", ["t", "t_bytes"])
@pytest.mark.parametrize("number", [1.0, math.nan])
def test_a_text_that_is_not_unicode_is_a_failure(name: str, number: float) -> None:
    with pytest.raises(Failed, match="not Unicode"):
        answered({name: np.array(["\ud800", "a"], object), "n": np.array([number, 1])})


# ---------------------------------------------------------------- classify and regress

SCORES = Signature(
    inputs=(spec("x", "float32", None, 2), spec("k", "int64", None)),
    outputs=(spec("label", "int64", None), spec("p", "float32", None, 3)),
)
NUMBER = Signature(inputs=SCORES.inputs, outputs=(spec("y", "float32", None, 1), spec("label", "int64", None)))


def examples(plain: Any, signature: Signature = SCORES) -> tfs.Request:
    return tfs.parse_classify(plain if isinstance(plain, bytes) else json.dumps(plain).encode(), signature)


def test_examples_give_features_by_name_and_context_gives_what_they_share() -> None:
    for plain in (
        {"examples": [{"x": [1, 2], "k": 5}, {"x": [3, 4], "k": [5]}]},
        {"examples": [{"x": [1, 2]}, {"x": [3, 4]}], "context": {"k": 5}},
    ):
        request = examples(plain)
        the(request.inputs["x"], [[1, 2], [3, 4]])
        the(request.inputs["k"], [5, 5], "int64")
        assert request.rows == 2
    the(examples(b'{"examples": [{"x": [NaN, Infinity], "k": 1}]}').inputs["x"], [[math.nan, math.inf]])


def test_a_flat_feature_takes_the_shape_of_its_input() -> None:
    signature = Signature(inputs=(spec("i", "float32", None, 2, None),), outputs=SCORES.outputs)
    the(examples(b'{"examples": [{"i": [1, 2, 3, Infinity]}]}', signature).inputs["i"], [[[1, 2], [3, math.inf]]])
    text = Signature(inputs=(spec("t", "str", None),), outputs=SCORES.outputs)
    the(examples({"examples": [{"t": "a"}, {"t": {"b64": "Yg=="}}]}, text).inputs["t"], ["a", "b"], "str")


BAD_EXAMPLES = {
    "none": ({}, "examples"),
    "empty": ({"examples": []}, "'examples' is empty"),
    "not a list": ({"examples": {}}, "examples"),
    "not objects": ({"examples": [1]}, "examples"),
    "missing": ({"examples": [{"x": [1, 2], "k": 1}, {"x": [1, 2]}]}, "example 1 lacks the feature 'k'"),
    "unknown": ({"examples": [{"x": [1, 2], "k": 1, "q": 1}]}, "`q`"),
    "twice": ({"examples": [{"x": [1, 2], "k": 1}], "context": {"k": 1}}, "'k' stands in 'context'"),
    "too long": ({"examples": [{"x": [1, 2, 3], "k": 1}]}, "tensor 'x'"),
    "of other lengths": ({"examples": [{"x": [1, 2], "k": 1}, {"x": [1], "k": 1}]}, "tensor 'x'"),
    "nested": ({"examples": [{"x": [[1, 2]], "k": 1}]}, "x"),
    "no values": ({"examples": [{"x": [1, 2], "k": []}]}, "tensor 'k'"),
    "other signature": ({"signature_name": "q", "examples": [{"x": [1, 2], "k": 1}]}, "signature 'q'"),
}


@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_bad_examples_are_refused_and_named(case: str) -> None:
    plain, said = BAD_EXAMPLES[case]
    with pytest.raises(Refused, match=said):
        examples(plain)
    with pytest.raises(Refused, match=said):
        tfs.parse_regress(json.dumps(plain).encode(), NUMBER)


def test_a_classification_pairs_labels_and_scores() -> None:
    scores = np.array([[0.5, 0.25, 0.25], [math.nan, 1, 0]], np.float32)
    body = tfs.answer_classify(SCORES, {"label": np.zeros(2, np.int64), "p": scores})
    assert body == b'{"results":[[["",0.5],["",0.25],["",0.25]],[["",NaN],["",1.0],["",0.0]]]}'
    named = Signature(inputs=SCORES.inputs, outputs=(spec("classes", "str", None, 3), SCORES.outputs[1]))
    labels = np.array([["a", "b", "c"]] * 2, object)
    results = json.loads(tfs.answer_classify(named, {"classes": labels, "p": scores[:1].repeat(2, 0)}))
    assert results == {"results": [[["a", 0.5], ["b", 0.25], ["c", 0.25]]] * 2}


def test_a_regression_gives_one_number_a_row() -> None:
    assert tfs.parse_regress(b'{"examples": [{"x": [1, 2], "k": 1}]}', NUMBER).rows == 1
    for values in (np.array([[1.5], [math.inf]], np.float32), np.array([1.5, math.inf], np.float32)):
        body = tfs.answer_regress(NUMBER, {"y": values, "label": np.zeros(2, np.int64)})
        assert body == b'{"results":[1.5,Infinity]}'


def test_a_model_that_cannot_do_it_says_so_before_it_runs() -> None:
    body = b'{"examples": [{"x": [1, 2], "k": 1}]}'
    twice = Signature(inputs=SCORES.inputs, outputs=(SCORES.outputs[1], spec("q", "float32", None, 3)))
    for signature in (Signature(inputs=SCORES.inputs, outputs=(SCORES.outputs[0],)), twice):
        with pytest.raises(Refused, match="scores"):
            tfs.parse_classify(body, signature)
        with pytest.raises(Refused, match="one number a row"):
            tfs.parse_regress(body, signature)
    with pytest.raises(Refused, match="scores"):
        tfs.parse_classify(body, Signature(inputs=SCORES.inputs, outputs=(spec("y", "float32", None),)))


# ---------------------------------------------------------------- status and metadata


def test_status_names_versions_as_texts() -> None:
    fine = {"error_code": "OK", "error_message": ""}
    assert json.loads(tfs.status_body([1, 12])) == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": fine},
            {"version": "12", "state": "AVAILABLE", "status": fine},
        ]
    }


def test_metadata_is_the_json_of_a_signature_map() -> None:
    plain = json.loads(tfs.metadata_body("m", 3, TWO))
    assert plain["model_spec"] == {"name": "m", "signature_name": "", "version": "3"}
    definition = plain["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["a"] == {
        "name": "a",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
    }
    assert {name: one["dtype"] for name, one in definition["outputs"].items()} == {"y": "DT_FLOAT", "z": "DT_STRING"}


# ---------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Signature, dict[str, np.ndarray]]:
    rows = draw(st.integers(1, 3))
    specs, arrays = [], {}
    for name in draw(st.lists(NAME.filter(lambda n: n != "b64"), min_size=1, max_size=3, unique=True)):
        dtype = draw(st.sampled_from(list(tfs.DATATYPES)))
        rest = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
        elements = TEXT if dtype == "str" else None
        arrays[name] = draw(hnp.arrays(object if dtype == "str" else dtype, (rows, *rest), elements=elements))
        specs.append(spec(name, dtype, None, *(draw(st.sampled_from([n, None])) for n in rest)))
    return Signature(inputs=tuple(specs), outputs=tuple(specs)), arrays


@given(batches(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_answer_asked_again_gives_the_same_arrays(batch: tuple[Signature, dict[str, np.ndarray]], by_row: bool) -> None:
    """What a model gives can be sent to it again: rows or columns, one tensor or several, NaN and infinity too."""
    signature, arrays = batch
    rows = next(iter(arrays.values())).shape[0]
    answer = tfs.answer_predict(tfs.Request({}, rows, by_row), arrays)
    old, new = (b'{"predictions"', b'{"instances"') if by_row else (b'{"outputs"', b'{"inputs"')
    assert answer.startswith(old)
    request = tfs.parse_predict(new + answer[len(old) :], signature)
    assert (request.rows, request.by_row, list(request.inputs)) == (rows, by_row, list(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(request.inputs[name], array, strict=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just({"b64": "YQ=="}),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "a", "b", "t", "b64"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ["instances", "inputs", "examples", "context", "signature_name"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3).map(json.dumps).map(str.encode) | st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_garbage_raises_nothing_but_our_errors(body: bytes) -> None:
    for signature in (ONE, TWO, TEXT_ONE, SCORES):
        for parse in (tfs.parse_predict, tfs.parse_classify, tfs.parse_regress):
            try:
                parse(body, signature)
            except ShipworthyError as error:
                assert error.http_status == 400  # noqa: PT017  # most, but not all, is refused


@given(st.sampled_from(["GET", "POST"]), st.text(max_size=12))
def test_any_path_is_a_place_or_refused(method: str, end: str) -> None:
    try:
        assert tfs.read_place(method, "/v1/models/" + end).name
    except Refused as error:
        assert error.http_status == 400  # noqa: PT017
