"""The compiled reader of short numbers: it takes what it may, to the last bit, and nothing else, whatever it is given."""

from __future__ import annotations

import json
import math
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shipworthy.serve.texts import _numbers

HAS_COMPILER = bool(shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists())


def test_it_is_there_where_there_is_a_compiler() -> None:
    assert _numbers is not None or not HAS_COMPILER, "install the package again: it was installed before there was one"


pytestmark = pytest.mark.skipif(_numbers is None and not HAS_COMPILER, reason="the package was installed without a compiler")


def read(texts: list[bytes], count: int, dtype: type = np.float32) -> np.ndarray[Any, Any] | None:
    assert _numbers is not None
    found = _numbers.read_short(texts, count, np.dtype(dtype).itemsize)
    return None if found is None else np.frombuffer(found, dtype)


def same(found: np.ndarray[Any, Any] | None, values: list[float], dtype: type) -> bool:
    return found is not None and found.tobytes() == np.array(values, np.float64).astype(dtype).tobytes()


@given(
    st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=8),
    st.integers(-22, 22),
    st.sampled_from([np.float32, np.float64]),
)
def test_digits_and_a_power_of_ten_are_read_to_the_last_bit(digits: list[int], power: int, dtype: type) -> None:
    texts = [f"{number}e{power}" for number in digits]
    assert same(read([",".join(texts).encode()], len(digits), dtype), [float(text) for text in texts], dtype)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
@example([3.4028234663852886e38])
@example([-0.0])
@example([1e-45])
def test_numbers_as_numpy_prints_them_are_read_to_the_last_bit_or_left(values: list[float]) -> None:
    """Those of a float32 have nine digits at most: only what lies beyond the powers of ten is left."""
    for value in values:
        text = str(np.float32(value))
        found = read([text.encode()], 1)
        assert found is None or same(found, [float(text)], np.float32)
        if value == 0 or 1e-12 < abs(value) < 1e22:
            assert found is not None


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(9007199254740993.0)
@example(1.7976931348623157e308)
@example(5e-324)
def test_doubles_are_read_to_the_last_bit_or_left(value: float) -> None:
    found = read([json.dumps(value).encode()], 1, np.float64)
    assert found is None or same(found, [value], np.float64)


WORDS = ["\n", "\t", "\r", "\0", "00", "1e", "e5", "1e400", "null", "NaN", "é"]
PIECES = st.sampled_from([*'0123456789.-+eE, []"x', *WORDS])


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), min_size=1, max_size=3), st.integers(1, 4))
@settings(max_examples=3000)
@example(["1e39"], 1)
@example(["1,2", "3"], 2)
@example(["1", "2,3,4"], 2)
@example([""], 1)
@example(["1,"], 1)
@example(["01"], 1)
@example(["-"], 1)
@example(["1.e2"], 1)
@example(["9" * 400], 1)
@example(["1e" + "0" * 400 + "1"], 1)
@example(["0." + "0" * 400 + "1"], 1)
def test_nothing_is_taken_that_json_does_not_take(texts: list[str], count: int) -> None:
    found = read([text.encode() for text in texts], count)
    if found is None:
        return
    values = [json.loads(f"[{text}]") for text in texts]
    assert all(len(row) == count for row in values)
    assert same(found, [float(value) for row in values for value in row], np.float32)
    assert all(math.isfinite(value) for value in found)


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 50), st.sampled_from([4, 8]))
def test_any_bytes_are_read_or_left(texts: list[bytes], count: int, size: int) -> None:
    assert _numbers is not None
    found = _numbers.read_short(texts, count, size)
    assert found is None or len(found) == len(texts) * count * size


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([b"1"], 1), TypeError),
        (((b"1",), 1, 4), TypeError),
        (([1], 1, 4), TypeError),
        (([b"1"], "1", 4), TypeError),
        (([b"1"], 0, 4), ValueError),
        (([b"1"], -1, 4), ValueError),
        (([b"1"], 1, 2), ValueError),
        (([b"1"], 2**62, 4), ValueError),
        (([b"1"], 2**80, 4), OverflowError),
    ],
)
def test_a_wrong_call_is_an_error(arguments: Any, error: type[Exception]) -> None:
    assert _numbers is not None
    with pytest.raises(error):
        _numbers.read_short(*arguments)


def test_none_are_none() -> None:
    assert _numbers is not None
    assert _numbers.read_short([], 3, 4) == b""
