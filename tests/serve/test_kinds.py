"""Requests that are alike: their numbers are the same read together as each alone, their answers the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.errors import Refused
from shipworthy.serve.kinds import Blobs, Numbers, Written
from shipworthy.serve.oip import Request
from shipworthy.serve.texts import Frame

ASK = Request({}, {}, None, 1)


def nothing(*_: Any) -> None: ...


@st.composite
def blobs(draw: Any) -> tuple[list[tuple[str, Any, tuple[int, ...], int]], list[list[np.ndarray[Any, Any]]]]:
    """A layout, and the tensors of some requests of it."""
    rows, layout = draw(st.integers(1, 3)), []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        dtype, shape = (
            np.dtype(draw(st.sampled_from(["float32", "int64", "uint8", "float16"]))),
            draw(hnp.array_shapes(max_dims=2)),
        )
        layout.append((name, dtype, (rows, *shape), rows * int(np.prod(shape)) * dtype.itemsize))
    requests = [[draw(hnp.arrays(dtype, shape)) for _, dtype, shape, _ in layout] for _ in range(draw(st.integers(1, 4)))]
    return layout, requests


@given(blobs())
def test_bytes_of_several_requests_are_their_tensors_one_after_the_other(
    case: tuple[list[tuple[str, Any, tuple[int, ...], int]], list[list[np.ndarray[Any, Any]]]],
) -> None:
    layout, requests = case
    pieces = [b"".join(array.tobytes() for array in request) for request in requests]
    arrays = Blobs(b"{}", ASK, nothing, layout).arrays(pieces)
    assert list(arrays) == [name for name, *_ in layout]
    for place, (name, dtype, _, _) in enumerate(layout):
        whole = np.concatenate([request[place] for request in requests])
        assert arrays[name].dtype == dtype
        assert arrays[name].shape == whole.shape
        assert arrays[name].flags.aligned
        assert arrays[name].tobytes() == whole.tobytes()


def test_numbers_of_several_requests_are_read_or_all_refused() -> None:
    frame = Frame.of("float32", (1, 2), 1)
    assert frame is not None
    kind = Numbers(b"[", b"]", ASK, nothing, "x", frame)
    np.testing.assert_array_equal(kind.arrays([b"1,2", b" 3, 4 "])["x"], [[1, 2], [3, 4]])
    with pytest.raises(Refused):
        kind.arrays([b"1,2", b"3"])


@given(
    st.binary(max_size=5), st.binary(max_size=5), st.lists(st.lists(st.binary(max_size=5), min_size=2, max_size=2), min_size=1)
)
def test_a_message_is_its_body_behind_its_length(start: bytes, between: bytes, rows: list[list[bytes]]) -> None:
    quoted = between.replace(b"%", b"%%")
    for columns, text in (
        ([[row[0] for row in rows]], quoted + b"%b"),
        ([*map(list, zip(*rows, strict=True))], b"%b" + quoted + b"%b"),
    ):
        written = Written(text, columns, None)
        expected = [between + row[0] if len(columns) == 1 else row[0] + between + row[1] for row in rows]
        assert written.bodies() == expected
        assert written.messages(start) == [start + b"%d\r\n\r\n" % len(body) + body for body in expected]
