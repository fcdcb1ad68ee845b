"""What a runner demands of its inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.backends.inputs import Inputs
from shipworthy.errors import Refused
from shipworthy.records import Signature, TensorSpec

PAIR = Signature(
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=(None, 4)),
        TensorSpec(name="t", dtype="str", shape=(2, None, 3)),
        TensorSpec(name="n", dtype="int64", shape=()),
    ),
    outputs=(),
)
RIGHT = {"x": np.zeros((7, 4), "float32"), "t": np.full((2, 5, 3), "a", object), "n": np.array(1)}
WRONG = {
    "missing": {"x": None},
    "empty": {"x": None, "t": None, "n": None},
    "unknown": {"z": np.zeros(1)},
    "unknown for missing": {"x": None, "z": np.zeros((7, 4), "float32")},
    "dtype": {"x": np.zeros((7, 4))},
    "byte order": {"x": np.zeros((7, 4), ">f4")},
    "a number for a text": {"t": np.zeros((2, 5, 3))},
    "a text for a number": {"x": np.full((7, 4), "a")},
    "length": {"x": np.zeros((7, 5), "float32")},
    "first length": {"t": np.full((3, 5, 3), "a")},
    "last length": {"t": np.full((2, 5, 4), "a")},
    "fewer axes": {"x": np.zeros(4, "float32")},
    "more axes": {"n": np.array([1])},
}


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("texts", [object, "U3"])
def test_what_fits_passes(rows, texts):
    Inputs(PAIR).check(RIGHT | {"x": np.zeros((rows, 4), "float32"), "t": np.full((2, 5, 3), "a", texts)})


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(change):
    inputs = {name: array for name, array in (RIGHT | change).items() if array is not None}
    with pytest.raises(Refused) as caught:
        Inputs(PAIR).check(inputs)
    names = "not those of the model" in caught.value.what
    assert names == (set(inputs) != set(RIGHT))
    if names:
        assert caught.value.found == (", ".join(sorted(inputs)) or "none")
        assert caught.value.expected == "x: float32 [?, 4], t: str [2, ?, 3], n: int64 []"
    else:
        (name,) = change
        assert caught.value.what == f"input '{name}' does not fit the model"
        assert caught.value.found == f"{inputs[name].dtype} {list(inputs[name].shape)}"


SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@given(st.lists(st.one_of(st.none(), st.integers(1, 3)), max_size=3).map(tuple), SHAPES)
def test_a_shape_fits_where_every_axis_does(wanted, shape):
    check = Inputs(Signature(inputs=(TensorSpec(name="x", dtype="int8", shape=wanted),), outputs=())).check
    fits = len(wanted) == len(shape) and all(n in (None, m) for n, m in zip(wanted, shape, strict=True))
    if fits:
        check({"x": np.zeros(shape, "int8")})
    else:
        with pytest.raises(Refused):
            check({"x": np.zeros(shape, "int8")})
