"""Whatever file comes in: it goes on as one ONNX, or is refused with a reason, and nothing in it is executed."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from shipworthy import check
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check.intake import read_proto
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Target, TensorSpec

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(60, 4)).astype(np.float32)
LABELS = np.arange(60) % 3
X = TensorSpec(name="X", dtype="float32", shape=(None, 4))

ESTIMATORS = {
    "classifier": lambda: LogisticRegression().fit(ROWS, LABELS),
    "texts": lambda: LogisticRegression().fit(ROWS, np.array(["a", "b", "c"])[LABELS]),
    "regressor": lambda: LinearRegression().fit(ROWS, ROWS @ [1, 2, 3, 4]),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS),
    "svc": lambda: SVC().fit(ROWS, LABELS),
    "transformer": lambda: StandardScaler().fit(ROWS),
}
OUTPUTS = {
    "classifier": [("int64", 1), ("float32", 2)],
    "texts": [("str", 1), ("float32", 2)],
    "regressor": [("float32", 2)],
    "pipeline": [("int64", 1), ("float32", 2)],
    "svc": [("int64", 1), ("float32", 2)],
    "transformer": [("float32", 2)],
}


def plain(onnx_model):
    """One layer with ReLU, and the place of its largest output."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [("label", "int64", [None]), ("y", "float32", [None, 3])]
    weights = {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}
    return onnx_model(nodes, [("x", "float32", [None, 4])], outputs, weights)


def refused(path: Path, **options: bool) -> Refused:
    """What intake says; it must leave nothing behind."""
    folder = path.parent / "models"
    with pytest.raises(Refused) as caught:
        check.take_in(path, "n", folder, **options)
    assert not folder.exists() or list(folder.iterdir()) == []
    assert "draft-" not in str(caught.value), "a message must name the user's file"
    return caught.value


def test_onnx_bytes_are_kept(tmp_path, onnx_model):
    path = tmp_path / "a.onnx"
    path.write_bytes(plain(onnx_model).SerializeToString())
    model = check.take_in(path, "name", tmp_path / "models")
    assert Path(model.path) == tmp_path / "models" / f"{file_digest(path)}.onnx"
    assert Path(model.path).read_bytes() == path.read_bytes()
    assert (model.name, model.digest, model.opset, model.ir_version) == ("name", file_digest(path), 21, 10)
    assert (model.source.framework, model.source.digest, model.source.path) == ("onnx", file_digest(path), str(path))
    assert [str(spec) for spec in model.signature.inputs] == ["x: float32 [?, 4]"]
    assert [str(spec) for spec in model.signature.outputs] == ["label: int64 [?]", "y: float32 [?, 3]"]
    assert list((tmp_path / "models").iterdir()) == [Path(model.path)], "no scratch stays"
    assert check.take_in(path, "name", tmp_path / "models") == model, "taking in again changes nothing"


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("suffix", [".joblib", ".pkl"])
def test_scikit_learn_is_converted(tmp_path, kind, suffix):
    path = tmp_path / f"m{suffix}"
    estimator = ESTIMATORS[kind]()
    joblib.dump(estimator, path) if suffix == ".joblib" else path.write_bytes(pickle.dumps(estimator))
    first = check.take_in(path, "n", tmp_path / "one", trust=True)
    again = check.take_in(path, "n", tmp_path / "two", trust=True)
    assert first.digest == again.digest, "conversion must be deterministic"
    assert first.signature.inputs == (X,)
    assert [(spec.dtype, len(spec.shape)) for spec in first.signature.outputs] == OUTPUTS[kind]
    assert all(spec.shape[0] is None for spec in first.signature.outputs)
    assert 17 <= first.opset <= 21
    assert first.ir_version <= 10
    assert {"scikit-learn", "skl2onnx"} <= first.source.packages.keys()
    answer = next(iter(OnnxRuntimeRunner(Path(first.path), Target()).run({"X": ROWS}).values()))
    if kind == "transformer":
        np.testing.assert_allclose(answer, estimator.transform(ROWS), atol=1e-5)
    elif kind == "regressor":
        np.testing.assert_allclose(answer[:, 0], estimator.predict(ROWS), atol=1e-4)
    else:
        assert (answer == estimator.predict(ROWS)).mean() >= 0.98


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        (LogisticRegression(), "no fitted"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "no fitted"),
        ({"weights": [1, 2]}, "no fitted"),
        (FunctionTransformer(np.log1p).fit(np.abs(ROWS)), "no ONNX form"),
        (DummyClassifier(strategy="uniform").fit(ROWS, LABELS), "no ONNX form"),
    ],
    ids=["unfitted", "unfitted pipeline", "dict", "function", "no converter"],
)
def test_what_has_no_onnx_form_is_refused(tmp_path, estimator, says):
    joblib.dump(estimator, tmp_path / "m.joblib")
    assert says in refused(tmp_path / "m.joblib", trust=True).what


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".pickle"])
def test_without_trust_nothing_is_loaded(tmp_path, suffix):
    path, made = tmp_path / f"m{suffix}", tmp_path / "payload"
    path.write_bytes(pickle.dumps(Payload(made)))
    error = refused(path)
    assert "--trust" in error.next
    assert not made.exists(), "the file was loaded"
    refused(path, trust=True)
    assert made.exists(), "the payload of this test does nothing: the line above proves nothing"


