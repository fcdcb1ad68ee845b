"""Weights in files beside the model: joined into one file, part of its digest, and never read from anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shipworthy import check
from shipworthy.backends import external, source
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Target

ONES = np.ones((3, 2), np.float32).tobytes()


def tensor(location: str, **more: object) -> onnx.TensorProto:
    """Weights of [3, 2] that lie in another file."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        entry = made.external_data.add()
        entry.key, entry.value = key, str(value)
    return made


def write(folder: Path, weights: onnx.TensorProto, place: str = "initializer") -> Path:
    """One product, the weights in one of the places that a model has for them."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n, size in (("x", 3), ("y", 2))]
    constant, product = helper.make_node("Constant", [], ["w"], value=weights), helper.make_node("MatMul", ["x", "w"], ["y"])
    imports, functions, nodes = [helper.make_opsetid("", 21)], [], [product]
    if place == "constant":
        nodes = [constant, product]
    elif place == "branch":
        one = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2])
        branch = helper.make_graph([constant], "branch", [], [one])
        always = helper.make_node("Constant", [], ["always"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
        nodes = [always, helper.make_node("If", ["always"], ["w"], then_branch=branch, else_branch=branch), product]
    elif place == "function":
        imports.append(helper.make_opsetid("own", 1))
        functions = [helper.make_function("own", "Twice", ["x"], ["y"], [constant, product], imports[:1])]
        nodes = [helper.make_node("Twice", ["x"], ["y"], domain="own")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights] if place == "initializer" else [])
    proto = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def refused(path: Path) -> Refused:
    folder = path.parent / "models"
    with pytest.raises(Refused) as caught:
        check.take_in(path, "n", folder)
    assert not folder.exists() or list(folder.iterdir()) == []
    assert str(path) in caught.value.what
    assert caught.value.next
    return caught.value


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function"])
def test_weights_beside_the_model_are_joined_wherever_they_stand(tmp_path, place):
    path = write(tmp_path, tensor("below/w.bin", offset=8, length=24), place)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "w.bin").write_bytes(b"x" * 8 + ONES + b"rest")
    model = check.take_in(path, "n", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == [Path(model.path)]
    assert model.digest == file_digest(Path(model.path))
    assert not list(external.outside(onnx.load(model.path, load_external_data=False)))
    (tmp_path / "below" / "w.bin").unlink()
    answers = OnnxRuntimeRunner(Path(model.path), Target()).run({"x": np.full((4, 3), 2, np.float32)})
    assert (answers["y"] == 6).all()


def test_a_weight_file_is_part_of_the_digest(tmp_path):
    path = write(tmp_path, tensor("w.bin"))
    (tmp_path / "w.bin").write_bytes(ONES)
    first = check.take_in(path, "n", tmp_path / "models")
    assert first.source.digest == source.digest(path) != file_digest(path)
    (tmp_path / "beside.bin").write_bytes(b"1")
    assert source.digest(path) == first.source.digest, "what the model does not name is no part of it"
    (tmp_path / "w.bin").write_bytes(ONES[:-1] + b"@")
    second = check.take_in(path, "n", tmp_path / "models")
    assert second.source.digest != first.source.digest
    assert second.digest != first.digest
    (tmp_path / "w.bin").unlink()
    assert len({source.digest(path), first.source.digest, second.source.digest}) == 3


def test_a_model_that_lies_in_one_file_has_that_files_digest(tmp_path, taken):
    model = taken(
        [helper.make_node("Relu", ["x"], ["location"])], [("x", "float32", [None])], [("location", "float32", [None])]
    )
    assert source.digest(Path(model.path)) == file_digest(Path(model.path)) == model.source.digest
    (tmp_path / "text.onnx").write_bytes(b"a location, and no model")
    assert source.digest(tmp_path / "text.onnx") == file_digest(tmp_path / "text.onnx")


@pytest.mark.parametrize(
    "name",
    ["../secret.bin", "ABSOLUTE", "", ".", "a/../../secret.bin", "link.bin", "linked/secret.bin", "none.bin", "pipe", "a\0b"],
)
def test_nothing_outside_of_the_folder_is_read(tmp_path, name, monkeypatch):
    (tmp_path / "secret.bin").write_bytes(ONES)
    home = tmp_path / "home"
    path = write(home, tensor(str(tmp_path / "secret.bin") if name == "ABSOLUTE" else name))
    (home / "link.bin").symlink_to(tmp_path / "secret.bin")
    (home / "linked").symlink_to(tmp_path)
    os.mkfifo(home / "pipe")
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *given, **more: opened.append(self.resolve()) or real(self, *given, **more))
    assert "not read" in refused(path).what
    assert source.digest(path)
    assert opened
    assert all(one.is_relative_to(home) for one in opened)


def test_a_link_inside_of_the_folder_is_followed(tmp_path):
    (tmp_path / "blob").write_bytes(ONES)
    (tmp_path / "w.bin").symlink_to(tmp_path / "blob")
    assert check.take_in(write(tmp_path, tensor("w.bin")), "n", tmp_path / "models")


@pytest.mark.parametrize(
    "more", [{"length": 25}, {"offset": 8, "length": 24}, {"offset": -4}, {"offset": 99}, {"length": "many"}]
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, more):
    path = write(tmp_path, tensor("w.bin", **more))
    (tmp_path / "w.bin").write_bytes(ONES)
    assert "do not belong together" in refused(path).what


def test_data_of_another_size_than_the_tensor_is_refused(tmp_path):
    path = write(tmp_path, tensor("w.bin", length=20))
    (tmp_path / "w.bin").write_bytes(ONES)
    refused(path)


def test_more_than_one_file_holds_is_refused_without_reading_it(tmp_path, monkeypatch):
    large = tensor("w.bin")
    large.dims[:] = [3, 10_000_000]
    path = write(tmp_path, large)
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(120_000_000)  # a hole: it takes no room on the disk
    monkeypatch.setattr(external, "LIMIT_BYTES", 100_000_000)
    error = refused(path)
    assert "more than one file holds" in error.what
    assert error.found == "0.1 GB"
    assert "float16" in error.next


def test_what_is_too_large_to_be_a_model_is_not_read_for_its_files(tmp_path, monkeypatch):
    path = write(tmp_path, tensor("w.bin"))
    (tmp_path / "w.bin").write_bytes(ONES)
    assert list(external.files(path)) == ["w.bin"]
    monkeypatch.setattr(external, "LIMIT_BYTES", path.stat().st_size - 1)
    assert external.files(path) == {}


@pytest.mark.parametrize("name", ["C:\\w.bin", "\\\\host\\w.bin", "a\\..\\..\\w.bin"])
def test_paths_of_windows_lead_elsewhere_too(tmp_path, name):
    (tmp_path / name).write_bytes(ONES)
    assert "not read" in refused(write(tmp_path, tensor(name))).what


def test_a_name_that_is_no_text_is_one_all_the_same(tmp_path):
    path = write(tmp_path, tensor("w.bin"))
    path.write_bytes(path.read_bytes().replace(b"w.bin", b"w.\xff\xfen"))
    assert source.digest(path) != file_digest(path)
    assert "no such file" in refused(path).found


def test_the_same_bytes_named_many_times_are_counted_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "LIMIT_BYTES", 500)
    path = write(tmp_path, tensor("w.bin"))
    proto = onnx.load(path, load_external_data=False)
    for number in range(20):
        more = tensor("w.bin")
        more.name = f"w{number}"
        proto.graph.initializer.append(more)
    monkeypatch.setattr(external, "LIMIT_BYTES", proto.ByteSize() + 100)
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "w.bin").write_bytes(ONES)
    assert "more than one file holds" in refused(path).what


def test_the_tool_notices_a_weight_file_that_changes_while_it_checks(tmp_path):
    path = write(tmp_path, tensor("w.bin"))
    (tmp_path / "w.bin").write_bytes(ONES)
    before = check.inspect(check.Origin(path, path)).model
    (tmp_path / "w.bin").write_bytes(ONES[::-1])
    assert check.inspect(check.Origin(path, path)).model != before
