from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Refused
from shipworthy.serve import tensors

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def arrays(dtype: str, *, finite: bool) -> st.SearchStrategy[np.ndarray]:
    if dtype == "str":
        return SHAPES.flatmap(lambda shape: hnp.arrays(object, shape, elements=TEXT))
    elements = {"allow_nan": False, "allow_infinity": False} if finite and dtype.startswith("float") else None
    return hnp.arrays(dtype, SHAPES, elements=elements)


ANY_DTYPE = st.sampled_from(sorted(tensors.DATATYPES))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype.kind == "O":
        return right.dtype.kind == "O" and left.shape == right.shape and left.tolist() == right.tolist()
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@given(ANY_DTYPE.flatmap(lambda dtype: arrays(dtype, finite=False)))
def test_bytes_round_trip_to_the_same_bits(array: np.ndarray) -> None:
    blob = tensors.to_blob("t", array)
    assert same(tensors.from_blob("t", tensors.datatype_of(array), array.shape, memoryview(blob)), array)


@given(ANY_DTYPE.filter(lambda dtype: dtype != "float16").flatmap(lambda dtype: arrays(dtype, finite=True)))
def test_json_round_trips_to_the_same_bits(array: np.ndarray) -> None:
    text = memoryview(tensors.to_json("t", array))
    assert same(tensors.from_json("t", tensors.datatype_of(array), array.shape, text), array)


@given(st.binary(max_size=40), st.sampled_from(sorted(tensors.DTYPES)), SHAPES)
@settings(max_examples=300)
def test_any_bytes_give_an_array_of_the_shape_or_are_refused(blob: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    try:
        array = tensors.from_blob("t", datatype, shape, memoryview(blob))
    except Refused as refused:
        assert "'t'" in refused.what  # noqa: PT017  # most are refused, some are not: both are right
    else:
        assert array.shape == shape
        assert tensors.to_blob("t", array) == blob


def test_a_view_that_is_not_aligned_is_copied_and_one_that_is_stays_a_view() -> None:
    buffer = memoryview(np.arange(9, dtype=np.uint8).tobytes() + bytes(8))
    odd = tensors.from_blob("t", "FP64", (1,), buffer[1:9])
    even = tensors.from_blob("t", "UINT8", (8,), buffer[1:9])
    assert odd.flags.aligned
    assert odd.base is None or odd.base.obj is not buffer.obj
    assert even.ctypes.data == np.frombuffer(buffer, np.uint8).ctypes.data + 1


@pytest.mark.parametrize(
    ("data", "shape", "wanted"),
    [
        (b"[1, 2, 3, 4]", (2, 2), [[1, 2], [3, 4]]),
        (b"[[1, 2], [3, 4]]", (2, 2), [[1, 2], [3, 4]]),
        (b" [ [1,2],\n[3,4] ]", (2, 2), [[1, 2], [3, 4]]),
        (b"[7]", (), 7),
        (b"[]", (0, 3), np.zeros((0, 3))),
        (b"[[], []]", (2, 0), np.zeros((2, 0))),
        (b"[null, 1]", (2,), [np.nan, 1]),
    ],
)
def test_json_may_be_flat_or_nested(data: bytes, shape: tuple[int, ...], wanted: object) -> None:
    array = tensors.from_json("t", "FP32", shape, memoryview(data))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.asarray(wanted, np.float32))


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (2, 2), b"[1, 2, 3]"),
        ("FP32", (2, 2), b"[[1, 2], [3]]"),
        ("FP32", (2, 3), b"[[1, 2], [3, 4], [5, 6]]"),
        ("FP32", (2, 2, 1), b"[[1, 2], [3, 4]]"),
        ("FP32", (2,), b"[[1, 2]]"),
        ("FP32", (1,), b"1"),
        ("FP32", (1,), b'["1"]'),
        ("FP32", (1,), b"[true]"),
        ("FP32", (1,), b"[1e39]"),
        ("FP64", (1,), b"[1e999]"),
        ("FP16", (1,), b"[1]"),
        ("INT8", (1,), b"[128]"),
        ("UINT64", (1,), b"[-1]"),
        ("UINT64", (1,), b"[18446744073709551616]"),
        ("INT64", (1,), b"[" + b"9" * 5000 + b"]"),
        ("INT32", (1,), b"[1.5]"),
        ("INT32", (1,), b"[null]"),
        ("BOOL", (1,), b"[1]"),
        ("BYTES", (1,), b"[1]"),
        ("BYTES", (2, 1), b'[["a", "b"], ["c"]]'),
        ("BYTES", (2,), b'[["a"], ["b"]]'),
        ("BYTES", (1,), b'["\\ud800"]'),
        ("BYTES", (1,), b'["\xff"]'),
        ("FP32", (0, 2**63), b"[]"),
        ("FP32", (2**40, 2**40), b"[]"),
        ("FP32", (1,), b"["),
        ("FP32", (1,) * 5000, b"[" * 5000 + b"1" + b"]" * 5000),
        ("FP32", (1,), b""),
    ],
)
def test_json_that_is_refused_by_name(datatype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(Refused, match="tensor 't'"):
        tensors.from_json("t", datatype, shape, memoryview(data))


def test_json_deeper_than_the_shape_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="does not fit the shape") as refused:
        tensors.from_json("t", "FP32", (1, 1), memoryview(b"[" * 500))
    assert refused.value.found == "data nested 500 deep"


