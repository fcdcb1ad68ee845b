"""A folder of models as Triton and TensorFlow Serving have it: layouts, versions, policies, labels, links."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shipworthy.errors import NotFound, Refused
from shipworthy.records import Target
from shipworthy.serve.repository import Folder, has_versions, is_repository
from shipworthy.serve.source import Policy

ALL = Policy()


def put(root: Path, *places: str, file: str = "model.onnx") -> Path:
    """A model's file in each NAME/VERSION; nothing here is loaded, so any bytes will do."""
    for place in places:
        (root / place).mkdir(parents=True)
        (root / place / file).write_bytes(place.encode())
    return root


def source(root: Path, policy: Policy | None = None, target: Target | None = None) -> Folder:
    return Folder(root, policy, target or Target())


def versions(offer) -> list[int]:
    return [one.version for one in offer.versions]


def test_models_are_found_without_any_configuration(tmp_path):
    put(tmp_path, "digits/1", "digits/12", "digits/3", "iris/0")
    found = source(tmp_path)
    assert found.names() == ["digits", "iris"]
    assert found.numbers("digits") == [1, 3, 12]
    offer = found.find("digits")
    assert (versions(offer), offer.default, dict(offer.labels), offer.notes) == ([12], 12, {}, ())
    (model,) = offer.versions
    assert model.path == tmp_path / "digits" / "12" / "model.onnx"
    assert (model.name, model.target, model.bundle, model.cost, model.most_rows) == ("digits", Target(), "", None, None)
    assert found.find("iris").default == 0


def test_what_is_no_version_is_ignored_and_what_is_no_model_left_out(tmp_path):
    put(tmp_path, "digits/2", "digits/01", "digits/v3", "digits/-4", "digits/5x", "digits/.7", "digits/" + "9" * 19)
    put(tmp_path, ".hidden/1", "empty/old")
    (tmp_path / "digits" / "8").mkdir()  # a version that is still being written
    (tmp_path / "digits" / "9").write_bytes(b"a file")
    (tmp_path / "notes.txt").touch()
    found = source(tmp_path, ALL)
    assert found.names() == ["digits"]
    assert found.numbers("digits") == [2] == versions(found.find("digits"))
    with pytest.raises(NotFound, match="'empty' has no version to serve") as missing:
        found.find("empty")
    assert missing.value.found == "old/model.onnx"
    assert missing.value.expected == "VERSION/model.onnx"
    assert found.numbers("empty") == []


def test_every_look_sees_what_has_changed(tmp_path):
    found = source(put(tmp_path, "digits/1"))
    assert found.find("digits").default == 1
    put(tmp_path, "digits/2", "new/1")
    assert found.find("digits").default == 2
    assert found.names() == ["digits", "new"]
    shutil.rmtree(tmp_path / "digits" / "2")
    assert found.find("digits").default == 1


@pytest.mark.parametrize(
    ("ours", "callers", "served"),
    [
        (None, None, [2, 3]),
        (Policy(latest=1), None, [3]),
        (Policy(listed=(1,)), None, [1]),
        (ALL, None, [1, 2, 3]),
        (Policy(latest=1), Policy(listed=(1, 2)), [1, 2]),
    ],
)
def test_the_callers_policy_wins_then_ours_then_the_files(tmp_path, ours, callers, served):
    put(tmp_path, "digits/1", "digits/2", "digits/3")
    (tmp_path / "digits" / "config.pbtxt").write_text("version_policy { latest { num_versions: 2 } }")
    offer = source(tmp_path, ours).find("digits", callers)
    assert versions(offer) == served
    assert offer.default == served[-1]


def test_listed_versions_that_are_missing_are_named_and_none_is_an_error(tmp_path):
    put(tmp_path, "digits/1", "digits/2")
    assert source(tmp_path).find("digits", Policy(listed=(2, 5))).notes == ("version 5 is not there",)
    with pytest.raises(NotFound) as missing:
        source(tmp_path).find("digits", Policy(listed=(5, 6)))
    assert (missing.value.found, missing.value.expected) == ("versions: 1, 2", "versions 5, 6")


def test_config_pbtxt_shapes_what_is_served(tmp_path):
    put(tmp_path, "digits/1", "digits/2", file="net.onnx")
    put(tmp_path / "digits", "3")
    (tmp_path / "digits" / "config.pbtxt").write_text(
        'name: "digits" default_model_filename: "net.onnx" max_batch_size: 16 dynamic_batching {}'
        'parameters { key: "intra_op_thread_count" value { string_value: "3" } }'
    )
    offer = source(tmp_path, target=Target(name="mine", threads=1, memory_mb=5)).find("digits")
    (model,) = offer.versions
    assert (model.version, model.path.name, model.most_rows) == (2, "net.onnx", 16)
    assert model.target == Target(name="mine", threads=3, memory_mb=5)
    assert offer.notes == ("config.pbtxt: not followed: dynamic_batching",)
    assert source(tmp_path).numbers("digits") == [1, 2]


