"""Rows: what fits a signature is read, what does not is refused with the array and the row."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy import data
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Signature, TensorSpec


def signature(**specs: tuple[str, tuple[int | None, ...]]) -> Signature:
    """``X=("float32", (None, 3))``: a signature of these inputs."""
    inputs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in specs.items())
    return Signature(inputs=inputs, outputs=())


ONE = signature(X=("float32", (None, 3)))


@pytest.fixture
def save(tmp_path):
    def save(**arrays: np.ndarray) -> Path:
        np.savez(tmp_path / "rows.npz", **arrays)
        return tmp_path / "rows.npz"

    return save


def refusal(path: Path, *args: object) -> str:
    with pytest.raises(Refused) as caught:
        data.read(path, *args)
    return str(caught.value)


def test_rows_that_fit(save):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = save(X=rows, y=np.array([1, 0]))
    read = data.read(path, ONE, labels="y")
    assert (read.origin, read.digest, read.rows) == (str(path), file_digest(path), 2)
    np.testing.assert_array_equal(read.inputs["X"], rows)
    np.testing.assert_array_equal(read.labels, [1, 0])
    np.testing.assert_array_equal(read.take(1, 2)["X"], rows[1:])
    assert data.read(path, ONE).labels is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"),
        ("int64", "float32"),
        ("int64", "int32"),
        ("bool", "float32"),
        ("uint8", "int64"),
        (">f4", "float32"),
    ],
)
def test_safe_casts_are_made(save, given, wanted):
    read = data.read(save(X=np.ones((2, 3), given)), signature(X=(wanted, (None, 3))))
    assert read.inputs["X"].dtype == np.dtype(wanted)
    assert read.inputs["X"].flags.c_contiguous
    np.testing.assert_array_equal(read.inputs["X"], np.ones((2, 3)))


def test_texts(save):
    texts = signature(X=("str", (None,)))
    read = data.read(save(X=np.array(["a", "é"])), texts)
    assert (read.inputs["X"].dtype, list(read.inputs["X"])) == (np.dtype(object), ["a", "é"])
    assert "wrong dtype" in refusal(save(X=np.array([1])), texts)
    assert "wrong dtype" in refusal(save(X=np.array([b"a"])), texts)


def test_another_name_and_a_free_dimension(save):
    two = signature(a=("float32", (None, None)), b=("int64", (None,)))
    path = save(left=np.ones((2, 7)), b=np.array([1, 2]))
    read = data.read(path, two, {"a": "left"})
    assert read.inputs["a"].shape == (2, 7)


FITTING = np.zeros((4, 3), np.float32)
NAN = FITTING.copy()
NAN[2, 1] = np.nan
TWICE = NAN.copy()
TWICE[3, 0] = np.inf

BAD = {
    "wrong name": ({"Z": FITTING}, ["no array for the input 'X'", "'Z' float32 [4, 3]", "an array 'X'", '{ X = "THE ARRAY" }']),
    "wrong width": (
        {"X": np.zeros((4, 5), np.float32)},
        ["array 'X' has the wrong shape", "float32 [4, 5]", "[?, 3]", "do next:  write the rows as the training has them"],
    ),
    "too flat": ({"X": np.zeros(3, np.float32)}, ["wrong shape", "float32 [3]"]),
    "too deep": ({"X": np.zeros((4, 3, 1), np.float32)}, ["wrong shape", "float32 [4, 3, 1]"]),
    "no axis": ({"X": np.float32(1)}, ["wrong shape", "float32 []"]),
    "no rows": ({"X": np.zeros((0, 3), np.float32)}, ["array 'X' has no rows", "at least one row"]),
    "complex": ({"X": np.zeros((4, 3), complex)}, ["wrong dtype", "complex128 [4, 3]"]),
    "texts": ({"X": np.full((4, 3), "a")}, ["wrong dtype", "<U1 [4, 3]"]),
    "dates": ({"X": np.zeros((4, 3), "M8[s]")}, ["wrong dtype", "datetime64[s] [4, 3]"]),
    "nan": ({"X": NAN}, ["array 'X' holds NaN or infinity", "1 such value, the first in row 2"]),
    "nan and infinity": ({"X": TWICE}, ["2 such values, the first in row 2"]),
    "beyond float32": (
        {"X": np.full((4, 3), 1e300)},
        ["NaN or infinity", "12 such values, the first in row 0", "float32 can hold"],
    ),
    "objects": ({"X": np.array([{}], dtype=object)}, ["is not a readable .npz file", "Object arrays cannot be loaded"]),
    "no labels": ({"X": FITTING}, ["no array 'y' for the labels", "arrays 'X'", "[data] labels"]),
    "labels too short": ({"X": FITTING, "y": np.zeros(3)}, ["labels and rows differ in number", "'y' 3, 'X' 4"]),
    "labels in sheets": ({"X": FITTING, "y": np.zeros((4, 2, 2))}, ["the labels 'y' have the wrong shape", "[4, 2, 2]"]),
    "labels without axis": ({"X": FITTING, "y": np.float32(1)}, ["the labels 'y' have the wrong shape", "[]"]),
    "labels of nan": ({"X": FITTING, "y": np.array([0, 1, np.nan, 1])}, ["the labels 'y' hold NaN"]),
}


@pytest.mark.parametrize(("arrays", "said"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_named(save, arrays, said):
    path = save(**arrays)
    text = refusal(path, ONE, None, "y")
    assert str(path) in text
    for part in said:
        assert part in text


@pytest.mark.parametrize(
    ("array", "dtype", "said"),
    [
        (np.zeros((4, 3), np.float32), "int64", "wrong dtype"),
        (np.full((4, 3), 2**40), "int32", "holds numbers beyond int32"),
        (np.full((4, 3), 2**63, np.uint64), "int64", "holds numbers beyond int64"),
        (np.full((4, 3), -1), "uint8", "wrong dtype"),
    ],
    ids=["float into int", "int64 into int32", "uint64 into int64", "int into uint"],
)
def test_numbers_are_never_bent(save, array, dtype, said):
    assert said in refusal(save(X=array), signature(X=(dtype, (None, 3))))


def test_inputs_of_different_length(save):
    two = signature(a=("float32", (None,)), b=("float32", (None,)))
    assert "'a' 2, 'b' 3" in refusal(save(a=np.zeros(2), b=np.zeros(3)), two)


def test_an_input_without_an_axis_of_rows(save):
    assert "no axis of rows" in refusal(save(X=np.float32(1)), signature(X=("float32", ())))


def npy(header: str) -> bytes:
    """An .npy file of nothing but a header."""
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def archive(content: bytes, flag: int = 0, method: int = 0) -> bytes:
    """A zip that holds ``content`` as X.npy, with these bits set in its two headers."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("X.npy", content)
    raw = bytearray(stream.getvalue())
    central = raw.find(b"PK\x01\x02")
    for at, value in ((6, flag), (8, method), (central + 8, flag), (central + 10, method)):
        raw[at] = value
    return bytes(raw)


