"""MLflow for real, on one SQLite database: what it shows, that it serves, and what it says when it cannot."""

import json
import os
import pickle
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from shipworthy import files, records
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Failed, Refused
from shipworthy.records import (
    Evidence,
    Exchange,
    Figure,
    Machine,
    Measured,
    Model,
    Release,
    Served,
    Signature,
    Source,
    Step,
    Target,
    TensorSpec,
    Variant,
)
from shipworthy.release import bundle
from shipworthy.release import mlflow as tracking
from shipworthy.release.mlflow_fetch import fetch

SIGNATURE = Signature(
    inputs=(TensorSpec(name="X", dtype="float32", shape=(None, 4)),),
    outputs=(TensorSpec(name="scores", dtype="float32", shape=(None, 3)),),
)
MACHINE = Machine(cpu="a cpu", isa=(), cores=2, memory_mb=1000, system="Linux", python="3.11", packages={})
FIGURES = {"accuracy_percent": 97.25, "p99_ms": 0.125, "throughput_rps": 12345.0}


def write_model(path, seed):
    weights = np.random.default_rng(seed).random((4, 3)).astype("float32")
    tensor = helper.make_tensor("W", TensorProto.FLOAT, [4, 3], weights.tobytes(), raw=True)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n, size in (("X", 4), ("scores", 3))]
    graph = helper.make_graph([helper.make_node("MatMul", ["X", "W"], ["scores"])], "g", ends[:1], ends[1:], [tensor])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return weights


