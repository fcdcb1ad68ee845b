"""Models of Keras and TensorFlow go on as one ONNX that answers as they do, or are refused with a reason."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest

from shipworthy import check
from shipworthy.backends import tensorflow_file
from shipworthy.data import Dataset
from shipworthy.errors import Refused


def parity(model, inputs, trust=True, reference=None):
    """What the law says of every output."""
    framework = reference or check.reference(model, trust=trust)
    report = check.run(model, Dataset("rows", "e" * 64, inputs), framework)
    assert [one for one in report.findings if one.severity == "error" and one.law != "numbers.parity"] == []
    return {one.place: (one.severity, one.evidence) for one in report.findings if one.law == "numbers.parity"}


def specs(model):
    return [str(one) for one in (*model.signature.inputs, *model.signature.outputs)]


@pytest.fixture(scope="module")
def conv(models, tmp_path_factory):
    return check.take_in(models.folder / "conv.keras", "m", tmp_path_factory.mktemp("conv"))


@pytest.fixture(scope="module")
def images(models):
    return {"image": models.rows.reshape(-1, 8, 8, 1)}


def test_a_model_of_keras_3_is_taken_in_without_trust_and_answers_as_keras_does(models, conv, images):
    assert specs(conv) == ["image: float32 [?, 8, 8, 1]", "output_0: float32 [?, 10]"]
    assert (conv.opset, conv.ir_version <= 10, conv.source.framework) == (18, True, "tensorflow")
    assert {"tensorflow", "keras", "tf2onnx"} <= set(conv.source.packages)
    assert models.accuracy["conv"] > 0.9
    assert models.right(conv.path, images) == pytest.approx(models.accuracy["conv"], abs=0.005)
    ((place, (severity, evidence)),) = parity(conv, images, trust=False).items()
    assert (place, severity) == ("output output_0", "note")
    assert "over 497 rows" in evidence


def test_a_difference_is_found(conv, images):
    framework = check.reference(conv, trust=False)
    assert parity(conv, images, reference=lambda rows: [framework(rows)[0] + 0.01])["output output_0"][0] == "error"


def test_a_conversion_gives_the_same_bytes_and_names_no_place(models, conv, take):
    again = take("conv.keras", trust=False)
    assert again.digest == conv.digest
    content = Path(again.path).read_bytes()
    for place in (str(models.folder), "site-packages", "make_models"):
        assert place.encode() not in content
    proto = onnx.load(again.path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", 18)]


def test_a_saved_model_is_taken_in_with_trust(models, conv, take, images):
    with pytest.raises(Refused, match="can execute any code") as caught:
        take("conv_saved", trust=False)
    assert caught.value.found == "a SavedModel is a program: its graph can read and write files"
    model = take("conv_saved")
    assert specs(model) == specs(conv)
    assert models.right(model.path, images) == pytest.approx(models.accuracy["conv"], abs=0.005)
    assert [severity for severity, _ in parity(model, images).values()] == ["note"]


def test_a_saved_model_that_changed_is_not_compared_with(models, take, tmp_path):
    shutil.copytree(models.folder / "one", tmp_path / "one")
    model = check.take_in(tmp_path / "one", "m", tmp_path / "models", trust=True)
    assert specs(model) == ["x: float32 [?, 2]", "y: float32 [?, 2]"]
    (tmp_path / "one" / "note.txt").write_text("more")
    with pytest.raises(Refused, match="changed while it was checked"):
        check.reference(model, trust=True)


@pytest.mark.parametrize("name", ["old.keras", "old.h5"])
def test_a_model_of_keras_2_is_taken_in_with_trust(models, take, name):
    model = take(name)
    assert specs(model) == ["pixels: float32 [?, 64]", "output_0: float32 [?, 10]"]
    assert "tf_keras" in model.source.packages
    assert models.accuracy["old"] > 0.9
    assert models.right(model.path, {"pixels": models.rows}) == pytest.approx(models.accuracy["old"], abs=0.005)
    assert [severity for severity, _ in parity(model, {"pixels": models.rows}).values()] == ["note"]


@pytest.mark.parametrize(("name", "outputs"), [("named.keras", ["early", "late"]), ("placed.keras", ["output_0", "output_1"])])
def test_several_inputs_and_outputs(take, name, outputs):
    model = take(name, trust=False)
    assert [str(one) for one in model.signature.inputs] == ["image: float32 [?, 4]", "kind: int32 [?]"]
    assert [one.name for one in model.signature.outputs] == outputs
    generator = np.random.default_rng(0)
    rows = {"image": generator.normal(size=(130, 4)).astype(np.float32), "kind": (np.arange(130) % 5).astype(np.int32)}
    found = parity(model, rows, trust=False)
    assert {place: severity for place, (severity, _) in found.items()} == {f"output {one}": "note" for one in outputs}


def test_a_fixed_number_of_rows_becomes_free(take):
    assert specs(take("fixed.keras", trust=False)) == ["x: float32 [?, 4]", "output_0: float32 [?, 3]"]


def test_a_lambda_runs_with_trust_only(models, take):
    executed = models.folder / "executed"
    with pytest.raises(Refused, match="can execute any code") as caught:
        take("lambda.keras", trust=False)
    assert caught.value.found == "a layer Lambda runs code of its own"
    assert not executed.exists()
    model = take("lambda.keras")
    assert executed.exists()
    rows = {"x": np.ones((3, 4), np.float32)}
    assert [severity for severity, _ in parity(model, rows).values()] == ["note"]
    with pytest.raises(Refused, match="can execute any code"):
        check.reference(model, trust=False)(rows)


def test_layers_of_an_h5_file_that_run_code_are_named(models, tmp_path):
    path = tmp_path / "model.h5"
    shutil.copy(models.folder / "old.h5", path)
    assert tensorflow_file.reasons(path) == ["files of Keras 2 can hold Python code, and its loader executes it"]
    with h5py.File(path, "a") as file:
        config = str(file.attrs["model_config"])
        file.attrs["model_config"] = config.replace('"class_name": "Dense"', '"class_name": "Lambda"', 1)
    assert "a layer Lambda runs code of its own" in tensorflow_file.reasons(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(Refused, match="not a readable file of Keras"):
        tensorflow_file.reasons(path)


def test_a_layer_of_the_users_is_not_found(take):
    with pytest.raises(Refused, match="can execute any code"):
        take("custom.keras", trust=False)
    with pytest.raises(Refused, match=r"custom\.keras cannot be loaded") as caught:
        take("custom.keras")
    assert "Twice" in caught.value.found


@pytest.mark.parametrize(
    ("name", "what", "found"),
    [
        ("words", "the model of TensorFlow has no ONNX form", "StringToHashBucketFast"),
        ("two", "does not say which of its functions answers", "signatures: twice, words"),
    ],
)
def test_what_has_no_form_is_refused_with_the_reason(take, tmp_path, name, what, found):
    with pytest.raises(Refused) as caught:
        take(name)
    assert what in caught.value.what
    assert found in caught.value.found
    assert list((tmp_path / "models").iterdir()) == [], "nothing half-written"


def test_broken_weights_are_refused(models, tmp_path):
    broken, hdf, graph = tmp_path / "broken.keras", tmp_path / "broken.h5", tmp_path / "graph"
    with zipfile.ZipFile(models.folder / "conv.keras") as whole, zipfile.ZipFile(broken, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(name, content[:5000] if name.endswith(".h5") else content)
    hdf.write_bytes((models.folder / "old.h5").read_bytes()[:5000])
    shutil.copytree(models.folder / "one", graph)
    (graph / "saved_model.pb").write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    for path in (broken, hdf, graph):
        with pytest.raises(Refused, match=f"{path.name} cannot be loaded"):
            check.take_in(path, "m", tmp_path / "models", trust=True)
