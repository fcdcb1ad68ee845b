"""What a file of Keras is, and whether loading it runs code, is read without TensorFlow."""

from __future__ import annotations

import json
import zipfile

import pytest

from shipworthy import check
from shipworthy.backends import source, tensorflow, tensorflow_file
from shipworthy.errors import Refused

DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "registered_name": None,
    "config": {
        "units": 3,
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None},
        "kernel_initializer": {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None},
    },
    "inbound_nodes": [{"args": [{"class_name": "__keras_tensor__", "config": {"shape": [None, 4]}}], "kwargs": {}}],
}
ADD = {"module": "keras.src.ops.numpy", "class_name": "Add", "registered_name": "Add", "config": {"name": "add"}}
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None, "config": {}}
CODE = {"class_name": "__lambda__", "config": {"code": "4wEA"}}
SAVED = {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None, "config": {"filepath": "elsewhere"}}
OF_THEIRS = {"module": None, "class_name": "Mine", "registered_name": "package>Mine", "config": {}}
DISGUISED = {"module": "keras.layers", "class_name": "Dense", "registered_name": "package>Mine", "config": {}}
UNSAFE = {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "registered_name": None, "config": {}}
DOWNLOAD = {"module": "keras.utils", "class_name": "function", "registered_name": "get_file", "config": "get_file"}
SYSTEM = {"module": "os", "class_name": "function", "registered_name": "system", "config": "system"}
SPEC = {"module": "keras.layers", "class_name": "__typespec__", "spec_name": "x", "registered_name": None, "config": []}
NAMELESS = {"class_name": "Dense", "config": {}}
LOOKUP = {"module": "keras.layers", "class_name": "StringLookup", "registered_name": None}


def model(*layers):
    own = {"module": "keras", "class_name": "Sequential", "registered_name": None}
    return own | {"config": {"name": "m", "layers": [DENSE, *layers]}}


@pytest.fixture
def write(tmp_path):
    def make(config=None, version="3.15.1", name="model.keras", **files):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
            archive.writestr("config.json", json.dumps(config if config is not None else model()))
            for file, content in files.items():
                archive.writestr(file, content)
        return path

    return make


def with_list(**option):
    return LOOKUP | {"config": option}


@pytest.mark.parametrize(
    "config",
    [
        model(),
        model(ADD),
        model(with_list(vocabulary=["a", "b"])),
        model() | {"compile_config": {"loss": OF_THEIRS}},
        model() | {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional"},
    ],
    ids=["layers", "operation", "words", "a loss is not loaded", "functional"],
)
def test_a_file_of_keras_own_parts_needs_no_trust(write, config):
    path = write(config)
    assert (tensorflow_file.kind(path), tensorflow_file.executes(path)) == ("keras", "")


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        pytest.param(LAMBDA, "a layer Lambda runs code of its own", id="Lambda"),
        pytest.param(CODE, "a layer Lambda runs code of its own", id="code"),
        pytest.param(SAVED, "a layer TFSMLayer runs code of its own", id="SavedModel"),
        pytest.param(OF_THEIRS, "'package>Mine' of the code it was trained with is not Keras' own", id="theirs"),
        pytest.param(DISGUISED, "'package>Mine' of keras.layers is not Keras' own", id="disguised"),
        pytest.param(UNSAFE, "'enable_unsafe_deserialization' of keras.config is not Keras' own", id="unsafe"),
        pytest.param(DOWNLOAD, "'get_file' of keras.utils is not Keras' own", id="download"),
        pytest.param(SYSTEM, "'system' of os is not Keras' own", id="system"),
        pytest.param(SPEC, "'__typespec__' of keras.layers is not Keras' own", id="spec"),
        pytest.param(NAMELESS, "'Dense' of the code it was trained with is not Keras' own", id="nameless"),
        pytest.param(with_list(vocabulary="/etc/passwd"), "its 'vocabulary' names a file", id="file"),
        pytest.param({**DENSE, "config": {"deep": [{"deeper": LAMBDA}]}}, "a layer Lambda runs code of its own", id="deep"),
        pytest.param(
            {**ADD, "module": "keras.src.ops.numpy.np"}, "'Add' of keras.src.ops.numpy.np is not Keras' own", id="submodule"
        ),
        pytest.param({**DENSE, "class_name": ["Dense"]}, "'['Dense']' of keras.layers is not Keras' own", id="list"),
        pytest.param(
            {**DENSE, "class_name": "Dense.from_config"}, "'Dense.from_config' of keras.layers is not Keras' own", id="dot"
        ),
        pytest.param(
            {**DENSE, "module": {}, "registered_name": []},
            "'Dense' of the code it was trained with is not Keras' own",
            id="odd",
        ),
    ],
)
def test_what_is_not_keras_own_needs_trust(write, tmp_path, foreign, reason):
    path = write(model(foreign))
    assert tensorflow_file.executes(path) == reason
    with pytest.raises(Refused) as caught:
        check.take_in(path, "m", tmp_path / "models")
    assert caught.value.found == reason
    assert "--trust" in caught.value.next