OPENVINO = "optimization { execution_accelerators { cpu_execution_accelerator: [ { name: 'openvino' } ] } }"
TENSORRT = "optimization { execution_accelerators { gpu_execution_accelerator: [ { name: 'tensorrt' } ] } }"
GPU = "instance_group { kind: KIND_GPU }"


@pytest.mark.parametrize(
    ("text", "told", "runs"),
    [
        ("", ("cpu", "openvino"), ("cpu", "openvino")),
        (OPENVINO, ("cpu", "onnxruntime"), ("cpu", "openvino")),
        (OPENVINO, ("cuda", "onnxruntime"), ("cuda", "onnxruntime")),
        (OPENVINO + GPU, ("cpu", "onnxruntime"), ("cuda", "onnxruntime")),
        (GPU, ("cpu", "openvino"), ("cuda", "onnxruntime")),
        (GPU + TENSORRT, ("cpu", "onnxruntime"), ("cuda", "tensorrt")),
        (TENSORRT, ("cpu", "onnxruntime"), ("cpu", "onnxruntime")),
        ("instance_group { kind: KIND_CPU }", ("cuda", "tensorrt"), ("cpu", "onnxruntime")),
        ("instance_group { kind: KIND_AUTO }", ("cuda", "tensorrt"), ("cuda", "tensorrt")),
    ],
)
def test_where_a_model_runs(tmp_path, text, told, runs):
    put(tmp_path, "digits/1")
    (tmp_path / "digits" / "config.pbtxt").write_text(text)
    (model,) = source(tmp_path, target=Target(device=told[0], runtime=told[1])).find("digits").versions
    assert (model.target.device, model.target.runtime) == runs


def test_one_bad_configuration_is_said_where_it_matters_and_spoils_no_other_model(tmp_path):
    put(tmp_path, "bad/1", "good/1")
    (tmp_path / "bad" / "config.pbtxt").write_text("platform: 'tensorflow_savedmodel'")
    found = source(tmp_path)
    assert found.names() == ["bad", "good"]
    assert (found.numbers("bad"), found.numbers("good")) == ([], [1])
    assert found.find("good").default == 1
    with pytest.raises(Refused, match=r"bad/config\.pbtxt: that is not an ONNX model"):
        found.find("bad")


def test_a_model_with_files_beside_it_is_a_folder(tmp_path):
    put(tmp_path, "digits/1/model.onnx")
    assert source(tmp_path).find("digits").versions[0].path == tmp_path / "digits/1/model.onnx/model.onnx"


MODELS = """
model_config_list {
  config { name: "digits" base_path: "%s" model_version_policy { all {} }
    version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }
    version_labels { key: "gone" value: 9 } }
}
"""


@pytest.mark.parametrize("base_path", ["digits", "./digits/", "{root}/digits", "file://{root}/digits", "x/../digits"])
def test_models_config_gives_policy_and_labels(tmp_path, base_path):
    put(tmp_path, "digits/1", "digits/2", "iris/4")
    (tmp_path / "models.config").write_text(MODELS % base_path.format(root=tmp_path))
    found = source(tmp_path)
    assert found.names() == ["digits", "iris"]
    offer = found.find("digits")
    assert versions(offer) == [1, 2]
    assert offer.labels == {"stable": 1, "canary": 2}
    assert offer.notes == ("label 'gone' means a version that is not served",)
    assert versions(found.find("iris")) == [4]
    offer = source(tmp_path, Policy(latest=1)).find("digits")
    assert (versions(offer), offer.labels) == ([2], {"canary": 2})


def test_models_config_wins_over_config_pbtxt_and_both_have_their_notes(tmp_path):
    put(tmp_path, "digits/1", "digits/2", "digits/3")
    (tmp_path / "digits" / "config.pbtxt").write_text("version_policy { all {} } response_cache {}")
    (tmp_path / "models.config").write_text(
        "model_config_list { config { name: 'digits' base_path: 'digits' model_platform: 'tensorflow'"
        " model_version_policy { specific { versions: 2 } } } }"
    )
    offer = source(tmp_path).find("digits")
    assert versions(offer) == [2]
    assert offer.notes == ("models.config: not followed: model_platform", "config.pbtxt: not followed: response_cache")