@pytest.mark.parametrize(
    ("datatype", "shape", "blob"),
    [
        ("FP32", (2,), bytes(7)),
        ("FP32", (2,), bytes(9)),
        ("FP32", (2**62, 2**62), bytes(8)),
        ("FP32", (0, 2**63), b""),
        ("BOOL", (2,), b"\x00\x02"),
        ("BYTES", (1,), b"\x02\x00\x00\x00a"),
        ("BYTES", (1,), b"\x01\x00\x00"),
        ("BYTES", (1,), b"\x01\x00\x00\x00\xff"),
        ("BYTES", (2,), b"\x01\x00\x00\x00a"),
        ("BYTES", (1,), b"\x01\x00\x00\x00a\x00"),
        ("BYTES", (1,), b"\x01\x00\x00\x00a" * 2),
        ("BYTES", (2**62,), b""),
    ],
)
def test_bytes_that_are_refused_by_name(datatype: str, shape: tuple[int, ...], blob: bytes) -> None:
    with pytest.raises(Refused, match="tensor 't'"):
        tensors.from_blob("t", datatype, shape, memoryview(blob))


def test_texts_of_another_number_are_refused_with_both_numbers() -> None:
    with pytest.raises(Refused) as refused:
        tensors.from_blob("t", "BYTES", (3,), memoryview(bytes(8)))
    assert refused.value.found == "2 elements"
    assert refused.value.expected.startswith("3 elements")


def test_bytes_are_little_endian_row_major_without_padding() -> None:
    array = np.array([[1, 2], [3, 4]], ">u2").T
    assert tensors.to_blob("t", array) == bytes([1, 0, 3, 0, 2, 0, 4, 0])
    assert tensors.to_blob("t", np.array(["é", ""], object)) == b"\x02\x00\x00\x00\xc3\xa9" + bytes(4)


def test_what_has_no_form_is_refused() -> None:
    for array in (np.ones(1, np.float16), np.array([np.nan]), np.array([-np.inf], np.float32), np.array(["\ud800"], object)):
        with pytest.raises(Refused, match="tensor 't'"):
            tensors.to_json("t", array)
    with pytest.raises(Refused, match="tensor 't'"):
        tensors.to_blob("t", np.array(["\ud800"], object))
    with pytest.raises(Refused, match="no such datatype"):
        tensors.datatype_of(np.ones(1, complex))


@pytest.mark.parametrize(
    ("values", "dtype", "shape", "expected"),
    [
        ([1.0, 2.5], "float32", (2,), [1.0, 2.5]),
        ([1.0, 2.0, 3.0, 4.0], "float64", (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        ([[1, 2], [3, 4]], "uint8", (2, 2), [[1, 2], [3, 4]]),
        ([[[True], [False]]], "bool", (1, 2, 1), [[[True], [False]]]),
        ([0.1], "float32", (1,), [float(np.float32(0.1))]),
        ([3.4028235e38], "float32", (1,), [float(np.float32(3.4028235e38))]),
        ([3.4028236e38], "float32", (1,), None),
        ([1e39], "float32", (1,), None),
        ([256], "uint8", (1,), None),
        ([-1], "uint64", (1,), None),
        ([2**64 - 1], "uint64", (1,), [2**64 - 1]),
        ([2**63], "int64", (1,), None),
        ([1.0], "float32", (2,), None),
        ([1.0, 2.0], "float32", (1,), None),
        ([[1.0], [2.0, 3.0, 4.0]], "float32", (2, 2), None),
        ([[1.0, 2.0], [3.0, 4.0]], "float32", (4, 1), None),
        ([[1.0, 2.0]], "float32", (2,), None),
        ([], "float32", (0,), None),
        ([[]], "float32", (1, 0), None),
    ],
)
def test_numbers_in_lists(values: Any, dtype: str, shape: tuple[int, ...], expected: Any) -> None:
    array = tensors.from_lists(values, dtype, shape)
    assert (None if array is None else array.tolist()) == expected
    if array is not None:
        assert (array.dtype, array.shape) == (np.dtype(dtype), shape)
