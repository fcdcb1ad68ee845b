"""Area format: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

import json
import struct
import zipfile

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from shipworthy.backends import boosters
from shipworthy.check import areas, format_onnx, limits, magic
from shipworthy.check import format as format_area
from shipworthy.check.graph import kernels
from shipworthy.check.subject import Origin
from shipworthy.records import Target
from shipworthy.targets import KINDS

from .small import X, Y, relu, said


@pytest.mark.parametrize(
    ("opset", "ir_version", "expected"),
    [
        (17, 8, []),
        (21, 10, []),
        (16, 10, [("warning", "opset 16")]),
        (13, 7, [("warning", "opset 13")]),
        (22, 10, [("warning", "opset 22")]),
        (23, 11, [("warning", "opset 23"), ("warning", "IR version 11")]),
        (21, 12, [("warning", "IR version 12")]),
    ],
)
def test_format_says_what_not_every_target_takes(taken, origin, opset, ir_version, expected):
    model = taken(relu(), [X], [Y], opset=opset, ir_version=ir_version)
    found = list(format_area.look(origin(model)))
    assert said(found) == expected
    assert all(finding.law.startswith("format.") and finding.mend and finding.evidence for finding in found)


def misshaped():
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return nodes, [X], [("y", "float32", [None, 5])]


@pytest.mark.parametrize("broken", ["cycle", "unknown operator", "wrong type"])
def test_format_finds_a_broken_graph(tmp_path, onnx_model, broken):
    proto = onnx_model(relu(), [X], [Y])
    node = proto.graph.node[0]
    if broken == "cycle":
        node.input[0] = "y"
    elif broken == "unknown operator":
        node.op_type = "NoSuchOperator"
    else:
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path = tmp_path / "broken.onnx"
    path.write_bytes(proto.SerializeToString())
    found = list(format_area.look(Origin(path, path)))
    # Nor does the runtime load it; that is asked all the same, for whoever silences the first.
    assert [(one.law, one.severity, one.place) for one in found] == [
        (law, "error", str(path)) for law in ("format.valid", "format.loads")
    ]
    assert found[0].mend


def test_format_finds_a_shape_that_does_not_follow(taken, origin):
    model = taken(*misshaped())
    assert said(format_area.look(origin(model))) == [("error", model.source.path)]


def test_format_finds_what_the_runtime_lets_pass(taken, origin):
    model = taken(relu(), [("x", "float32", None)], [("y", "float32", None)])
    found = list(format_area.look(origin(model)))
    assert said(found) == [("error", model.source.path)]
    assert "shape" in found[0].evidence


def written(path, proto):
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def found_in(path, target=None):
    return {(one.law, one.severity, one.place) for one in format_area.look(Origin(path, path, target or Target()))}


@pytest.mark.parametrize(
    ("version", "opset", "ir_version", "laws"),
    [
        ("1.32.0", 28, 14, {"format.opset", "format.ir"}),
        ("1.31.1", 26, 13, {"format.opset", "format.ir"}),
        ("1.31.1", 27, 10, {"format.runtime"}),
        ("1.31.1", 21, 14, {"format.runtime"}),
        ("1.23.2", 24, 12, {"format.runtime"}),
        ("1.99.0", 28, 14, {"format.opset", "format.ir"}),
    ],
)
def test_versions_are_errors_beyond_the_targets_runtime_and_warnings_within(
    tmp_path, onnx_model, monkeypatch, version, opset, ir_version, laws
):
    """What exporters write by default (opset 28, IR 14) is what onnxruntime 1.31 does not load."""
    monkeypatch.setattr(format_onnx, "version", lambda: version)
    monkeypatch.setattr(format_onnx, "_loads", lambda _: iter(()))  # the one that is here is of another version
    path = written(tmp_path / "m.onnx", onnx_model(relu(), [X], [Y], opset=opset, ir_version=ir_version))
    found = list(format_area.look(Origin(path, path)))
    assert {one.law for one in found} == laws
    assert {one.severity for one in found} == {"error" if laws == {"format.runtime"} else "warning"}
    assert all(version in one.evidence for one in found if one.law == "format.runtime")


@pytest.mark.parametrize(
    ("kind", "opset", "beyond"), [("tensorrt-11", 25, False), ("tensorrt-10", 26, True), ("openvino-cpu", 28, False)]
)
def test_tensorrt_and_openvino_have_limits_of_their_own(kind, opset, beyond):
    limit = limits.of(KINDS[kind], "1.32.0")
    assert (limit is not None and opset not in limit.opsets) == beyond


def test_the_table_of_limits_holds_for_the_runtime_that_is_here(tmp_path, onnx_model):
    limit = limits.of(Target(), format_onnx.version())
    assert limit, "a newer onnxruntime: measure its limits and put them into the table"
    for opset, ir, loads in (
        (limit.opsets.stop - 1, limit.ir, True),
        (limit.opsets.stop, limit.ir, False),
        (21, limit.ir + 1, False),
    ):
        path = written(tmp_path / "m.onnx", onnx_model(relu(), [X], [Y], opset=opset, ir_version=ir))
        assert (list(format_onnx._loads(Origin(path, path))) == []) == loads


def external(path, **entries):
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    borders = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2]) for name in "xy"]
    graph = helper.make_graph([node], "g", borders[:1], borders[1:], [weight])
    return written(path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_weights_in_other_files_are_fine_where_they_should_be(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "w.bin").write_bytes(bytes(20))
    for entries in ({"offset": 4, "length": 16}, {"offset": 4}, {}):
        assert found_in(external(tmp_path / "m.onnx", location="more/w.bin", **entries)) == set()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "none.bin"}, "no such file"),
        ({"location": "w.bin", "offset": 8}, "has 20 bytes"),
        ({"location": "w.bin", "length": 15}, "a tensor of 16"),
        ({"location": "w.bin", "length": "x"}, "no numbers"),
        ({"offset": 0}, "which has no name"),
    ],
)
def test_weights_in_other_files_that_are_not_as_said(tmp_path, entries, says):
    (tmp_path / "w.bin").write_bytes(bytes(20))
    path = external(tmp_path / "m.onnx", **entries)
    (found,) = [one for one in format_area.look(Origin(path, path)) if one.law == "format.weights"]
    assert says in found.evidence
    assert found.place.startswith("tensor w, file ")


def test_a_model_over_2_gb_is_looked_at_without_its_weights(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(format_onnx, "session", lambda *arguments: loaded.append(arguments))
    path = external(tmp_path / "m.onnx", location="w.bin", offset=2**31, length=16)
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(2**31 + 100)
    assert found_in(path) == set(), "what counts is what the model takes of the file"
    assert loaded.pop()
    monkeypatch.setattr(format_onnx.external, "LIMIT_BYTES", path.stat().st_size + 15)
    assert found_in(path) == {("format.size", "error", str(path))}
    assert not loaded


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "none.bin"])
def test_a_model_whose_weights_lie_elsewhere_is_not_loaded(tmp_path, monkeypatch, location):
    (tmp_path / "home").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    loaded = []
    monkeypatch.setattr(format_onnx, "session", lambda *arguments: loaded.append(arguments))
    found_in(external(tmp_path / "home" / "m.onnx", location=location))
    assert not loaded


def test_a_file_that_no_protobuf_can_be_is_not_even_read(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    assert found_in(path) == {("format.size", "error", str(path))}


GELU = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft", name="activation")


@pytest.mark.parametrize(
    ("domain", "kind", "severity"),
    [
        ("com.microsoft", "cpu-x86", "note"),
        ("com.microsoft", "cuda", "note"),
        ("com.microsoft", "openvino-cpu", "warning"),
        ("com.microsoft", "tensorrt-11", "error"),
        ("org.openvinotoolkit", "openvino-cpu", "note"),
        ("org.openvinotoolkit", "cpu-x86", "error"),
        ("com.acme", "cpu-x86", "error"),
        ("ai.onnx.preview", "cpu-x86", "error"),
    ],
)
def test_custom_operators_are_named_with_their_nodes(tmp_path, onnx_model, domain, kind, severity):
    node = helper.make_node("Gelu", ["x"], ["y"], domain=domain, name="activation")
    path = written(tmp_path / "m.onnx", onnx_model([node], [X], [Y], domains={domain: 1}))
    found = [one for one in format_area.look(Origin(path, path, KINDS[kind])) if one.law == "format.operators"]
    assert [(one.severity, one.place) for one in found] == [(severity, f"operator {domain}.Gelu")]
    assert "1 node: activation" in found[0].evidence
    assert found[0].evidence.startswith("neither ONNX nor") == (
        domain in ("com.acme", "org.openvinotoolkit") and severity == "error"
    )


def test_operators_that_the_model_brings_are_not_custom(tmp_path, onnx_model):
    proto = onnx_model([helper.make_node("Twice", ["x"], ["y"], domain="of.its.own")], [X], [Y], domains={"of.its.own": 1})
    add = helper.make_node("Add", ["a", "a"], ["b"])
    proto.functions.append(helper.make_function("of.its.own", "Twice", ["a"], ["b"], [add], [helper.make_opsetid("", 21)]))
    assert found_in(written(tmp_path / "m.onnx", proto)) == set()


@pytest.mark.parametrize(("kind", "broken"), [("cpu-x86-vnni", False), ("tensorrt-11", True), ("cpu-arm", True)])
def test_int8_of_another_device(tmp_path, onnx_model, kind, broken):
    proto = onnx_model(relu(), [X], [Y])
    proto.metadata_props.add(key="shipworthy.int8", value="u8s8")
    found = found_in(written(tmp_path / "m.onnx", proto), KINDS[kind])
    assert (("format.device", "error", "INT8") in found) == broken


def test_what_onnxruntime_blocked_for_a_cpu_is_said(tmp_path, onnx_model):
    node = helper.make_node("ReorderInput", ["x"], ["y"], domain="com.microsoft.nchwc")
    path = written(tmp_path / "m.onnx", onnx_model([node], [X], [Y], domains={"com.microsoft.nchwc": 1}))
    assert ("format.device", "warning", "layout") in found_in(path)
    assert ("format.device", "error", "layout") in found_in(path, KINDS["openvino-cpu"])


def test_sizes_below_zero_are_no_free_dimensions(tmp_path, onnx_model):
    path = written(tmp_path / "m.onnx", onnx_model(relu(), [("x", "float32", [-1, 2])], [Y]))
    assert ("format.valid", "error", "tensor x") in found_in(path)


def test_a_valid_header_of_safetensors_is_silent(tmp_path):
    header = {
        "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "none": {"dtype": "F32", "shape": [0, 9], "data_offsets": [12, 12]},
        "scalar": {"dtype": "I64", "shape": [], "data_offsets": [12, 20]},
        "__metadata__": {"format": "pt"},
    }
    text = json.dumps(header).encode() + b"   "
    path = written(tmp_path / "m.safetensors", struct.pack("<Q", len(text)) + text + bytes(20))
    assert found_in(path) == set()


@pytest.mark.parametrize("suffix", boosters.SUFFIXES)
def test_a_file_of_a_booster_begins_as_one(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    begin, word = boosters.STARTS[boosters.SUFFIXES[suffix]]
    path.write_bytes(begin + b"\n" + word)
    assert found_in(path) == set()
    path.write_bytes(b'{"a": 1}')
    assert found_in(path) == {("format.readable", "error", str(path))}


def test_a_valid_archive_is_silent_and_pruned_weights_are_no_bomb(tmp_path):
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/weight_0", bytes(50_000_000))
    assert found_in(path) == set()


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"", "empty"),
        (bytes(64), "zeros"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"PK\x03\x04", "zip"),
        (b"version https://git-lfs.github.com/spec/v1", "git-lfs"),
        (b"\n <!DOCTYPE html>", "web page"),
        (b'{"layers": []}', "JSON"),
        ("Übergrößenträger".encode()[:-1], "a text"),
        (b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
        (bytes(257)[:-1] + b"\x01ustar", "tar"),
    ],
)
def test_what_bytes_are(head, told):
    assert told in magic.told(head)


def test_onnx_bytes_look_like_nothing_else(onnx_model):
    assert magic.told(onnx_model(relu(), [X], [Y]).SerializeToString()) == ""


def test_what_onnx_itself_cannot_infer_is_no_error_of_the_file(tmp_path, onnx_model):
    """ONNX 1.23.2 fails over its own definition of this operator; the runtime has it."""
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    shape = [2, 3, 4, 4]
    path = written(tmp_path / "m.onnx", onnx_model([node], [("x", "float32", shape)], [("y", "float32", shape)], opset=13))
    assert {(law, severity) for law, severity, _ in found_in(path)} <= {
        ("format.valid", "warning"),
        ("format.opset", "warning"),
    }


def test_a_kernel_that_is_missing_is_left_to_the_law_that_names_the_nodes(tmp_path, onnx_model):
    """ONNX allows Asinh in float64, and onnxruntime has none on the CPU."""
    nodes = [helper.make_node("Asinh", ["x"], ["y"], name="first")]
    path = written(tmp_path / "m.onnx", onnx_model(nodes, [("x", "float64", [None, 2])], [("y", "float64", [None, 2])]))
    assert found_in(path) == set()
    assert [(one.law, one.place) for one in areas.inspect(Origin(path, path)).errors] == [
        ("graph.kernel", "node first (Asinh)")
    ]


def test_where_that_law_says_nothing_the_refusal_is_said(tmp_path, onnx_model, monkeypatch):
    """It looks at the model without its heavy weights first, and could find nothing wrong with that."""
    monkeypatch.setattr(kernels, "light", lambda _: onnx_model(relu(), [X], [Y]))
    nodes = [helper.make_node("Asinh", ["x"], ["y"])]
    path = written(tmp_path / "m.onnx", onnx_model(nodes, [("x", "float64", [None, 2])], [("y", "float64", [None, 2])]))
    assert [one.law for one in areas.inspect(Origin(path, path)).errors] == ["format.loads"]


def test_an_operator_with_the_name_of_that_error_is_refused_like_any_other(tmp_path, onnx_model):
    node = helper.make_node("NOT_IMPLEMENTED", ["x"], ["y"], domain="own")
    path = written(tmp_path / "m.onnx", onnx_model([node], [X], [Y], domains={"own": 1}))
    assert [one.law for one in areas.inspect(Origin(path, path)).errors] == ["format.operators", "format.loads"]


def test_what_openvino_does_not_load_is_said_for_its_target_alone(tmp_path, onnx_model):
    pytest.importorskip("openvino")
    node = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    path = written(tmp_path / "m.onnx", onnx_model([node], [X], [Y], domains={"com.microsoft": 1}))
    loads = ("format.loads", "error", str(path))
    assert loads in found_in(path, KINDS["openvino-cpu"])
    assert loads not in found_in(path)
    node.op_type = "QuickGelu"
    written(path, onnx_model([node], [X], [Y], domains={"com.microsoft": 1}))
    assert loads not in found_in(path, KINDS["openvino-cpu"])
