"""``init``: the file it writes parses, says what lies there, and every line of it can be switched on."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipworthy import initialize, settings
from shipworthy.errors import Failed, Refused

OPTION = re.compile(r"^#([a-z_0-9]+) = ", re.MULTILINE)


def save_model(path: Path, inputs: dict[str, list[str | int]] | None = None) -> Path:
    """An ONNX model that hands its float32 inputs (name to shape) through."""
    inputs = inputs or {"X": ["n", 3]}
    nodes, outs, ins = [], [], []
    for number, (name, shape) in enumerate(inputs.items()):
        ins.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        outs.append(onnx.helper.make_tensor_value_info(f"out{number}", onnx.TensorProto.FLOAT, shape))
        nodes.append(onnx.helper.make_node("Identity", [name], [f"out{number}"]))
    graph = onnx.helper.make_graph(nodes, "g", ins, outs)
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    return path


def written(model: Path) -> settings.Settings:
    return settings.read(initialize.write(model))


def test_a_model_alone(tmp_path):
    path = initialize.write(save_model(tmp_path / "My model (2).onnx"))
    assert path == tmp_path / "shipworthy.toml"
    read = settings.read(path)
    assert read.model == settings.ModelSettings(name="My-model-2", path="My model (2).onnx")
    assert read == settings.Settings(model=read.model, targets={"cpu": settings.TargetSettings()}, folder=str(tmp_path)), (
        "nothing but the model is known, so every other option stays at its default"
    )
    text = path.read_text()
    assert "#   takes X: float32 [?, 3]\n#   gives out0: float32 [?, 3]\n" in text


def test_every_key_of_the_settings_is_there_with_its_description(tmp_path):
    text = initialize.write(save_model(tmp_path / "m.onnx")).read_text()
    lines = text.splitlines()
    for group in initialize.groups():
        if group.repeated:
            continue
        start = lines.index(group.head.replace("NAME", "cpu"))
        for option in group.options:
            at = next(n for n in range(start, len(lines)) if re.match(rf"#?{option.key} = ", lines[n]))
            assert option.about
            assert lines[at - 1].startswith(f"# {option.about}")
    assert {group.name for group in initialize.groups()} == {
        *("model", "data", "check", "check.silence", "gates", "targets.NAME", "optimize"),
        *("measure", "release", "serve", "watch", "rollout"),
    }


def test_each_option_can_be_switched_on_alone_and_means_its_default(tmp_path):
    path = initialize.write(save_model(tmp_path / "m.onnx"))
    text, plain = path.read_text(), settings.read(path)
    found = list(OPTION.finditer(text))
    options = [one for group in initialize.groups() if not group.repeated for one in group.options if not one.required]
    assert [match[1] for match in found] == [one.key for one in options], "all but the name and the path"
    for match, option in zip(found, options, strict=True):
        switched = settings.parse(tomllib.loads(text[: match.start()] + text[match.start() + 1 :]), str(path))
        said = f"{option.key}: what has no default is set by switching it on; all else is its default"
        assert (switched != plain) == (option.default is None), said


@given(stem=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60))
@example('a"\\\x7f\n\u2028b')
def test_any_file_name_gives_settings_that_parse(tmp_path_factory, stem):
    model = tmp_path_factory.mktemp("any") / f"{stem}.pkl"
    try:
        model.write_bytes(b"\x80\x05.")
    except OSError:  # longer than a file system takes
        return
    read = written(model)
    assert read.model.path == model.name
    assert read.file(read.model.path).read_bytes() == b"\x80\x05."


@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_any_name_of_an_input_gives_settings_that_parse(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("any")
    model = save_model(folder / "m.onnx", {name: ["n", 3]})
    np.savez(folder / "eval.npz", rows=np.zeros((4, 3), np.float32), y=np.zeros(4))
    assert written(model).data.inputs == ({} if name == "rows" else {name: "rows"})


def test_a_pickle_is_named_and_never_loaded(tmp_path):
    model = tmp_path / "model.joblib"
    model.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    path = initialize.write(model)
    assert settings.read(path).model == settings.ModelSettings(name="model", path="model.joblib", trust=False)
    assert "\ntrust = false\n" in path.read_text()
    assert "executes whatever its maker put in" in path.read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.joblib", "shipworthy.toml"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.pickle", b"x", "is a pickle"),
        ("m.skops", b"x", "skops does not know"),
        ("m.pt2", b"x", "can hold pickles"),
        ("m.safetensors", b"x", "factory names the function"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "files of Keras 2 can hold Python code"),
        ("m.ubj", b"{L\0\0\0\0\0\0\0\x07learner{", ""),
        ("m.json", b'{"learner": {}}', ""),
        ("m.txt", b"tree\nversion=v4\n", ""),
        ("saved", b"", "a SavedModel is a program"),
    ],
)
def test_other_formats_are_named_and_not_loaded(tmp_path, name, content, reason):
    model = tmp_path / name
    if name == "saved":
        model.mkdir()
        (model / "saved_model.pb").write_bytes(b"x")
    else:
        model.write_bytes(content)
    text = initialize.write(model).read_text()
    assert f"{name} was not loaded" in text
    assert ("\ntrust = false\n" in text) == bool(reason)
    assert reason in text
    assert settings.read(tmp_path).model.path == name


def test_texts_that_are_no_models_are_not_taken_for_some(tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / "package.json").write_text('{"name": "x"}')
    for name in ("requirements.txt", "package.json"):
        with pytest.raises(Refused, match="is not a model") as refused:
            initialize.write(tmp_path / name)
        assert refused.value.found == "another text"
    (tmp_path / "m.txt").write_text("tree\nversion=v4\n")
    with pytest.raises(Refused, match="is a folder") as refused:
        initialize.write(tmp_path)
    assert refused.value.found == "models in it: m.txt"


def test_files_beside_the_model_are_found_and_their_arrays_mapped(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "test.npz", features=np.zeros((5, 3), np.float32), target=np.zeros(5, int), note=np.float32(1))
    np.savez(tmp_path / "train.npz", features=np.zeros((9, 3)), target=np.zeros(9, int))
    (tmp_path / "train.py").write_text("raise SystemExit('init runs nothing')")
    read = written(model)
    assert read.model.train == "train.py"
    assert read.data == settings.DataSettings(
        evaluation="test.npz", calibration="train.npz", baseline="train.npz", labels="target", inputs={"X": "features"}
    )
    assert read.gates == settings.GateSettings(accuracy_kept_percent=99.0)


def test_names_that_are_already_right_are_left_at_their_defaults(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "val_2024.npz", X=np.zeros((5, 3), np.float32), y=np.zeros(5, int))
    np.savez(tmp_path / "calib.npz", X=np.zeros((5, 3), np.float32))
    read = written(model)
    assert read.data == settings.DataSettings(evaluation="val_2024.npz", calibration="calib.npz")
    assert read.gates.accuracy_kept_percent == 99.0


def test_two_inputs_are_told_apart_by_their_shapes(tmp_path):
    model = save_model(tmp_path / "m.onnx", {"left": ["n", 3], "right": ["n", 4]})
    np.savez(tmp_path / "eval.npz", a=np.zeros((5, 4), np.float32), b=np.zeros((5, 3), np.float32), y=np.zeros(5))
    assert written(model).data.inputs == {"left": "b", "right": "a"}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": (5, 3), "b": (5, 3)}, "does not hold exactly one array for each input"),
        ({"a": (5, 4)}, "does not hold exactly one array for each input"),
        ({}, "holds nothing"),
    ],
    ids=["two fit", "none fits", "empty"],
)
def test_rows_that_are_not_clear_are_named_and_not_used(tmp_path, arrays, said):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "eval.npz", **{name: np.zeros(shape, np.float32) for name, shape in arrays.items()})
    path = initialize.write(model)
    assert said in path.read_text()
    assert settings.read(path).data == settings.DataSettings()


def test_labels_that_are_not_clear_switch_no_accuracy_gate_on(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "eval.npz", X=np.zeros((5, 3), np.float32), one=np.zeros(5), two=np.zeros(5), short=np.zeros(4))
    path = initialize.write(model)
    assert "name it below (found: one, two)" in path.read_text()
    read = settings.read(path)
    assert (read.data.evaluation, read.data.labels, read.gates) == ("eval.npz", "y", settings.GateSettings())


def test_a_second_file_with_other_names_is_not_used(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "eval.npz", rows=np.zeros((5, 3), np.float32), y=np.zeros(5))
    np.savez(tmp_path / "train.npz", other=np.zeros((5, 3), np.float32))
    read = written(model)
    assert (read.data.inputs, read.data.calibration, read.data.baseline) == ({"X": "rows"}, "", "")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_a_broken_npz_is_named_and_not_used(tmp_path, content):
    model = save_model(tmp_path / "m.onnx")
    (tmp_path / "eval.npz").write_bytes(content)
    path = initialize.write(model)
    assert "eval.npz lies here and is not a readable .npz file" in path.read_text()
    assert settings.read(path).data == settings.DataSettings()


def test_arrays_of_objects_and_foreign_members_execute_nothing(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "eval.npz", X=np.array([{"a": 1}], dtype=object))
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    path = initialize.write(model)
    assert "eval.npz holds X object [1]" in path.read_text()
    assert "train.npz lies here and is not a readable .npz file" in path.read_text()
    assert settings.read(path).data == settings.DataSettings()


def test_settings_that_are_there_are_kept_unless_forced(tmp_path):
    model = save_model(tmp_path / "m.onnx")
    path = tmp_path / "shipworthy.toml"
    path.write_text("mine")
    with pytest.raises(Refused, match=r"exists already(.|\n)*--force"):
        initialize.write(model)
    assert path.read_text() == "mine"
    initialize.write(model, force=True)
    assert settings.read(path).model.name == "m"


def test_a_folder_of_that_name_is_refused_even_when_forced(tmp_path):
    (tmp_path / "shipworthy.toml").mkdir()
    with pytest.raises(Refused, match="is a folder"):
        initialize.write(save_model(tmp_path / "m.onnx"), force=True)


def test_what_is_no_model_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    (tmp_path / "empty.pkl").touch()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    cases = {
        "missing.onnx": "there is no file",
        "a.csv": "is not a model",
        "empty.pkl": "an empty file",
        "broken.onnx": "onnxruntime .* does not load",
        ".": r"is a folder\n  found:    models in it: broken.onnx, empty.pkl",
        "a.csv/m.onnx": "there is no file",
        "x" * 300 + ".onnx": "cannot be read",
        "a\0b.onnx": "cannot be read|there is no file",
        "\udcff.onnx": "cannot be read",
    }
    for name, said in cases.items():
        with pytest.raises(Refused, match=said):
            initialize.write(tmp_path / name)
    assert not (tmp_path / "shipworthy.toml").exists()


def test_an_unwritable_disk_leaves_nothing(tmp_path, monkeypatch):
    model = save_model(tmp_path / "m.onnx")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Failed, match="the disk is full"):
        initialize.write(model)
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"]
