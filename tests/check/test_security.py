"""Area security: each law fires where it should, and is silent where it should be; nothing is ever executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from dataclasses import replace

import joblib
import numpy as np
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from shipworthy import records
from shipworthy.backends import tensorflow_file
from shipworthy.check import security
from shipworthy.check.subject import Origin
from shipworthy.files import file_digest
from shipworthy.records import Bundle, FileEntry
from shipworthy.release import bundle


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Mine:
    """A class of the user's own."""


def look(path, *, trust=False):
    return list(security.look(Origin(path, path, trust=trust)))


def said(path, *, trust=False):
    return [(one.law, one.severity) for one in look(path, trust=trust)]


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_an_onnx_file_executes_nothing(taken, origin):
    node = helper.make_node("Relu", ["x"], ["y"])
    model = taken([node], [("x", "float32", [None, 2])], [("y", "float32", [None, 2])])
    assert list(security.look(origin(model))) == []


def test_a_pickle_is_an_error_without_trust_and_a_note_that_names_what_is_in_it_with(tmp_path):
    path = tmp_path / "m.joblib"
    joblib.dump(LogisticRegression().fit(np.eye(3), [0, 1, 1]), path)
    (error,) = look(path)
    assert (error.law, error.severity) == ("security.code", "error")
    assert "--trust" in error.mend
    assert "numpy, sklearn" in error.evidence
    (note,) = look(path, trust=True)
    assert (note.law, note.severity, note.mend) == ("security.code", "note", "")
    assert "joblib, numpy, sklearn" in note.evidence


def test_what_is_the_users_own_is_named(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps([Mine(), LogisticRegression()]))
    (note,) = look(path, trust=True)
    assert note.severity == "note"
    assert "known of a framework: " in note.evidence
    assert f"{Mine.__module__}.Mine" in note.evidence


@pytest.mark.parametrize("trust", [False, True])
def test_what_no_model_needs_is_an_error_with_trust_too(tmp_path, trust):
    path, made = tmp_path / "m.pkl", tmp_path / "made"
    path.write_bytes(pickle.dumps([LogisticRegression(), Call(os.system, f"touch {made}")]))
    (error,) = look(path, trust=trust)
    assert (error.law, error.severity) == ("security.callables", "error")
    assert f"{os.name}.system" in error.evidence
    assert "--trust" not in error.mend
    assert not made.exists()


def test_a_broken_pickle_is_an_error_with_trust_too(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression())[:-1])
    assert said(path, trust=True) == [("security.opaque", "error"), ("security.code", "note")]


def test_an_exported_program_of_torch(tmp_path):
    path = zipped(tmp_path / "m.pt2", m__models__model="{}", m__data__weights__weight_0=b"\x80\x02raw bytes that look so")
    assert said(path) == [("security.code", "error")]
    assert said(path, trust=True) == [("security.code", "note")], "bytes of weights are not taken for a broken pickle"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Call(eval, "1")))
    zipped(path, m__data__sample__inputs=inner.getvalue())
    assert said(path, trust=True) == [("security.callables", "error")]


def test_pickles_of_torch_are_told_the_way_out(tmp_path):
    path = zipped(tmp_path / "m.pt", **{"m/data.pkl": pickle.dumps({"w": 1}), "m/code/__torch__.py": "class A: pass"})
    (error,) = look(path)
    assert "safetensors.torch.save_file" in error.mend
    assert "1 files of TorchScript's code" in error.evidence


def test_what_is_no_pickle_at_all_is_told_apart(tmp_path):
    for name in ("m.pkl", "m.joblib", "m.pth"):
        (tmp_path / name).write_bytes(b"<html>Sign in</html>")
        (error,) = [one for one in look(tmp_path / name, trust=True) if one.severity == "error"]
        assert "a web page" in error.evidence


@pytest.mark.parametrize("trust", [False, True])
def test_types_that_skops_does_not_know_need_trust(tmp_path, trust):
    known, odd = tmp_path / "known.skops", tmp_path / "odd.skops"
    skops.io.dump(LogisticRegression().fit(np.eye(4), [0, 1, 0, 1]), known)
    skops.io.dump(FunctionTransformer(os.path.basename), odd)
    assert list(security.look(Origin(known, known, trust=trust))) == []
    (found,) = security.look(Origin(odd, odd, trust=trust))
    assert (found.law, found.severity) == ("security.code", "note" if trust else "error")
    assert "posixpath.basename" in found.evidence