def squeezed(rows: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, X=rows)
    return stream.getvalue()


NOISE = squeezed(np.random.default_rng(0).random((300, 3)))
BROKEN = {
    "empty": b"",
    "text": b"a,b\n1,2\n",
    "cut short": NOISE[: len(NOISE) // 2],
    "a byte changed": NOISE[:300] + bytes([NOISE[300] ^ 255]) + NOISE[301:],
    "a pickle": b"\x80\x04}.",
    "an empty member": archive(b""),
    "not an array": archive(b"hello"),
    "encrypted": archive(b"hello", flag=1),
    "unknown compression": archive(b"hello", method=99),
    "a header that ends early": archive(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, ")),
    "a header that lies": archive(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }")),
    "a negative shape": archive(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }")),
    "a strange dtype": archive(npy("{'descr': [1], 'fortran_order': False, 'shape': (1, 3), }")),
}


def test_a_file_of_another_kind_is_no_reason_to_load_it_unsafely(tmp_path):
    path = tmp_path / "rows.npz"
    path.write_bytes(b"x,y\n1,2\n")
    assert "its first bytes are of another kind of file" in refusal(path, ONE)
    assert "unsafe" not in refusal(path, ONE)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "rows.npz"
    path.write_bytes(content)
    text = refusal(path, ONE)
    assert "is not a readable .npz file" in text or "holds more than arrays" in text
    assert "numpy.savez" in text


def test_places_without_rows(tmp_path):
    assert f"there is no file {tmp_path / 'none.npz'}" in refusal(tmp_path / "none.npz", ONE)
    assert "cannot be read" in refusal(tmp_path, ONE)
    np.save(tmp_path / "one.npy", FITTING)
    assert "is a single array" in refusal(tmp_path / "one.npy", ONE)


@given(at=st.integers(0, len(NOISE) - 1), value=st.integers(0, 255), cut=st.integers(0, 50))
def test_whatever_is_in_the_file_is_read_or_refused(tmp_path_factory, at, value, cut):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(NOISE[:at] + bytes([value]) + NOISE[at + 1 : len(NOISE) - cut])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy may doubt a header
        try:
            read = data.read(path, ONE)
        except Refused:
            return
    assert read.inputs["X"].shape[1:] == (3,)


def test_rows_made_up_fit_and_are_always_the_same():
    every = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "str")
    wanted = signature(**{f"x{name}": (name, (None, 2, None)) for name in every})
    one, two = data.made_up(wanted, 5), data.made_up(wanted, 5)
    assert (one.rows, one.digest, one.labels) == (5, "", None)
    for spec in wanted.inputs:
        array = one.inputs[spec.name]
        assert array.shape == (5, 2, 1)
        assert array.dtype == (object if spec.dtype == "str" else np.dtype(spec.dtype))
        np.testing.assert_array_equal(array, two.inputs[spec.name])


def test_made_up_rows_have_exactly_the_shapes_of_the_signature():
    shapes = {"a": (), "b": (3,), "c": (None, 2), "d": (4, None, 2), "e": (None,)}
    for dtype in ("float32", "str", "bool"):
        specs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, shape in shapes.items())
        made = data.made_up(Signature(inputs=specs, outputs=()), 5).inputs
        assert {name: array.shape for name, array in made.items()} == {
            "a": (),
            "b": (3,),
            "c": (5, 2),
            "d": (4, 1, 2),
            "e": (5,),
        }
        assert all(array.dtype == (object if dtype == "str" else dtype) for array in made.values())
