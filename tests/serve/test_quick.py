"""The quick reader says what the full one says, of every request; or leaves it to that."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Refused, ShipworthyError
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import oip
from shipworthy.serve import quick as quick_module
from shipworthy.serve.quick import Quick
from shipworthy.serve.runs import Batch, Share


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


SIGNATURES = [
    Signature(inputs=(spec("x", "float32", None, 3),), outputs=(spec("label", "int64", None), spec("p", "float32", None, 2))),
    Signature(inputs=(spec("a", "float64", None, 2), spec("b", "float32", None)), outputs=(spec("p", "float64", None, 2),)),
    Signature(inputs=(spec("i", "uint8", None, 2),), outputs=(spec("flag", "bool", None),)),
    Signature(inputs=(spec("fixed", "int32", 2),), outputs=(spec("y", "int32", 2),)),
    Signature(inputs=(spec("t", "str", None),), outputs=(spec("t", "str", None),)),
    Signature(inputs=(spec("h", "float16", None),), outputs=(spec("h", "float16", None),)),
]
NUMBERS = st.one_of(st.integers(-3, 300), st.floats(width=32), st.sampled_from([1e39, None, True, "a", [1.0]]))


def array_of(one: TensorSpec, rows: int) -> st.SearchStrategy[np.ndarray]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    kind = object if one.dtype == "str" else one.dtype
    return hnp.arrays(kind, [n or rows for n in one.shape], elements=texts if one.dtype == "str" else None)


def whole(outputs: dict[str, np.ndarray]) -> Share:
    """The outputs of a request that was run alone."""
    return Share(Batch(outputs))


def among_others(outputs: dict[str, np.ndarray], rows: int) -> Share:
    """The same outputs as the rows in the middle of a batch."""
    around = {name: np.concatenate([np.ones_like(array[:1]), array, array]) for name, array in outputs.items()}
    return Share(Batch(around), 1, 1 + rows)


def outcome(parse: Any, body: bytes, header: int | None) -> tuple[str, Any]:
    """What became of a request, also where its numbers are read only when it is run."""
    try:
        request = parse(body, header)
        inputs = {name: np.asarray(array) for name, array in request.inputs.items()}
    except ShipworthyError as error:
        return "refused", str(error)
    # The bytes of an array of texts are addresses.
    arrays = {
        name: (array.dtype.str, array.shape, array.tolist() if array.dtype.kind == "O" else array.tobytes())
        for name, array in inputs.items()
    }
    return "read", (arrays, request.outputs, request.id, request.rows, request.timeout_us, request.priority)


def wishes(signature: Signature) -> list[dict[str, Any]]:
    plain = [{"name": one.name} for one in signature.outputs]
    return [*plain, *plain, plain[0] | {"parameters": {"binary_data": True}}]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, bytes]:
    signature = draw(st.sampled_from(SIGNATURES))
    inputs = []
    for one in draw(st.permutations(signature.inputs)):
        rows = draw(st.integers(0, 3))
        shape = [
            draw(st.sampled_from([rows, n or rows, -1, 1])) if draw(st.integers(0, 9)) == 0 else (n or rows) for n in one.shape
        ]
        count = max(0, int(np.prod(shape))) + (draw(st.integers(-1, 1)) if draw(st.integers(0, 9)) == 0 else 0)
        datatype = draw(st.sampled_from(["FP32", "FP64", "UINT8", "INT32", "BYTES", oip.describe(one)["datatype"]]))
        if draw(st.integers(0, 5)):
            datatype = oip.describe(one)["datatype"]
        data = draw(
            st.lists(NUMBERS if draw(st.booleans()) else st.integers(0, 9), min_size=max(0, count), max_size=max(0, count))
        )
        if count and draw(st.integers(0, 3)) == 0 and len(data) == int(np.prod(shape)) and min(shape, default=0) > 0:
            data = np.array(data, dtype=object).reshape(shape).tolist()
            if draw(st.integers(0, 4)) == 0:
                data = data[:-1] or [data]
        entry: dict[str, Any] = {"name": one.name, "shape": shape, "datatype": datatype, "data": data}
        if draw(st.integers(0, 9)) == 0:
            entry["parameters"] = {"binary_data_size": 4}
        inputs.append(entry)
    ask: dict[str, Any] = {"inputs": inputs}
    for key, values in (
        ("id", st.sampled_from(["7", 7])),
        ("parameters", st.sampled_from([{}, {"timeout": 5}, {"priority": 2}, {"binary_data_output": True}])),
        ("outputs", st.lists(st.sampled_from([*wishes(signature), {"name": "nothing"}]), max_size=3)),
        ("unknown", st.just(1)),
    ):
        if draw(st.integers(0, 5)) == 0:
            ask[key] = draw(values)
    return signature, json.dumps(ask, allow_nan=False, default=str).encode() if _plain(ask) else json.dumps(ask).encode()


def _plain(ask: Any) -> bool:
    try:
        json.dumps(ask, allow_nan=False)
    except ValueError:
        return False
    return True


@given(requests())
@settings(max_examples=500, deadline=None)
def test_json_is_read_as_the_full_reader_reads_it(case: tuple[Signature, bytes]) -> None:
    signature, body = case
    quick = Quick("m", "1", signature)
    assert outcome(quick.parse, body, None) == outcome(lambda b, h: oip.parse(b, h, signature), body, None)


TEXTS = ["1", "2.5", "-0", "-1", "7e0", "300", "1e39", "3.4028235e38", "3.4028235677973366e38", "1e400", "null", "NaN"]
TEXTS += ["true", '"a"', "[1]", "01", "1.", "", " 1 ", "1,2", "]", "1]]", '1],"data":[1', "\n2", "0.1", "1e-46"]
TOKENS = st.sampled_from([*TEXTS, "18446744073709551616"])
FRAMES = [
    '{{"inputs":[{{"name":"{name}","shape":[{rows},{width}],"datatype":"{kind}","data":[{data}]}}]}}',
    '{{"inputs": [{{"data": [{data}], "name": "{name}", "shape": [{rows}, {width}], "datatype": "{kind}"}}], "outputs": []}}',
    '{{"extra":{{"data":[1]}},"inputs":[{{"name":"{name}","shape":[{rows},{width}],"datatype":"{kind}","data":[{data}]}}]}}',
    '{{"extra":{{"data":[{data}]}},"inputs":[{{"name":"{name}","shape":[1,3],"datatype":"{kind}","data":[{usual}]}}]}}',
    '{{"inputs":[{{"name":"{name}","shape":[{rows},{width}],"datatype":"{kind}","data":[[{data}]]}}],"outputs":[{{"name":"p"}}]}}',
    '{{"inputs":[{{"name":"{name}","shape":[{rows},{width}],"datatype":"{kind}","data":[1],"data":[{data}]}}],"id":"\\"data\\":["}}',
    '{{"inputs":[{{"name":"{name}","shape":[{rows},{width}],"datatype":"{kind}","data":[{data}],"parameters":null}}]}}\n',
]
ONE_INPUT = [
    Signature(inputs=(spec(name, dtype, None, 3),), outputs=(spec("p", "float32", None, 2),))
    for name, dtype in [("x", "float32"), ("data", "float64"), ("i", "uint8"), ("u", "uint64"), ("b", "bool")]
]


@given(
    st.sampled_from(ONE_INPUT),
    st.sampled_from(FRAMES),
    st.integers(1, 2),
    st.lists(st.lists(TOKENS, min_size=3, max_size=3) | st.lists(TOKENS, max_size=7), min_size=1, max_size=4),
)
@settings(max_examples=600, deadline=None)
def test_the_same_text_around_other_numbers_is_read_as_the_full_reader_reads_it(
    signature: Signature, frame: str, rows: int, lists: list[list[str]]
) -> None:
    quick, one = Quick("m", "1", signature), signature.inputs[0]
    usual = "true" if one.dtype == "bool" else "1"
    for data in ([usual] * 3 * rows, [usual] * 3, *lists):  # the first is remembered
        fields = {"name": one.name, "rows": rows, "width": 3, "kind": oip.describe(one)["datatype"]}
        body = frame.format(data=",".join(data), usual=",".join([usual] * 3), **fields).encode()
        for text in (body, body.replace(b'"p"', b'"q"')):
            assert outcome(quick.parse, text, None) == outcome(lambda b, h: oip.parse(b, h, signature), text, None)


def test_what_stands_around_the_numbers_is_remembered_within_bounds() -> None:
    signature = ONE_INPUT[0]
    quick = Quick("m", "1", signature)
    for rows in range(1, 2 * quick_module.MOST_TEXTS):
        fields = {"name": "x", "rows": rows, "width": 3, "kind": "FP32"}
        quick.parse(FRAMES[0].format(data=",".join(["1"] * 3 * rows), **fields).encode(), None)
    assert 0 < len(quick._arounds) <= quick_module.MOST_TEXTS
    assert quick._parse_again(FRAMES[0].format(data="1,2,3", name="x", rows=1, width=3, kind="FP32").encode()) is None
    for _ in range(2):
        body = FRAMES[0].format(data="1,2,3", name="x", rows=1, width=3, kind="FP32").encode()
        quick.parse(body, None)
    again = quick._parse_again(body)
    assert again is not None
    assert np.asarray(again.inputs["x"]).tolist() == [[1, 2, 3]]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_bytes_are_read_as_the_full_reader_reads_them_also_from_memory(data: st.DataObject) -> None:
    signature = data.draw(st.sampled_from(SIGNATURES[:4]))
    quick = Quick("m", "1", signature)
    for _ in range(3):  # the second and third may be read by a head that is remembered
        rows = data.draw(st.integers(1, 2))
        arrays = {
            one.name: data.draw(
                hnp.arrays(
                    one.dtype, [n or rows for n in one.shape], elements={"allow_nan": False} if "f" in one.dtype else None
                )
            )
            for one in signature.inputs
        }
        body, header = oip.request_body(arrays, binary=True)
        body += b"x" * data.draw(st.sampled_from([0, 0, 0, 1]))
        assert outcome(quick.parse, body, header) == outcome(lambda b, h: oip.parse(b, h, signature), body, header)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_json_does_not_have_are_refused_as_the_full_reader_does(value: float) -> None:
    quick = Quick("m", "1", ONE_INPUT[0])
    request = quick.parse(FRAMES[0].format(data="1,2,3", name="x", rows=1, width=3, kind="FP32").encode(), None)
    assert b"[1.0,2.0]" in quick.answer(request, whole({"p": np.array([[1, 2]], np.float32)}))[0]
    with pytest.raises(Refused, match="tensor 'p' has no JSON form"):
        quick.answer(request, whole({"p": np.array([[1, value]], np.float32)}))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_answers_are_the_same_bytes(data: st.DataObject) -> None:
    signature = data.draw(st.sampled_from(SIGNATURES))
    quick = Quick("m", "1", signature)
    rows = data.draw(st.integers(1, 3))
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    outputs = {
        one.name: data.draw(
            hnp.arrays(
                object if one.dtype == "str" else one.dtype,
                [n or rows for n in one.shape],
                elements=texts if one.dtype == "str" else None,
            )
        )
        for one in signature.outputs
    }
    inputs = {one.name: np.ones([n or rows for n in one.shape], one.dtype) for one in signature.inputs if one.dtype != "str"}
    binary = data.draw(st.booleans()) or signature.inputs[0].dtype == "float16"
    if not inputs:
        inputs = {"t": np.array(["a"] * rows, object)}
    body, header = oip.request_body(inputs, binary=binary)
    if not binary and data.draw(st.booleans()):
        names = data.draw(st.lists(st.sampled_from([one.name for one in signature.outputs]), min_size=1, unique=True))
        body = body[:-1] + b',"outputs":' + json.dumps([{"name": name} for name in names]).encode() + b"}"
    for _ in range(2):
        request = quick.parse(body, header)
        full = oip.parse(body, header, signature)
        try:
            expected: Any = oip.answer(full, "m", "1", outputs)
        except ShipworthyError as error:
            with pytest.raises(type(error)):
                quick.answer(request, whole(outputs))
        else:
            assert quick.answer(request, whole(outputs)) == expected
            if signature.is_batched:
                assert quick.answer(request, among_others(outputs, rows)) == expected
