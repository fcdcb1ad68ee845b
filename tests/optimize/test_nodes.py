"""The ONNX file as passes see it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from shipworthy.backends import notes
from shipworthy.errors import Refused
from shipworthy.optimize import nodes
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic
from shipworthy.optimize.precision import Half

X, Y = [("x", "float32", [None, 4])], [("y", "float32", [None, 4])]


@pytest.fixture
def matrix(onnx_model):
    return onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])], X, Y, {"w": np.eye(4, dtype=np.float32)})


def outside(proto, path, size):
    """The model, its one weight in a file beside it that has ``size`` bytes; it takes no room on the disk."""
    weight = proto.graph.initializer[0]
    weight.dims[0] = size // 16
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    path.write_bytes(proto.SerializeToString())
    with (path.parent / "weights.bin").open("wb") as stream:
        stream.truncate(size)


@pytest.mark.parametrize("one", [Graph(), Half(), Int8Dynamic()], ids=lambda one: one.name)
def test_a_model_over_two_gigabytes_is_refused_before_it_is_read(one, matrix, tmp_path):
    path = tmp_path / "large.onnx"
    outside(matrix, path, 3_000_000_000)
    with pytest.raises(Refused, match="more than one file holds") as error:
        one.apply(path, tmp_path / "r.onnx", None)
    assert error.value.found == "3.0 GB"
    assert {file.name for file in tmp_path.iterdir()} == {"large.onnx", "weights.bin"}


def test_a_missing_file_of_weights_is_named(matrix, tmp_path):
    outside(matrix, tmp_path / "model.onnx", 64)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(Refused, match="keeps weights where they are not read") as error:
        nodes.read(tmp_path / "model.onnx")
    assert "no such file" in error.value.found
    assert "weights.bin" in error.value.found


def test_weights_beside_are_read(matrix, tmp_path):
    outside(matrix, tmp_path / "model.onnx", 64)
    weight = nodes.read(tmp_path / "model.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(weight), np.zeros((4, 4), np.float32))


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(Refused, match="is not an ONNX model"):
        nodes.outline(tmp_path / "a.onnx")


def test_notes_are_read_back_and_other_properties_stay(matrix, tmp_path):
    matrix.metadata_props.add(key="author", value="me")
    notes.note(matrix, {"int8": "s8s8"})
    notes.note(matrix, {"int8": "u8s8", "more": "said"})
    nodes.write(matrix, tmp_path / "a.onnx")
    assert notes.notes(nodes.outline(tmp_path / "a.onnx")) == {"int8": "u8s8", "more": "said"}
    kept = {one.key: one.value for one in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert kept == {"author": "me", "shipworthy.int8": "u8s8", "shipworthy.more": "said"}


def test_every_node_gets_a_name_of_its_own(onnx_model):
    given = [helper.make_node("Relu", ["x"], [name]) for name in "abcd"]
    given[1].name = given[2].name = "mine"
    proto = onnx_model([*given, helper.make_node("Relu", ["x"], ["y"], "mine")], X, Y)
    nodes.name_nodes(proto)
    assert [node.name for node in proto.graph.node] == ["Relu:a", "mine", "Relu:c", "Relu:d", "Relu:y"]
