"""Numbers in JSON: read in one pass with those of other requests, and never taken for theirs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Refused
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import texts
from shipworthy.serve.quick import Quick
from shipworthy.serve.texts import Frame, read, read_all, written, written_by_row

PAIR = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 2)),),
)


@pytest.fixture(params=["compiled", "without"], autouse=True)
def reader(request, monkeypatch):
    """Each test with the compiled reader, and as where there is none."""
    if request.param == "without":
        monkeypatch.setattr(texts, "_numbers", None)
    elif texts._numbers is None:
        pytest.skip("the package was installed without a compiler")


def body(data: str) -> bytes:
    return f'{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{data}}}]}}'.encode()


def frame(rows: int = 1, depth: int = 1) -> Frame:
    found = Frame.of("float32", (rows, 2), depth)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("dtype", "shape", "depth", "there"),
    [
        ("float32", (1, 2), 1, True),
        ("float64", (3, 2), 1, True),
        ("float32", (1, 2), 2, True),
        ("float32", (2, 2), 2, False),  # may be ragged
        ("float32", (1, 3, 2), 3, False),
        ("float32", (1, 1, 2), 3, True),
        ("float32", (1, 3, 2), 2, False),
        ("float16", (1, 2), 1, False),
        ("int64", (1, 2), 1, False),
        ("float32", (0, 2), 1, False),
    ],
)
def test_only_forms_that_cannot_be_ragged_have_a_frame(dtype, shape, depth, there):
    assert (Frame.of(dtype, shape, depth) is not None) is there


def test_frames_of_a_kind_are_one():
    assert Frame.of("float32", (1, 2), 1) is Frame.of("float32", (1, 2), 1)


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        (b"[1,2]", True),
        (b"[ 1 ,\n2 ]", True),
        (b"[1,2,3]", False),
        (b"[1]", False),
        (b"[[1,2]]", False),
        (b"[1,[2]]", False),
        (b"[1],[2]", False),
        (b'["]",2]', False),
        (b"[{},1,2]", False),
        (b"[null,2]", False),
        (b"[1e39,2]", False),
        (b"1,2]", False),
        (b"[1,2", False),
        (b"", False),
        (b"[", False),
        (b"]", False),
    ],
)
def test_a_flat_list_of_so_many_is_read(data, taken):
    found = read(data, frame())
    assert (found is not None) is taken
    assert found is None or found.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("data", "taken"),
    [(b"[[1,2]]", True), (b"[[1,2],3]", False), (b"[1,2]", False), (b"[[1],[2]]", False), (b"[[1,2]", False), (b"[[]]", False)],
)
def test_one_nested_row_is_read(data, taken):
    assert (read(data, frame(depth=2)) is not None) is taken


@pytest.mark.parametrize(
    "parts",
    [
        [b"1", b"1,2,3"],
        [b"1,2,3", b"1"],
        [b"1,[2]"],
        [b"[1],2", b"1,2"],
        [b"1],[2", b"1,2"],
        [b"1,2],[3,4", b""],
        [b"1,2", b"3,4]]"],
        [b'1,"]"', b"3,4"],
        [b"", b"1,2,3,4"],
    ],
)
def test_no_text_lends_another_its_numbers(parts):
    assert read_all(parts, frame()) is None


PIECES = st.sampled_from(
    ["1", "2.5", "-0.0", "3e2", ",", ",", "[", "]", "],[", '"', "null", "true", "{", "}", " ", "1e39", "1e400", ":"]
)


@given(st.lists(st.one_of(st.lists(PIECES, max_size=7).map("".join), st.just("1,2")), min_size=1, max_size=4))
@settings(max_examples=2000, deadline=None)
def test_texts_are_read_together_as_each_alone_or_not_at_all(parts):
    """Whatever stands in one text: no other gets its numbers, and none is read that is not JSON by itself."""
    alone = []
    for part in parts:
        try:
            values = json.loads(f"[{part}]")
        except ValueError:
            alone.append(None)
            continue
        plain = all(type(value) in {int, float} and abs(value) < 3.4e38 for value in values) and len(values) == 2
        alone.append(values if plain else None)
    together = read_all([part.encode() for part in parts], frame())
    if None in alone:
        assert together is None
    else:
        assert together is not None
        np.testing.assert_array_equal(together, np.array(alone, np.float32))


@given(
    st.lists(
        hnp.arrays(np.float32, (2, 2), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=5,
    )
)
def test_every_bit_comes_back(arrays):
    found = read_all([written(array)[1:-1] for array in arrays], frame(rows=2))
    assert found is not None
    np.testing.assert_array_equal(found.view(np.uint32), np.concatenate(arrays).view(np.uint32))
    for array in arrays:
        rows = written_by_row(array)
        assert rows is not None
        assert b"[" + b",".join(rows) + b"]" == written(array)


def test_rows_are_not_written_where_json_has_no_numbers_for_them():
    assert written_by_row(np.array([[1, np.nan]])) is None
    assert written_by_row(np.zeros((0, 2))) is None
    assert written_by_row(np.zeros((2, 0))) is None
    assert written_by_row(np.arange(6).reshape(2, 3)[:, ::2]) == [b"0,2", b"3,5"]
    assert written_by_row(np.array([True, False])) == [b"true", b"false"]


def test_the_full_reader_says_what_is_wrong_and_takes_what_is_right_all_the_same():
    quick = Quick("m", "1", PAIR)
    quick.parse(body("[1,2]"), None)
    np.testing.assert_array_equal(quick.parse(body("[1,null]"), None).inputs["x"], [[1, np.nan]])  # null is NaN there
    with pytest.raises(Refused, match="tensor 'x'"):
        quick.parse(body("[1,true]"), None)
