"""Small tensors that wait as bytes, and answers that are cut as bytes: the same numbers as with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.serve.parts import Raw, bytes_by_row, joined
from shipworthy.serve.runs import Batch, Share
from shipworthy.serve.texts import SMALL_BYTES

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int64")


@st.composite
def rows(draw: Any) -> list[np.ndarray[Any, Any]]:
    """Arrays of one dtype and one shape but for their rows."""
    dtype, inner = draw(st.sampled_from(DTYPES)), draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    return [draw(hnp.arrays(dtype, (count, *inner))) for count in counts]


def raw(array: np.ndarray[Any, Any]) -> Raw:
    return Raw(array.tobytes(), array.dtype, array.shape)


@given(rows(), st.data())
def test_bytes_and_arrays_are_joined_as_arrays_are(arrays: list[np.ndarray[Any, Any]], data: st.DataObject) -> None:
    parts = [raw(array) if data.draw(st.booleans()) else array for array in arrays]
    together, whole = joined(parts), np.concatenate(arrays)
    assert together.dtype == whole.dtype
    assert together.shape == whole.shape
    assert together.tobytes() == whole.tobytes()


def test_bytes_are_taken_for_the_array_that_they_are() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    waiting = raw(array)
    assert waiting.nbytes == array.nbytes
    assert np.asarray(waiting).flags.aligned
    np.testing.assert_array_equal(np.asarray(waiting), array)


@given(rows())
def test_a_share_gives_the_bytes_of_its_rows(arrays: list[np.ndarray[Any, Any]]) -> None:
    batch = Batch({"y": np.concatenate(arrays)})
    at = 0
    for array in arrays:
        mine = Share(batch, at, at + len(array))
        assert mine.raws("y", 1) == [array.tobytes()]
        assert mine.raws("y", len(array)) == [row.tobytes() for row in array]
        assert b"".join(mine.part(i, 1).raws("y", 1)[0] for i in range(len(array))) == array.tobytes()
        at += len(array)
    assert Share(batch).raws("y", 1) == [batch.outputs["y"].tobytes()]
    assert Share(batch).raws("y", at) == [row.tobytes() for row in batch.outputs["y"]]


def test_rows_that_do_not_lie_one_after_the_other_in_memory_are_cut_all_the_same() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert bytes_by_row(turned) == [row.tobytes() for row in turned]


def test_large_rows_and_none_are_not_cut_beforehand() -> None:
    large = np.zeros((2, SMALL_BYTES + 1), np.uint8)
    for array in (large, np.zeros((0, 3), np.float32), np.zeros((2, 0), np.float32)):
        assert bytes_by_row(array) is None
        assert Share(Batch({"y": array}), 0, 1).raws("y", 1) == [array[:1].tobytes()]
    assert Share(Batch({"y": large})).raws("y", 2) == [row.tobytes() for row in large]