def make(folder, number):
    """A whole bundle, released as version ``number``; its subject and the weights of its model."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = write_model(folder / "m.onnx", number)
    digest = files.file_digest(folder / "m.onnx")
    figures = tuple(
        Figure(name=key, unit="", median=value, low=0, high=2 * value, samples=9, how="") for key, value in FIGURES.items()
    )
    about = {"target": Target(threads=2), "machine": MACHINE, "data": "", "measured_at": ""}
    other = Evidence(variant="0" * 64, variant_name="original", figures=(), **about)
    evidence = Measured(evidence=(other, Evidence(variant=digest, variant_name="int8", figures=figures, **about)))
    parts = {
        "model.onnx": folder / "m.onnx",
        "signature.json": records.encode(SIGNATURE),
        "evidence.json": records.encode(evidence),
    }
    named, _ = bundle.write(
        folder / "store", parts, name="digits", variant_name="int8", source="a" * 64, model="b" * 64, variant=digest
    )
    source = Source(path="m.joblib", digest="a" * 64, framework="sklearn")
    exchange = Exchange(
        encoding="json",
        requests=9,
        answered=9,
        rows=9,
        accuracy_percent=97.25,
        largest_difference=0.0,
        p50_ms=1.0,
        p99_ms=2.5,
    )
    subject = tracking.Subject(
        release=Release(name="digits", version=number, bundle=named, created_at="", created_by="ada"),
        folder=folder / "store" / named,
        model=Model(name="digits", path="", digest="b" * 64, signature=SIGNATURE, opset=17, ir_version=9, source=source),
        variant=Variant(
            name="int8",
            path="",
            digest=digest,
            parent="b" * 64,
            chain=(Step(name="graph"), Step(name="int8_static", options={"per_channel": True})),
            devices=("cpu",),
            size_mb=1.0,
        ),
        served=Served(
            bundle=named, version=number, measured_accuracy_percent=97.25, gap_points=0.0, exchanges=(exchange,), verdicts=()
        ),
    )
    return subject, weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One database for all: its schema takes seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    return tracking.Place(f"sqlite:///{folder}/mlflow.db", "shipworthy", folder / "artifacts")


@pytest.fixture(scope="module")
def first(tmp_path_factory, place):
    """The first release, tracked as champion: subject, weights, what ``track`` gave."""
    subject, weights = make(tmp_path_factory.mktemp("first"), 1)
    return subject, weights, tracking.track(subject, place, "champion")


@pytest.fixture
def client(place, first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own dependencies while it is imported
        from mlflow import MlflowClient  # noqa: PLC0415

    return MlflowClient(tracking_uri=place.tracking_uri, registry_uri=place.tracking_uri)


def test_a_run_shows_what_was_shipped_and_how_it_was_measured(first, place, client):
    subject, _, tracked = first
    run = client.get_run(tracked.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "digits v1")
    assert run.data.metrics == FIGURES | {
        "served_json_accuracy_percent": 97.25,
        "served_json_p50_ms": 1.0,
        "served_json_p99_ms": 2.5,
    }
    assert run.data.params == {
        "variant": "int8",
        "passes": "graph > int8_static",
        "pass.graph": "{}",
        "pass.int8_static": '{"per_channel":true}',
        "framework": "sklearn",
        "opset": "17",
        "target": "cpu",
        "device": "cpu",
        "runtime": "onnxruntime",
        "threads": "2",
        "memory_mb": "no limit",
    }
    ours = {key.removeprefix("shipworthy."): tag for key, tag in run.data.tags.items() if key.startswith("shipworthy.")}
    assert ours == {
        "bundle": subject.release.bundle,
        "release": "1",
        "source": "a" * 64,
        "model": "b" * 64,
        "variant": subject.variant.digest,
    }
    assert run.data.tags["mlflow.user"] == "ada"
    listed = {file.path for file in client.list_artifacts(tracked.run_id, "bundle")}
    assert listed == {"bundle/manifest.json", "bundle/signature.json", "bundle/evidence.json"}


def test_the_alias_leads_to_the_model_of_the_bundle_and_it_predicts(first, place, client):
    subject, weights, tracked = first
    version = client.get_model_version_by_alias("digits", "champion")
    assert (str(version.version), version.run_id) == (tracked.model_version, tracked.run_id)
    assert version.tags[tracking.TAG] == subject.release.bundle
    (model,) = client.search_logged_models(
        [client.get_run(tracked.run_id).info.experiment_id], f"source_run_id='{tracked.run_id}'"
    )
    assert model.status == "READY"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": tracked.model_version}]
    assert {metric.key: metric.value for metric in model.metrics}.items() >= FIGURES.items()
    rows = np.random.default_rng(0).random((5, 4)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: PLC0415

        before = mlflow.get_tracking_uri()
        try:
            mlflow.set_tracking_uri(place.tracking_uri)
            folder = mlflow.artifacts.download_artifacts("models:/digits@champion")
            served = mlflow.pyfunc.load_model("models:/digits@champion")
            proto = mlflow.onnx.load_model("models:/digits@champion")
            answers = {batch: served.predict({"X": rows[:batch]})["scores"] for batch in (1, 5)}
            with pytest.raises(mlflow.exceptions.MlflowException):
                served.predict({"X": rows[:, :3]})
        finally:
            mlflow.set_tracking_uri(before)
    assert files.file_digest(bundle.Path(folder) / "model.onnx") == subject.variant.digest
    assert [node.op_type for node in proto.graph.node] == ["MatMul"]
    wanted = OnnxRuntimeRunner(subject.folder / "model.onnx", Target()).run({"X": rows})["scores"]
    for batch, answer in answers.items():
        np.testing.assert_allclose(answer, wanted[:batch], rtol=1e-6)
    np.testing.assert_allclose(wanted, rows @ weights, rtol=1e-5)


def test_what_is_tracked_can_be_fetched_with_its_bundle(first, place, tmp_path):
    subject, _, tracked = first
    got = fetch(place.tracking_uri, "digits", ["champion"], tmp_path)
    file = got.files[int(tracked.model_version)]
    assert file.bundle == subject.release.bundle
    assert files.file_digest(bundle.Path(file.path)) == subject.variant.digest
    assert got.aliases == {"champion": int(tracked.model_version)}


def test_the_same_release_again_is_the_same_run_and_version(first, place, client):
    subject, _, tracked = first
    started = time.monotonic()
    again = tracking.track(subject, place, "champion")
    assert time.monotonic() - started < 2
    assert again == tracked
    assert len(client.search_model_versions(f"name='digits' and tags.`{tracking.TAG}`='{subject.release.bundle}'")) == 1


def test_the_alias_moves_on_and_back(first, place, client, tmp_path):
    second, _ = make(tmp_path, 2)
    tracked = tracking.track(second, place, "champion")
    assert tracked.run_id != first[2].run_id
    assert str(client.get_model_version_by_alias("digits", "champion").version) == tracked.model_version
    tracking.track(first[0], place, "champion")
    assert str(client.get_model_version_by_alias("digits", "champion").version) == first[2].model_version
    assert tracking.track(second, place, "").alias == ""
    assert str(client.get_model_version_by_alias("digits", "champion").version) == first[2].model_version


@pytest.mark.parametrize("step", ["log_artifacts", "log_model_artifacts", "create_model_version", "set_terminated"])
def test_what_broke_off_is_invisible_and_made_whole_by_the_next(first, place, client, tmp_path, monkeypatch, step):
    subject, _ = make(tmp_path, 10 + len(step))
    same = f"name='digits' and tags.`{tracking.TAG}`='{subject.release.bundle}'"

    def broken(*args, **rest):
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(type(client), step, broken)
        with pytest.raises(Failed, match="did not take the release"):
            tracking.track(subject, place, "champion")
    assert str(client.get_model_version_by_alias("digits", "champion").version) == first[2].model_version
    assert len(client.search_model_versions(same)) == (step == "set_terminated")
    tracked = tracking.track(subject, place, "challenger")
    assert [str(version.version) for version in client.search_model_versions(same)] == [tracked.model_version]
    experiment = client.get_experiment_by_name("shipworthy").experiment_id
    runs = client.search_runs([experiment], f"tags.`{tracking.TAG}`='{subject.release.bundle}'")
    assert [(run.info.run_id, run.info.status) for run in runs] == [(tracked.run_id, "FINISHED")]
    models = client.search_logged_models([experiment])
    assert [model.status for model in models if model.tags.get(tracking.TAG) == subject.release.bundle] == ["READY"]


def test_nothing_is_printed_nothing_is_imported_early_and_the_environment_stays(first, tmp_path):
    """On a database that does not exist yet: making its schema is when MLflow talks most."""
    script = f"""