def test_the_reference_asks_for_trust_and_for_the_same_file(tmp_path, digits, monkeypatch):
    assert check.reference(digits.model, trust=True)({"X": digits.evaluation.inputs["X"][:5]})[0].shape == (5,)
    with pytest.raises(Refused, match="pickle"):
        check.reference(digits.model, trust=False)
    changed = tmp_path / "m.joblib"
    shutil.copy(digits.file, changed)
    model = check.take_in(changed, "n", tmp_path / "models", trust=True)
    with changed.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(Refused, match="changed"):
        check.reference(model, trust=True)


def test_an_onnx_model_has_no_reference(taken):
    assert check.reference(small(taken), trust=False) is None


def small(taken):
    return taken([helper.make_node("Relu", ["x"], ["y"])], [("x", "float32", [None, 2])], [("y", "float32", [None, 2])])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.onnx", b""),
        ("m.onnx", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\b\6\0\0\0"),
        ("m.onnx", b"This is a text, and not a model.\n" * 20),
        ("m.onnx", b"PK\3\4" + b"\0" * 100),
        ("m.onnx", pickle.dumps({"a": 1})),
        ("m.joblib", b""),
        ("m.joblib", b"a text\n"),
        ("m.pkl", pickle.dumps(list(range(100)))[:40]),
        ("m.h5", b"x"),
        ("m", b"x"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name, trust=True)
    assert str(tmp_path / name) in error.what
    assert error.expected
    assert error.next


def test_a_missing_file_a_folder_and_a_broken_link_are_refused(tmp_path):
    assert "no file" in refused(tmp_path / "none.onnx").what
    (tmp_path / "folder.onnx").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder.onnx").what
    (tmp_path / "link.onnx").symlink_to(tmp_path / "none")
    assert "no file" in refused(tmp_path / "link.onnx").what


def test_every_truncation_is_refused_or_whole(tmp_path, onnx_model):
    whole = plain(onnx_model).SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(0, len(whole) - 20, 7):
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize("what", ["operator", "dtype", "shapes", "opset", "sequence"])
def test_a_broken_graph_is_refused_in_the_name_of_the_file(tmp_path, onnx_model, what):
    kind = {"operator": "NoSuchOperator"}.get(what, "Relu")
    given = "int64" if what == "dtype" else "float32"
    inputs, outputs, weights = [("x", "float32", [None, 4])], [("y", given, [None, 4])], {}
    nodes = [helper.make_node(kind, ["x"], ["y"])]
    if what == "shapes":
        nodes, weights = [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((3, 4), np.float32)}
    proto = onnx_model(nodes, inputs, outputs, weights, opset=99 if what == "opset" else 21)
    if what == "sequence":
        proto.graph.node[0].CopyFrom(helper.make_node("SequenceAt", ["s", "i"], ["y"]))
        proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None))
        proto.graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    error = refused(path)
    assert str(path) in error.what
    assert "opset 17 to 21" in error.next


@pytest.fixture(scope="module")
def valid(onnx_model):
    return plain(onnx_model).SerializeToString()


edits = st.lists(
    st.tuples(st.sampled_from(["set", "flip", "drop", "add"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(edits)
def test_mutated_bytes_are_taken_in_or_refused(tmp_path_factory, valid, edits):
    content = bytearray(valid)
    for what, place, new in edits:
        at = place % len(content)
        if what == "set":
            content[at : at + len(new)] = new
        elif what == "flip":
            content[at] ^= 1 << (new[0] % 8)
        elif what == "drop":
            del content[at : at + new[0] % 9]
        else:
            content[at:at] = new
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(content)
    try:
        model = check.take_in(folder / "m.onnx", "n", folder / "models")
    except Refused:
        assert not list((folder / "models").glob("draft-*"))
        return
    assert Path(model.path).read_bytes() == content
    check.run(model)
    Path(model.path).unlink()


def test_a_file_that_goes_away_is_refused(taken):
    model = small(taken)
    Path(model.path).unlink()
    with pytest.raises(Refused, match="no file"):
        check.run(model)


def test_a_graph_without_nodes_is_no_model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(Refused, match="not an ONNX model"):
        read_proto(path)
