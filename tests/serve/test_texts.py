"""Numbers in JSON: read in one pass with those of other requests, and never taken for theirs."""

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
from shipworthy.serve import texts
from shipworthy.serve.batcher import Batcher, Job, Plan
from shipworthy.serve.parts import joined
from shipworthy.serve.quick import Quick
from shipworthy.serve.runs import Runs
from shipworthy.serve.statistics import FAILED, REFUSED, Statistics
from shipworthy.serve.texts import Frame, Text, read, written, written_by_row

PAIR = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 2)),),
)


class Doubler:
    """y = 2 x; keeps the rows of each run."""

    signature = PAIR

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, inputs: Any) -> dict[str, Any]:
        self.runs.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}

    def close(self) -> None: ...


def refuse(_body: bytes) -> Any:
    raise Refused("the full reader does not take it")


def text(data: bytes, rows: int = 1, depth: int = 1) -> Text:
    frame = Frame.of("float32", (rows, 2), depth)
    assert frame is not None
    return Text(frame, data, data, refuse)


def body(data: str) -> bytes:
    return f'{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{data}}}]}}'.encode()


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
    ("data", "holds"),
    [
        (b"[1,2]", True),
        (b"[ 1 ,\n2 ]", True),
        (b"[1,2,3]", False),
        (b"[1]", False),
        (b"[[1,2]]", False),
        (b"[1,[2]]", False),
        (b"[1],[2]", False),
        (b"1,2]", False),
        (b"[1,2", False),
        (b"", False),
        (b"[", False),
        (b"]", False),
    ],
)
def test_a_frame_holds_a_flat_list_of_so_many(data, holds):
    frame = Frame.of("float32", (1, 2), 1)
    assert frame is not None
    assert frame.holds(data) is holds


@pytest.mark.parametrize(
    ("data", "holds"),
    [(b"[[1,2]]", True), (b"[[1,2],3]", False), (b"[1,2]", False), (b"[[1],[2]]", False), (b"[[1,2]", False), (b"[[]]", False)],
)
def test_a_frame_holds_one_nested_row(data, holds):
    frame = Frame.of("float32", (1, 2), 2)
    assert frame is not None
    assert frame.holds(data) is holds


PIECES = st.sampled_from(
    ["1", "2.5", "-0.0", "3e2", ",", ",", "[", "]", '"', "null", "true", "{", "}", " ", "1e39", "1e400", ":"]
)


@given(st.lists(st.lists(PIECES, max_size=7).map("".join), min_size=1, max_size=4))
@settings(max_examples=1500, deadline=None)
def test_texts_that_a_frame_holds_are_read_together_as_each_alone(parts):
    """Whatever stands in one text: no other gets its numbers, and none is read that is not JSON by itself."""
    frame = Frame.of("float32", (1, 2), 1)
    assert frame is not None
    held = [part.encode() for part in ["[1,2]", *parts, *(f"[{part}]" for part in parts)] if frame.holds(part.encode())]
    alone = []
    for part in held:
        try:
            values = json.loads(part)
        except ValueError:
            alone.append(None)
            continue
        plain = all(type(value) in {int, float} and abs(value) < 3.4e38 for value in values) and len(values) == 2
        alone.append(values if plain else None)
    together = read(held, frame)
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
    frame = Frame.of("float32", (2, 2), 1)
    assert frame is not None
    found = read([written(array) for array in arrays], frame)
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


def test_texts_and_arrays_share_a_batch():
    parts = [text(b"[1,2]"), np.float32([[3, 4]]), text(b"[[5,6]]", depth=2), text(b"[7,8,9,10]", rows=2)]
    np.testing.assert_array_equal(joined(parts), np.arange(1, 11, dtype=np.float32).reshape(5, 2))


def test_who_cannot_be_read_takes_no_other_with_it_and_costs_no_second_run():
    runner = Doubler()
    runs = Runs(runner, 64, splits=True)
    batch = [
        Job({"x": one}, 1, lambda *_: None) for one in (text(b"[1,2]"), text(b"[1,null]"), text(b"[3,1e39]"), text(b"[3,4]"))
    ]
    first, *bad, last = runs.run(batch)
    assert [type(one) for one in bad] == [Refused, Refused]
    assert not isinstance(first, ShipworthyError)
    assert not isinstance(last, ShipworthyError)
    assert (first["y"].tolist(), last["y"].tolist()) == ([[2, 4]], [[6, 8]])
    assert runner.runs == [2], "the two that can be read are run together"


def test_the_full_reader_says_what_is_wrong_and_takes_what_is_right_all_the_same():
    quick = Quick("m", "1", PAIR)
    quick.parse(body("[1,2]"), None)
    late = quick.parse(body("[1,null]"), None).inputs["x"]
    assert type(late) is Text
    np.testing.assert_array_equal(np.asarray(late), [[1, np.nan]])  # null is NaN, by the full reader
    with pytest.raises(Refused, match="tensor 'x'"):
        np.asarray(quick.parse(body("[1,true]"), None).inputs["x"])


def test_large_texts_and_requests_of_several_shapes_do_not_wait():
    rows = texts.SMALL_BYTES
    quick = Quick("m", "1", PAIR)
    large = f'{{"inputs":[{{"name":"x","shape":[{rows},2],"datatype":"FP32","data":{[0.5] * 2 * rows}}}]}}'.encode()
    quick.parse(large, None)
    assert type(quick.parse(large, None).inputs["x"]) is np.ndarray
    free = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(None, None)),), outputs=PAIR.outputs)
    quick = Quick("m", "1", free)
    quick.parse(body("[1,2]"), None)
    assert type(quick.parse(body("[3,4]"), None).inputs["x"]) is np.ndarray


def test_what_is_refused_when_it_is_run_counts_as_refused():
    counts = Statistics()
    batcher = Batcher(Doubler(), Plan(), counts)
    told: list[Any] = []
    batch = [Job({"x": one}, 1, lambda *answer: told.append(answer)) for one in (text(b"[1,2]"), text(b"[1,null]"))]
    for job in batch:
        job.arrived_ns = job.began_ns
        counts.in_flight += 1
    batcher._finish(batch, batcher._runs.run(batch), 0, 1)
    assert [type(error) for _, error in told] == [type(None), Refused]
    assert (counts.count(REFUSED), counts.count(FAILED), counts.successes, counts.in_flight) == (1, 0, 1, 0)