def test_a_deep_configuration_is_read_or_refused(write):
    for depth in (900, 100_000):
        path = write()
        text = '{"a":' * depth + json.dumps(LAMBDA) + "}" * depth
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
            archive.writestr("config.json", text)
        try:
            said = tensorflow_file.executes(path)
        except Refused as error:
            said = error.what
        assert said.startswith(("a layer Lambda runs", f"{path} is not a readable file"))


def test_files_of_keras_2_and_saved_models_need_trust(write, tmp_path):
    old, hdf, folder = write(version="2.21.0"), tmp_path / "m.h5", tmp_path / "saved"
    hdf.write_bytes(tensorflow_file.MAGIC + b"0" * 99)
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    assert [tensorflow_file.kind(path) for path in (old, hdf, folder)] == ["tf_keras", "tf_keras", "saved_model"]
    for path in (old, hdf, folder):
        with pytest.raises(Refused, match="can execute any code"):
            check.take_in(path, "m", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == [], "no draft is left"


def test_a_missing_extra_is_named(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow, "PACKAGES", ("tensorflow_of_nobody",))
    with pytest.raises(Refused) as caught:
        check.take_in(write(), "m", tmp_path / "models")
    assert caught.value.as_dict() == {
        "error": "models of Keras and TensorFlow need an extra that is not installed",
        "found": "no module 'tensorflow_of_nobody'",
        "next": "pip install 'shipworthy[tensorflow]'",
    }


def test_broken_files_are_refused(write, tmp_path, monkeypatch):
    whole = write()
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole.read_bytes()[:-40])
    empty, picture = tmp_path / "empty.keras", tmp_path / "picture.keras"
    empty.write_bytes(b"")
    wrong = tmp_path / "wrong.h5"
    wrong.write_bytes(b"\x89PNG\r\n\x1a\n")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    plain = tmp_path / "plain.keras"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("readme.txt", "hello")
    listed = write([1, 2], name="listed.keras")
    told = {
        cut: "zip",
        empty: "zip",
        picture: "zip",
        wrong: "at its start",
        plain: "no metadata.json in it",
        listed: "config.json is no object",
    }
    for path, found in told.items():
        with pytest.raises(Refused, match="is not a readable file of Keras") as caught:
            check.take_in(path, "m", tmp_path / "models")
        assert found in caught.value.found, path
    monkeypatch.setattr(tensorflow_file, "CONFIG_BYTES", 100)
    with pytest.raises(Refused, match=r"config\.json of \d{3} bytes"):
        tensorflow_file.executes(whole)
    with pytest.raises(Refused, match=r"'1\.9'"):
        tensorflow_file.kind(write(version="1.9", name="ancient.keras"))
    with pytest.raises(Refused, match="there is no file"):
        tensorflow_file.kind(tmp_path / "gone.h5")


def test_what_is_over_two_gb_is_refused_before_it_is_read(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_file, "LIMIT_BYTES", 5_000)
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"0" * 5_001)
    hdf = tmp_path / "m.h5"
    hdf.write_bytes(b"0" * 5_001)
    squeezed = tmp_path / "bomb.keras"
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"0" * 5_001)
    assert squeezed.stat().st_size < 1_000
    for path in (folder, hdf, squeezed):
        with pytest.raises(Refused, match="is too large"):
            check.take_in(path, "m", tmp_path / "models", trust=True)


def test_the_digest_of_a_folder_is_that_of_all_its_files(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    with pytest.raises(Refused, match="cannot be read as a model"):
        source.digest(folder)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"1")
    seen = [source.digest(folder)]
    assert source.digest(folder) == seen[0]
    (folder / "variables" / "data").write_bytes(b"2")
    seen.append(source.digest(folder))
    (folder / "variables" / "data").rename(folder / "variables" / "other")
    seen.append(source.digest(folder))
    (folder / "variables" / "other").rename(folder / "other")
    seen.append(source.digest(folder))
    assert len(set(seen)) == 4
    assert all(len(one) == 64 for one in seen)
