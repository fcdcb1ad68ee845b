from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Refused
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import oip, tensors


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


SIGNATURE = Signature(
    inputs=(spec("a", "float32", None, 2), spec("b", "int64", None)),
    outputs=(spec("y", "float32", None), spec("z", "str", None)),
)


def a_request(**changes: Any) -> dict[str, Any]:
    plain = {
        "inputs": [
            {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
            {"name": "b", "shape": [2], "datatype": "INT64", "data": [5, 6]},
        ]
    }
    return plain | changes


def with_input(index: int, **changes: Any) -> dict[str, Any]:
    plain = a_request()
    plain["inputs"][index] = {key: value for key, value in (plain["inputs"][index] | changes).items() if value is not ...}
    return plain


def parse(plain: Any, tail: bytes | None = None) -> oip.Request:
    head = json.dumps(plain).encode()
    return oip.parse(head + (tail or b""), None if tail is None else len(head), SIGNATURE)


def test_a_request_becomes_arrays() -> None:
    request = parse(a_request(id="seven", parameters={"x": "1", "y": 2, "z": 0.5, "w": True}, more=[{}]))
    np.testing.assert_array_equal(request.inputs["a"], np.array([[1, 2], [3, 4]], np.float32), strict=True)
    np.testing.assert_array_equal(request.inputs["b"], np.array([5, 6]), strict=True)
    assert request.id == "seven"
    assert request.outputs == {"y": False, "z": False}


def test_json_and_binary_inputs_mix_and_lie_in_order() -> None:
    b = {"name": "b", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    a = {"name": "a", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    blob_a, blob_b = np.arange(4, dtype="<f4"), np.array([5, 6], "<i8")
    both = parse({"inputs": [b, a]}, blob_b.tobytes() + blob_a.tobytes())
    one = parse({"inputs": [a_request()["inputs"][0], b]}, blob_b.tobytes())
    np.testing.assert_array_equal(both.inputs["a"], blob_a.reshape(2, 2), strict=True)
    np.testing.assert_array_equal(both.inputs["b"], blob_b, strict=True)
    np.testing.assert_array_equal(one.inputs["b"], blob_b, strict=True)
    assert one.inputs["a"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("parameters", "outputs", "wanted"),
    [
        (None, None, {"y": False, "z": False}),
        ({"binary_data_output": True}, [], {"y": True, "z": True}),
        ({"binary_data_output": True}, [{"name": "z"}], {"z": True}),
        (
            {"binary_data_output": True},
            [{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}],
            {"z": False, "y": True},
        ),
        (None, [{"name": "z", "parameters": {"binary_data": True}}], {"z": True}),
    ],
)
def test_what_an_output_says_of_bytes_wins_over_the_request(parameters: Any, outputs: Any, wanted: dict[str, bool]) -> None:
    asked = parse(a_request(parameters=parameters, outputs=outputs)).outputs
    assert list(asked.items()) == list(wanted.items())


BAD = {
    "missing input": (a_request(inputs=a_request()["inputs"][:1]), "inputs"),
    "no inputs": ({}, "inputs"),
    "unknown input": (with_input(0, name="q"), "q"),
    "duplicate input": (with_input(1, name="a"), "a, a"),
    "an input once more": (a_request(inputs=[*a_request()["inputs"], a_request()["inputs"][0]]), "a, b, a"),
    "wrong datatype": (with_input(0, datatype="FP64"), "tensor 'a'"),
    "unknown datatype": (with_input(0, datatype="BF16"), "tensor 'a'"),
    "too few values": (with_input(0, data=[1, 2, 3]), "tensor 'a'"),
    "too many values": (with_input(0, data=[1, 2, 3, 4, 5]), "tensor 'a'"),
    "wrong rank": (with_input(0, shape=[4]), "tensor 'a'"),
    "wrong fixed dimension": (with_input(0, shape=[1, 4]), "tensor 'a'"),
    "negative dimension": (with_input(1, shape=[-2]), "tensor 'b'"),
    "two negative dimensions": (with_input(0, shape=[-2, -2]), "tensor 'a'"),
    "product overflow": (with_input(0, shape=[2**62, 2]), "rows"),
    "dimension above 64 bits": (with_input(1, shape=[2**70]), ""),
    "fraction as dimension": (with_input(1, shape=[2.5]), "shape"),
    "text as dimension": (with_input(1, shape=["2"]), "shape"),
    "rows differ": (with_input(1, shape=[3], data=[1, 2, 3]), "rows"),
    "no data": (with_input(0, data=...), "tensor 'a'"),
    "null data": (with_input(0, data=None), "tensor 'a'"),
    "object as data": (with_input(0, data={"x": 1}), "tensor 'a'"),
    "text among numbers": (with_input(0, data=[1, 2, "3", 4]), "tensor 'a'"),
    "null among whole numbers": (with_input(1, data=[1, None]), "tensor 'b'"),
    "object as parameter": (a_request(parameters={"x": {}}), "parameters"),
    "number as id": (a_request(id=7), "id"),
    "unknown output": (a_request(outputs=[{"name": "q"}]), "output 'q'"),
    "output twice": (a_request(outputs=[{"name": "y"}, {"name": "y"}]), "output 'y'"),
    "binary_data not a flag": (a_request(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), "output 'y'"),
    "binary_data_output not a flag": (a_request(parameters={"binary_data_output": "yes"}), "binary_data_output"),
    "binary data without a header": (
        with_input(0, data=..., parameters={"binary_data_size": 16}),
        "tensor 'a' has binary data, but no header",
    ),
    "list as root": ([], ""),
    "number as root": (1, ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_and_named(case: str) -> None:
    plain, named = BAD[case]
    with pytest.raises(Refused) as refused:
        parse(plain)
    assert named in str(refused.value)
    assert refused.value.http_status == 400


DEEP = 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": []} more',
        b"[" * DEEP + b"]" * DEEP,
        b'{"unknown": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"inputs": [{"name": "a", "shape": [2, 2], "datatype": "FP32", "data": ' + b"[" * DEEP + b"]" * DEEP + b"}]}",
        b'{"inputs": [{"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [NaN, 1, 2, 3]}]}',
    ],
    ids=["empty", "cut", "not UTF-8", "trailing", "deep root", "deep unknown", "deep data", "bare NaN"],
)
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        oip.parse(body, None, SIGNATURE)


@pytest.mark.parametrize(
    ("size", "tail", "named"),
    [
        (16, bytes(15), "binary_data_size"),
        (16, bytes(17), "left over"),
        (8, bytes(8), "tensor 'a'"),
        (-1, b"", "binary_data_size"),
        (True, bytes(1), "binary_data_size"),
        (16.0, bytes(16), "binary_data_size"),
        ("16", bytes(16), "binary_data_size"),
        (2**80, bytes(16), ""),
    ],
)
def test_binary_sizes_that_do_not_add_up_are_refused(size: Any, tail: bytes, named: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(with_input(0, data=..., parameters={"binary_data_size": size}), tail)
    assert named in str(refused.value)


def test_data_twice_and_bytes_that_nobody_names_are_refused() -> None:
    with pytest.raises(Refused, match="twice"):
        parse(with_input(0, parameters={"binary_data_size": 16}), bytes(16))
    with pytest.raises(Refused, match="left over"):
        parse(a_request(), b"x")


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", "", " 3", "x", "11", "٣", "9" * 5000])
def test_a_wrong_length_header_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=oip.LENGTH_HEADER):
        oip.read_length(text, 10)


def test_a_right_length_header_is_read() -> None:
    assert [oip.read_length(text, 10) for text in (None, "0", "10", "007")] == [None, 0, 10, 7]


# ---------------------------------------------------------------- raw bodies


def raw(body: bytes, *shape: int | None, dtype: str = "float32") -> np.ndarray:
    one = Signature(inputs=(spec("x", dtype, *shape),), outputs=SIGNATURE.outputs)
    request = oip.parse(body, 0, one)
    assert request.outputs == {"y": True, "z": True}
    return request.inputs["x"]


def test_a_raw_body_is_the_only_input_and_its_size_gives_the_free_dimension() -> None:
    values = np.arange(12, dtype="<f4")
    for shape, wanted in [
        ((None, 4), (3, 4)),
        ((None, None), (1, 12)),
        ((None, 3, None), (1, 3, 4)),
        ((3, 4), (3, 4)),
        ((2, None), (2, 6)),
    ]:
        np.testing.assert_array_equal(raw(values.tobytes(), *shape), values.reshape(wanted), strict=True)
    assert raw("né".encode(), None, 1, dtype="str").tolist() == [["né"]]


@pytest.mark.parametrize("shape", [(None, 5), (None, None, None), (2, None, None), (3, 3), (None, 0)])
def test_a_raw_body_that_fits_no_shape_is_refused(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(Refused):
        raw(bytes(48), *shape)


def test_a_raw_body_for_a_model_of_two_inputs_or_two_texts_is_refused() -> None:
    with pytest.raises(Refused, match="one input"):
        oip.parse(bytes(8), 0, SIGNATURE)
    with pytest.raises(Refused, match="tensor 'x'"):
        raw(b"abc", None, 2, dtype="str")


# ---------------------------------------------------------------- answers


def answered(outputs: dict[str, bool], arrays: dict[str, np.ndarray], id: str | None = None) -> tuple[Any, bytes, int | None]:  # noqa: A002
    body, length = oip.answer(oip.Request({}, outputs, id), "m", "3", arrays)
    return json.loads(body[:length]), body if length is None else body[length:], length


def test_an_answer_echoes_the_id_and_gives_flat_values_in_the_order_asked_for() -> None:
    arrays = {"y": np.array([[1.5, 2]], np.float32), "z": np.array(["a"], object)}
    plain, _, length = answered({"z": False, "y": False}, arrays, id="")
    assert length is None
    assert plain == {
        "model_name": "m",
        "model_version": "3",
        "id": "",
        "outputs": [
            {"name": "z", "shape": [1], "datatype": "BYTES", "data": ["a"]},
            {"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]},
        ],
    }
    assert "id" not in answered({"y": False}, arrays)[0]


def test_binary_outputs_follow_the_json_in_order_beside_json_ones() -> None:
    arrays = {"y": np.array([1, 2], np.float16), "z": np.array(["a"], object), "w": np.array([1])}
    plain, tail, _ = answered({"z": True, "w": False, "y": True}, arrays)
    assert tail == b"\x01\x00\x00\x00a" + np.array([1, 2], "<f2").tobytes()
    assert [one.get("parameters") for one in plain["outputs"]] == [{"binary_data_size": 5}, None, {"binary_data_size": 4}]
    assert ["data" in one for one in plain["outputs"]] == [False, True, False]


def test_an_answer_without_a_json_form_is_refused_by_name_and_bytes_carry_it() -> None:
    arrays = {"y": np.array([1, np.nan, np.inf], np.float32), "z": np.ones(1, np.float16)}
    for name, found in (("y", "NaN or infinity"), ("z", "FP16")):
        with pytest.raises(Refused, match=f"tensor '{name}' has no JSON form") as refused:
            answered({name: False}, arrays)
        assert refused.value.http_status == 400
        assert refused.value.found == found
        assert "binary_data: true" in refused.value.next
    assert answered({"y": True, "z": True}, arrays)[1] == arrays["y"].tobytes() + arrays["z"].tobytes()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"outputs": 1}',
        b'{"outputs": [{"name": "y", "shape": [-1], "datatype": "FP32", "data": []}]}',
        b'{"outputs": [{"name": "y", "shape": [1], "datatype": "FP8", "data": [1]}]}',
        b'{"outputs": [{"name": "y", "shape": ['
        + b"1," * 3000
        + b'1], "datatype": "FP32", "data": '
        + b"[" * 900
        + b"1"
        + b"]" * 900
        + b"}]}",
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        oip.read_answer(body, None)


def test_metadata_shows_free_dimensions_as_minus_one() -> None:
    assert oip.describe(spec("s", "str", None, 3)) == {"name": "s", "datatype": "BYTES", "shape": [-1, 3]}


# ---------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@st.composite
def batches(draw: st.DrawFn, *, binary: bool) -> tuple[Signature, dict[str, np.ndarray]]:
    rows = draw(st.integers(1, 3))
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    specs, arrays = [], {}
    for name in names:
        dtype = draw(st.sampled_from([one for one in tensors.DATATYPES if binary or one != "float16"]))
        rest = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None
        elements = TEXT if dtype == "str" else finite
        arrays[name] = draw(hnp.arrays(object if dtype == "str" else dtype, (rows, *rest), elements=elements))
        specs.append(spec(name, dtype, None, *(draw(st.sampled_from([n, None])) for n in rest)))
    return Signature(inputs=tuple(specs), outputs=tuple(specs)), arrays


def check_equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert list(left) == list(right)
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], strict=True)


@given(st.data(), st.booleans())
@settings(max_examples=200)
def test_requests_and_answers_round_trip(draws: st.DataObject, binary: bool) -> None:
    signature, arrays = draws.draw(batches(binary=binary))
    request = oip.parse(*oip.request_body(arrays, binary=binary), signature)
    check_equal(request.inputs, arrays)
    assert set(request.outputs.values()) == {binary}
    check_equal(oip.read_answer(*oip.answer(request, "m", "1", request.inputs)), arrays)


MUTANTS = [b"", b"-", b"[", b"]", b"{", b'"', b"null", b"1e999", b"9" * 30, b"\xff", b"\x00", b",", b"true"]


@given(st.data(), st.booleans())
@settings(max_examples=500)
def test_a_mutated_request_is_answered_or_refused_never_another_error(draws: st.DataObject, binary: bool) -> None:
    signature, arrays = draws.draw(batches(binary=binary))
    body, length = oip.request_body(arrays, binary=binary)
    for _ in range(draws.draw(st.integers(1, 3))):
        start = draws.draw(st.integers(0, len(body)))
        stop = draws.draw(st.integers(start, min(len(body), start + 6)))
        body = body[:start] + draws.draw(st.sampled_from(MUTANTS)) + body[stop:]
    if length is not None:
        length = max(0, min(len(body), length + draws.draw(st.integers(-2, 2))))
    try:
        request = oip.parse(body, length, signature)
    except Refused as refused:
        assert refused.what  # noqa: PT017  # some mutants are still right
        return
    for one in signature.inputs:
        array = request.inputs[one.name]
        assert array.dtype == (object if one.dtype == "str" else one.dtype)
        assert all(n in (None, m) for n, m in zip(one.shape, array.shape, strict=True))
