"""Area signature of a file: names and types that no protocol carries are found before anything loads it."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from shipworthy.check import interface
from shipworthy.check.subject import Origin

TENSOR = helper.make_tensor_type_proto


@pytest.fixture
def look(tmp_path):
    """The findings on a model of one node, with these inputs and outputs."""

    def of(inputs, outputs, edit=lambda blob: blob):
        values = [[helper.make_value_info(name, kind) for name, kind in some] for some in (inputs, outputs)]
        node = helper.make_node("Relu", [inputs[0][0]], [outputs[0][0]])
        proto = helper.make_model(helper.make_graph([node], "g", *values), ir_version=10)
        path = tmp_path / "model.onnx"
        path.write_bytes(edit(proto.SerializeToString()))
        return [(one.law, one.severity, one.place) for one in interface.look(Origin(path, path))]

    return of


FLOAT = TENSOR(TensorProto.FLOAT, [None, 2])


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "INT64", "UINT8", "BOOL", "STRING"])
def test_ordinary_types_are_carried(look, kind):
    assert look([("x", TENSOR(getattr(TensorProto, kind), [None]))], [("y", FLOAT)]) == []


@pytest.mark.parametrize(
    "kind",
    [
        *(
            TENSOR(one, [None])
            for one in (TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.INT4, TensorProto.FLOAT8E5M2)
        ),
        helper.make_sequence_type_proto(FLOAT),
        helper.make_map_type_proto(TensorProto.INT64, FLOAT),
        helper.make_optional_type_proto(FLOAT),
        helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [None]),
    ],
)
def test_other_types_are_errors(look, kind):
    assert look([("x", kind)], [("y", FLOAT)]) == [("signature.dtype", "error", "input 'x'")]
    assert look([("x", FLOAT)], [("y", kind)]) == [("signature.dtype", "error", "output 'y'")]


def test_a_type_that_is_to_be_inferred_is_no_error(look):
    assert look([("x", FLOAT)], [("y", onnx.TypeProto())]) == []


@pytest.mark.parametrize("name", ["x", "input:0", "a/b/c", "日本語", "a.b~1%2F?#&", "with space"])
def test_names_that_travel(look, name):
    assert look([(name, FLOAT)], [("y", FLOAT)]) == []


def test_names_that_do_not(look):
    assert look([("", FLOAT)], [("y", FLOAT)]) == [("signature.name", "error", "input ''")]
    assert look([("a\nb", FLOAT)], [("y", FLOAT)]) == [("signature.name", "warning", "input 'a\\nb'")]
    broken = look([("xx", FLOAT)], [("y", FLOAT)], lambda blob: blob.replace(b"xx", b"\xff\xfe"))
    assert broken == [("signature.name", "error", "input b'\\xff\\xfe'")]


def test_a_name_may_stand_once(look):
    assert look([("x", FLOAT), ("x", FLOAT)], [("y", FLOAT)]) == [("signature.duplicate", "error", "input 'x'")]
    assert look([("x", FLOAT)], [("y", FLOAT), ("y", FLOAT)]) == [("signature.duplicate", "warning", "output 'y'")]


def test_what_is_no_model_is_left_to_area_format(tmp_path):
    for name in ("model.onnx", "model.joblib"):
        (tmp_path / name).write_bytes(b"no model")
        assert list(interface.look(Origin(tmp_path / name, tmp_path / name))) == []
