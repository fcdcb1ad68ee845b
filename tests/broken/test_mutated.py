"""The readers, over valid files with changed bytes: always findings or silence, never an exception."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shipworthy.check import apart, format_onnx, security
from shipworthy.check import format as format_area
from shipworthy.check.subject import Origin

from . import make

SEED = 20261128
FAST, SLOW, CONTAINED = 300, 10_000, 12


def estimator():
    rows = np.random.default_rng(0).normal(size=(30, 3))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, np.arange(30) % 2)


def dumped(**options) -> bytes:
    buffer = io.BytesIO()
    joblib.dump({"model": estimator(), "objects": np.array(["a", None], dtype=object)}, buffer, **options)
    return buffer.getvalue()


def branched() -> bytes:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "branch", [], [make.info("z")])
    nodes = [
        helper.make_node("If", ["c"], ["h"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    proto = make.model(nodes, [make.info("x"), make.info("c", (), onnx.TensorProto.BOOL)])
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(4), "unused"))
    proto.graph.initializer[1].data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "16", "length": "32"}.items():
        proto.graph.initializer[1].external_data.add(key=key, value=value)
    return proto.SerializeToString()


def zipped(members: dict[str, bytes]) -> bytes:
    path = io.BytesIO()
    make.archive(path, members)
    return path.getvalue()


HEADER = json.dumps({"w": make.ENTRY, "__metadata__": {"a": "b"}}).encode()
VALID = {
    "plain.onnx": make.VALID,
    "branched.onnx": branched(),
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(16),
    "model.keras": zipped(make.KERAS),
    "model.pt2": zipped(make.TORCH | {"m/data.pkl": pickle.dumps({"w": estimator()}, 2)}),
    "model.pkl": pickle.dumps(estimator()),
    "old.pkl": pickle.dumps(estimator(), 0),
    "model.joblib": dumped(),
    "packed.joblib": dumped(compress=("zlib", 3)),
}


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to five edits: a bit, some bytes, a cut, a piece taken out, put in or doubled, a number made extreme."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at, length = chance.randrange(len(made) or 1), chance.choice((1, 1, 2, 4, 8, 40))
        edit = chance.randrange(7)
        if edit == 0 and made:
            made[at] ^= 1 << chance.randrange(8)
        elif edit == 1:
            made[at : at + length] = chance.randbytes(length)
        elif edit == 2:
            del made[chance.randrange(len(made) or 1) :]
        elif edit == 3:
            del made[at : at + length]
        elif edit == 4:
            made[at:at] = chance.randbytes(length)
        elif edit == 5:
            made[at:at] = made[at : at + length]
        else:
            made[at : at + length] = chance.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * length
    return bytes(made)


def cases(count: int):
    """Number, name and content of so many mutated files; each is made of the seed and its number alone."""
    names = list(VALID)
    for number in range(count):
        name = names[number % len(names)]
        yield number, name, mutated(VALID[name], random.Random(SEED + number))  # noqa: S311


def read(path: Path) -> None:
    """Both areas of files, in this process."""
    for trust in (False, True):
        origin = Origin(path, path, trust=trust)
        for one in (*format_area.look(origin), *security.look(origin)):
            assert one.evidence
            assert all(letter.isprintable() for letter in one.place + one.evidence)


def run(folder: Path, count: int) -> None:
    (folder / "weights.bin").write_bytes(bytes(100))
    for number, name, content in cases(count):
        path = folder / name
        path.write_bytes(content)
        try:
            read(path)
        except Exception as error:
            raise AssertionError(f"case {number} of {name} (seed {SEED}) breaks the reader") from error


@pytest.fixture
def no_library(monkeypatch):
    """Without the two steps that hand a model to libraries in C++."""
    monkeypatch.setattr(format_onnx, "_checker", lambda _: iter(()))
    monkeypatch.setattr(format_onnx, "_loads", lambda _: iter(()))


def test_valid_files_have_no_errors_to_begin_with(tmp_path, no_library):
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    for name, content in VALID.items():
        path = tmp_path / name
        path.write_bytes(content)
        found = [*format_area.look(Origin(path, path, trust=True)), *security.look(Origin(path, path, trust=True))]
        assert [one for one in found if one.severity == "error"] == [], name


def test_a_few_hundred_mutated_files(tmp_path, no_library):
    run(tmp_path, FAST)


@pytest.mark.long
@pytest.mark.slow
def test_ten_thousand_mutated_files(tmp_path, no_library):
    run(tmp_path, SLOW)


@pytest.mark.slow
def test_mutated_files_in_the_libraries_too(tmp_path):
    """Those of them that are ONNX, in the child that contains whatever happens."""
    chosen = [case for case in cases(200) if case[1].endswith(".onnx")][:CONTAINED]
    for number, name, content in chosen:
        path = tmp_path / name
        path.write_bytes(content)
        report = apart.inspect(Origin(path, path), ["format"])
        assert report.laws == ("format",), f"case {number} of {name} (seed {SEED})"
