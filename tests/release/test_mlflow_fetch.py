"""Models out of a real MLflow store, as people log them: fetched once, by a child; what is not ONNX or not there is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy.errors import Failed, NotFound, Refused
from shipworthy.release import mlflow_fetch
from shipworthy.release.mlflow_fetch import fetch

# What people do with MLflow alone, in a process of its own: MLflow keeps where it logs to for as long as a process lives.
LOG = """
import sqlite3, sys, mlflow
from pathlib import Path
from onnx import load
folder, uri = Path(sys.argv[1]), sys.argv[2]
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)
about = {"registered_model_name": "iris", "pip_requirements": ["onnx"]}
with mlflow.start_run(experiment_id=mlflow.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())):
    mlflow.onnx.log_model(load(folder / "1.onnx"), name="m", save_as_external_data=False, **about)
    mlflow.onnx.log_model(load(folder / "2.onnx"), name="m", save_as_external_data=True, **about)
    mlflow.pyfunc.log_model(name="p", python_model=lambda model_input: model_input, **about)
client = mlflow.MlflowClient()
client.set_registered_model_alias("iris", "champion", "1")
client.set_model_version_tag("iris", "1", "shipworthy.bundle", "d" * 64)
client.create_model_version("iris", client.get_model_version("iris", "1").source)
database = sqlite3.connect(folder / "mlflow.db")
database.execute("UPDATE model_versions SET status = 'PENDING_REGISTRATION' WHERE version = 4")
database.commit()
"""


def model(seed: int) -> onnx.ModelProto:
    """Y = X W, the weights large enough to lie in a file of their own where that is wanted."""
    weights = np.random.default_rng(seed).random((4, 300)).astype("float32")
    tensor = helper.make_tensor("W", TensorProto.FLOAT, [4, 300], weights.tobytes(), raw=True)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n, size in (("X", 4), ("Y", 300))]
    graph = helper.make_graph([helper.make_node("MatMul", ["X", "W"], ["Y"])], "g", ends[:1], ends[1:], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@dataclass(frozen=True)
class Store:
    """'iris': versions 1 and 2 are ONNX, 2 with its weights in a file beside it; 3 is of another kind, 4 half-made."""

    uri: str

    def point(self, alias: str, version: str) -> None:
        run(
            "import sys, mlflow\n"
            "mlflow.MlflowClient(sys.argv[1], sys.argv[1]).set_registered_model_alias('iris', *sys.argv[2:])",
            *(self.uri, alias, version),
        )


def run(code: str, *arguments: object) -> None:
    env = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, env=env, timeout=120)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    for seed in (1, 2):
        onnx.save(model(seed), folder / f"{seed}.onnx")
    run(LOG, folder, uri)
    return Store(uri)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fetched")


def test_an_alias_brings_its_version_and_later_moves_on(store, folder):
    got = fetch(store.uri, "iris", ["champion"], folder)
    assert (got.numbers, got.aliases) == ((1, 2, 3), {"champion": 1})
    (file,) = got.files.values()
    assert list(got.files) == [1]
    assert file.bundle == "d" * 64
    assert onnx.load(file.path) == model(1)
    assert [path.name for path in folder.iterdir()] == [Path(file.path).parent.name]
    store.point("champion", "2")
    got = fetch(store.uri, "iris", ["champion", "1"], folder)
    store.point("champion", "1")
    assert got.aliases == {"champion": 2}
    assert got.files[1] == file
    assert got.files[2].bundle == ""
    bare = onnx.load(got.files[2].path, load_external_data=False).graph.initializer[0]
    assert bare.data_location == TensorProto.EXTERNAL
    weights = onnx.load(got.files[2].path).graph.initializer[0]  # those beside it have come too
    np.testing.assert_array_equal(numpy_helper.to_array(weights), numpy_helper.to_array(model(2).graph.initializer[0]))


def test_what_was_fetched_is_not_fetched_again_and_old_scraps_go(store, folder):
    (first,) = fetch(store.uri, "iris", ["1"], folder).files.values()
    (folder / "draft-old").mkdir()
    os.utime(folder / "draft-old", (0, 0))
    artifacts = Path(store.uri.removeprefix("sqlite:///")).with_name("artifacts")
    artifacts.rename(artifacts.with_name("away"))
    try:
        assert fetch(store.uri, "iris", ["1"], folder).files == {1: first}
    finally:
        artifacts.with_name("away").rename(artifacts)
    assert not list(folder.glob("draft-*"))


def test_two_at_a_time_meet_in_the_same_folder(store, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(store.uri, "iris", ["1"], tmp_path), range(2))
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [Path(first.files[1].path).parent.name]


def test_another_kind_of_model_is_refused_and_leaves_nothing(store, tmp_path):
    with pytest.raises(Refused, match="version 3 of 'iris' in MLflow is not an ONNX model") as refused:
        fetch(store.uri, "iris", ["3"], tmp_path)
    assert not isinstance(refused.value, NotFound)
    assert refused.value.found == "flavors: python_function"
    assert "mlflow.onnx.log_model" in refused.value.next
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "wanted", "what", "found"),
    [
        ("iris", "nope", "has no alias 'nope'", "versions: 1, 2, 3; aliases: champion"),
        ("iris", "9", "has no version '9'", "versions: 1, 2, 3; aliases: champion"),
        ("digits", "1", "has no model 'digits'", "models: iris"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(store, folder, name, wanted, what, found):
    with pytest.raises(NotFound) as missing:
        fetch(store.uri, name, [wanted], folder)
    assert what in missing.value.what
    assert missing.value.found == found


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("models:/iris@champion", ("iris", "champion")),
        ("models:/my iris/12", ("my iris", "12")),
    ],
)
def test_uris(uri, parts):
    assert mlflow_fetch.parts(uri) == parts


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "models:/iris",
            "models:/m-0123",
            "models:/iris/0",
            "models:/iris/latest",
            "models:/a/b/c",
            "models:iris@x",
            "models:/@x",
        ),
        *("models:/it's@x", "models:/a@b@c", "models:/a\n@b", "runs:/1/model", "models:/a/01"),
    ],
)
def test_what_is_no_uri_of_a_model_is_refused(uri):
    with pytest.raises(Refused) as refused:
        mlflow_fetch.parts(uri)
    assert refused.value.expected == "models:/NAME@ALIAS or models:/NAME/VERSION"


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(NotFound, match="nothing is logged to MLflow yet"):
        fetch(f"sqlite:///{tmp_path}/mlflow.db", "iris", ["1"], tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_can_do_nothing_is_one_failure_in_bounded_time(tmp_path, wrong_server):
    began = time.monotonic()
    with pytest.raises(Failed, match="did not give 'iris'") as failed:
        fetch(f"http://ada:secret@127.0.0.1:{wrong_server}", "iris", ["1"], tmp_path)
    assert time.monotonic() - began < 30
    assert "secret" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(Failed, match="does not answer"):
        fetch("http://127.0.0.1:9", "iris", ["1"], tmp_path)


def test_without_mlflow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_fetch, "available", lambda: False)
    with pytest.raises(Refused, match="not installed") as refused:
        fetch("http://127.0.0.1:9", "iris", ["1"], tmp_path)
    assert "pip install 'shipworthy[mlflow]'" in refused.value.next


def test_a_child_that_dies_or_hangs_is_a_failure(store, tmp_path, monkeypatch):
    def instead(code):
        real = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda _, **options: real([sys.executable, "-c", code], **options))

    with monkeypatch.context():
        instead("import sys; sys.exit('out of memory')")
        with pytest.raises(Failed, match="died") as failed:
            fetch(store.uri, "iris", ["1"], tmp_path)
        assert failed.value.found == "out of memory"
    monkeypatch.undo()
    monkeypatch.setattr(mlflow_fetch, "SECONDS", 0.3)
    instead("import time; time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(Failed, match="did not give 'iris' in"):
        fetch(store.uri, "iris", ["1"], tmp_path)
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def test_old_drafts_of_killed_processes_go_and_young_ones_stay(tmp_path):
    for name, age in (("draft-old", 100_000), ("draft-young", 100)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    mlflow_fetch._sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["draft-young"]


def test_the_callers_process_never_imports_mlflow(store, folder):
    code = (
        "import sys; from pathlib import Path; from shipworthy.release.mlflow_fetch import fetch\n"
        f"fetch({store.uri!r}, 'iris', ['1'], Path({str(folder)!r}))\n"
        "assert not {'mlflow', 'onnx', 'pandas'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