def test_weights_need_code(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert said(path) == [("security.code", "error")]
    assert said(path, trust=True) == []


LAYER = {"module": "keras.layers", "registered_name": None, "config": {}}


def keras(path, *layers, version="3.1"):
    config = {"module": "keras", "class_name": "Sequential", "registered_name": None, "config": {"layers": layers}}
    return zipped(path, **{"metadata.json": json.dumps({"keras_version": version}), "config.json": json.dumps(config)})


def test_layers_of_keras_that_run_code(tmp_path):
    dense, function = LAYER | {"class_name": "Dense"}, LAYER | {"class_name": "Lambda"}
    assert said(keras(tmp_path / "m.keras", dense)) == []
    path = keras(tmp_path / "m.keras", dense, function)
    assert said(path) == [("security.code", "error")]
    (note,) = look(path, trust=True)
    assert (note.severity, note.evidence) == ("note", "a layer Lambda runs code of its own")
    (note,) = look(keras(path, function, version="2.15.0"), trust=True)
    assert "a layer Lambda runs code of its own" in note.evidence


def test_without_h5py_it_is_said_that_layers_are_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_file.importlib.util, "find_spec", lambda _: None)
    path = tmp_path / "m.h5"
    path.write_bytes(tensorflow_file.MAGIC + bytes(50))
    (note,) = look(path, trust=True)
    assert "h5py is not installed" in note.evidence


def external(path, location):
    value = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value=location)
    borders = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", borders[:1], borders[1:], [value])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("w.bin", ""),
        ("deeper/w.bin", ""),
        ("../w.bin", "leads out"),
        ("deeper/../../w.bin", "leads out"),
        ("..\\w.bin", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:\\w.bin", "absolute"),
        ("link/w.bin", "a link leads out"),
        ("w\0.bin", "zero byte"),
    ],
)
def test_paths_of_weights_stay_in_the_models_folder(tmp_path, location, says):
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)
    found = look(external(home / "m.onnx", location))
    assert [one.law for one in found] == (["security.paths"] if says else [])
    assert all(says in one.evidence for one in found)


def test_members_of_archives_stay_in_the_folder(tmp_path):
    path = tmp_path / "m.pt2"
    zipped(path, **{"m/a": "1", "m/../../b": "2", "/c": "3"})
    places = [one.place for one in look(path, trust=True) if one.law == "security.paths"]
    assert places == [f"{path}, member m/../../b", f"{path}, member /c"]


def test_links_of_a_saved_model_stay_in_it(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "again.pb").symlink_to("saved_model.pb")
    assert ("security.paths", "error") not in said(folder, trust=True)
    (folder / "out").symlink_to("/etc/hostname")
    assert ("security.paths", "error") in said(folder, trust=True)


@pytest.fixture
def released(tmp_path, onnx_model):
    node = helper.make_node("Relu", ["x"], ["y"])
    file = tmp_path / "variant.onnx"
    file.write_bytes(onnx_model([node], [("x", "float32", [None])], [("y", "float32", [None])]).SerializeToString())
    digest = file_digest(file)
    same = dict.fromkeys(("source", "model", "variant"), digest)
    name, _ = bundle.write(tmp_path / "store", {"model.onnx": file}, name="m", variant_name="original", **same)
    return tmp_path / "store" / name


def test_a_file_of_a_bundle_is_the_one_that_was_released(released):
    path = released / "model.onnx"
    assert said(path) == []
    path.chmod(0o644)
    with path.open("ab") as stream:
        stream.write(b"\x72\x00")
    (error,) = look(path)
    assert (error.law, error.severity) == ("security.digest", "error")
    assert file_digest(path) in error.evidence


def test_a_manifest_that_was_changed_is_said(released):
    manifest = released / bundle.MANIFEST
    manifest.chmod(0o644)
    before = records.decode(Bundle, manifest.read_bytes())
    entry = replace_digest(before)
    manifest.write_bytes(records.encode(entry))
    laws = said(released / "model.onnx")
    assert laws == [("security.digest", "error"), ("security.digest", "error")]
    manifest.write_bytes(b"{")
    assert said(released / "model.onnx") == [("security.digest", "error")]


def replace_digest(before):
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(before, files={"model.onnx": FileEntry(digest="0" * 64, size_bytes=1)})


def test_a_manifest_of_somebody_else_is_none_of_ours(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    assert said(path) == []


def test_what_cannot_be_opened_is_left_to_the_law_of_format(tmp_path):
    assert said(tmp_path / "none.onnx") == []
    assert said(tmp_path / "none.pkl", trust=True) == []
    origin = replace(Origin(tmp_path, tmp_path), path=tmp_path / "none.keras")
    assert list(security.look(origin)) == []