import os, pickle, sys
sys.path.insert(0, {str(bundle.Path(__file__).parent)!r})
from shipworthy.release import mlflow as tracking
from shipworthy.release.mlflow_fetch import fetch
assert "mlflow" not in sys.modules and tracking.available() and "mlflow" not in sys.modules
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            seen.append(os.environ.get("MLFLOW_DISABLE_TELEMETRY"))
seen = []
sys.meta_path.insert(0, Spy())
before = dict(os.environ)
subject = pickle.loads(sys.stdin.buffer.read())
tracking.track(subject, tracking.Place("sqlite:///{tmp_path}/new/mlflow.db", "another", None), "champion")
assert dict(os.environ) == before, "the environment was changed"
assert seen[-1] == "true", "usage data was not switched off before MLflow was imported"
"""
    # Bare: MLflow keeps quiet by itself where it sees a test or a CI.
    env = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "PYTHONPATH")}
    plain = pickle.dumps(first[0])
    done = subprocess.run([sys.executable, "-c", script], input=plain, capture_output=True, check=False, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_database_of_another_mlflow_is_told(first, place, tmp_path):
    other = tmp_path / "other.db"
    shutil.copyfile(place.tracking_uri.removeprefix("sqlite:///"), other)
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff1'")
    with pytest.raises(Failed, match="another version of MLflow") as failed:
        tracking.track(first[0], replace(place, tracking_uri=f"sqlite:///{other}"), "champion")
    assert "fffffffffff1" in failed.value.found
    assert "mlflow db upgrade" in failed.value.next


def test_a_deleted_experiment_is_refused(first, place, client):
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(Refused, match="was deleted") as refused:
        tracking.track(first[0], replace(place, experiment="gone"), "champion")
    assert "restore" in refused.value.next


def test_a_changed_bundle_is_never_shown(first, place, tmp_path):
    shutil.copytree(first[0].folder, tmp_path / "copy")
    (tmp_path / "copy" / "extra").touch()
    with pytest.raises(Refused, match="was changed"):
        tracking.track(replace(first[0], folder=tmp_path / "copy"), place, "champion")


def test_without_mlflow_the_extra_is_named(first, place, monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    assert not tracking.available()
    with pytest.raises(Refused, match="not installed") as refused:
        tracking.track(first[0], place, "champion")
    assert "pip install 'shipworthy[mlflow]'" in refused.value.next


@pytest.mark.parametrize("uri", ["", "mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_refused(uri):
    with pytest.raises(Refused, match="no longer tracks to a folder"):
        tracking.reachable(uri)


@pytest.fixture
def silent():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql"])
def test_a_server_that_is_not_there_fails_once_and_soon(scheme, closed):
    started = time.monotonic()
    with pytest.raises(Failed, match="does not answer") as failed:
        tracking.reachable(f"{scheme}://ada:secret@127.0.0.1:{closed}/x")
    assert time.monotonic() - started < 2
    assert "secret" not in str(failed.value)
    assert "ada:***@127.0.0.1" in failed.value.what


def test_a_server_that_never_answers_fails_soon_and_before_mlflow_tries(silent, first, place):
    started = time.monotonic()
    with pytest.raises(Failed, match="does not answer"):
        tracking.track(first[0], replace(place, tracking_uri=f"http://127.0.0.1:{silent}"), "champion")
    assert time.monotonic() - started < 6


def test_a_server_that_answers_anything_is_reachable_but_what_it_cannot_do_is_one_failure(first, place, wrong_server):
    uri = f"http://ada:secret@127.0.0.1:{wrong_server}"
    tracking.reachable(uri)
    started = time.monotonic()
    with pytest.raises(Failed, match="did not take the release") as failed:
        tracking.track(first[0], replace(place, tracking_uri=uri), "champion")
    assert time.monotonic() - started < 8
    assert "secret" not in str(failed.value)


def test_a_file_that_is_no_database_fails_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Failed, match="does not answer"):
        tracking.reachable(f"sqlite:///{tmp_path}/mlflow.db")
    tracking.reachable(f"sqlite:///{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()


def test_text_inputs_and_free_dimensions_have_a_signature():
    specs = (TensorSpec(name="words", dtype="str", shape=(None, None)), TensorSpec(name="one", dtype="int64", shape=(1,)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = tracking._signature(Signature(inputs=specs, outputs=specs)).to_dict()
    assert shown["inputs"] == shown["outputs"]
    assert "[-1, -1]" in shown["inputs"]