def test_models_config_may_give_a_folder_another_name_and_lie_deeper(tmp_path):
    put(tmp_path, "folder/1", "group/deep/2")
    (tmp_path / "models.config").write_text(
        "model_config_list { config { name: 'digits' base_path: 'folder' } config { name: 'iris' base_path: 'group/deep' } }"
    )
    found = source(tmp_path)
    assert found.names() == ["digits", "iris"]
    assert found.find("digits").versions[0].path == tmp_path / "folder/1/model.onnx"
    assert versions(found.find("iris")) == [2]


@pytest.mark.parametrize("base_path", ["/models/digits", "..", "../digits", ".", "{root}", "{root}/../x", "{root}x/digits"])
def test_a_base_path_outside_of_the_repository_is_refused(tmp_path, base_path):
    root = put(tmp_path / "repository", "digits/1")
    put(tmp_path, "digits/1")
    (root / "models.config").write_text(MODELS % base_path.format(root=root))
    for ask in (source(root).names, lambda: source(root).numbers("digits"), lambda: source(root).find("digits")):
        with pytest.raises(Refused, match="is not a folder in the repository") as refused:
            ask()
        assert "relative to the repository" in refused.value.next


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("model_config_list {", "models.config cannot be read"),
        ("custom_model_config {}", "models.config: that is no list of models"),
        ("model_config_list { config { name: 'a/b' base_path: 'digits' } }", "cannot be the name of a model"),
        ("model_config_list { config { name: '.a' base_path: 'digits' } }", "cannot be the name of a model"),
        ("model_config_list { config { name: 'a' base_path: 'a\\x00b' } }", "'a' has no version to serve"),
    ],
)
def test_a_models_config_that_cannot_be_followed_is_refused(tmp_path, text, what):
    put(tmp_path, "digits/1")
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(Refused) as refused:
        source(tmp_path).find("a")
    assert what in refused.value.what


def test_a_model_that_models_config_names_and_that_is_not_there(tmp_path):
    put(tmp_path, "iris/1")
    (tmp_path / "models.config").write_text(MODELS % "digits")
    assert source(tmp_path).names() == ["iris"]
    with pytest.raises(NotFound, match="'digits' has no version to serve") as missing:
        source(tmp_path).find("digits")
    assert missing.value.found == "no folder of a version"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../other", "digits/..", "digits/1", "/etc", "a\0b", ".hidden", "x" * 5000, "\udcff"]
)
def test_a_name_is_never_a_path(tmp_path, name):
    root = put(tmp_path / "repository", "digits/1", ".hidden/1")
    put(tmp_path, "other/1")
    put(root / "digits", "1/2")
    found = source(root, ALL)
    assert found.numbers(name) == []
    with pytest.raises(NotFound, match="there is no model") as missing:
        found.find(name)
    assert missing.value.found == "digits"
    assert len(str(missing.value)) < 1000


def test_links_are_followed_as_they_are_set_by_versions_and_by_kubernetes(tmp_path):
    root, store = tmp_path / "repository", put(tmp_path / "store", "abc")
    put(root, "..data/digits/1")
    (root / "digits").symlink_to("..data/digits")
    (root / "iris").mkdir()
    (root / "iris" / "5").symlink_to(store / "abc")
    (root / "gone").mkdir()
    (root / "gone" / "1").symlink_to(tmp_path / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    found = source(root)
    assert found.names() == ["digits", "iris"]
    assert found.find("iris").versions[0].path.read_bytes() == b"abc"
    link = tmp_path / "link"
    link.symlink_to(root)
    (root / "models.config").write_text(MODELS % (root / "iris"))
    assert source(link).find("digits").versions[0].version == 5


def test_a_name_that_no_answer_could_hold_is_left_out(tmp_path):
    put(tmp_path, "digits/1", "a\nb/1")
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102  pathlib takes no bytes
    assert source(tmp_path).names() == ["digits"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    for ask in (source(tmp_path / "no").names, lambda: source(tmp_path / "no").find("digits")):
        with pytest.raises(Refused, match="cannot be read"):
            ask()


def test_what_looks_like_a_repository(tmp_path):
    put(tmp_path / "a", "digits/1")
    (tmp_path / "b" / "digits").mkdir(parents=True)
    assert not is_repository(tmp_path / "b")
    (tmp_path / "b" / "digits" / "config.pbtxt").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "models.config").touch()
    assert [is_repository(tmp_path / name) for name in "abc"] == [True, True, True]
    assert not is_repository(tmp_path / "a" / "digits")
    assert has_versions(tmp_path / "a" / "digits")
    assert not has_versions(tmp_path / "a")
