"""A model out of a real MLflow store as the thing to check: fetched by its URI, with the lists that were logged with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shipworthy import check, tracking
from shipworthy.cli import cli
from shipworthy.errors import NotFound, Refused
from shipworthy.release import mlflow_fetch
from shipworthy.release.mlflow_model import fetch, file_of, name_of

# What people do with MLflow alone, in a process of its own.
LOG = """
import json, sys, warnings
warnings.simplefilter("ignore")
import lightgbm, mlflow, numpy as np, xgboost
from pathlib import Path
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
folder, uri = Path(sys.argv[1]), sys.argv[2]
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)
rows, labels = load_digits(return_X_y=True)
rows = rows.astype(np.float32)
pipeline = make_pipeline(MinMaxScaler(), LogisticRegression(max_iter=50)).fit(rows, labels)
packages = {"pip_requirements": ["scikit-learn", "numpy>=2"]}
made = {}
with mlflow.start_run(experiment_id=mlflow.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())) as run:
    made["run"] = run.info.run_id
    about = {"name": "safe", "registered_model_name": "digits"} | packages
    made["safe"] = mlflow.sklearn.log_model(pipeline, serialization_format="skops", **about).model_id
    mlflow.sklearn.log_model(pipeline, name="pickled", serialization_format="cloudpickle", **packages)
    trees = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(rows, labels)
    mlflow.xgboost.log_model(trees, name="xgb", **packages)
    leaves = {"objective": "multiclass", "num_class": 10, "verbose": -1, "num_threads": 1}
    mlflow.lightgbm.log_model(lightgbm.train(leaves, lightgbm.Dataset(rows, labels), 3), name="lgb", **packages)
    mlflow.pyfunc.log_model(name="own", python_model=lambda model_input: model_input, **packages)
    mlflow.log_dict({"no": "model"}, "notes/a.json")
mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
np.savez(folder / "rows.npz", X=rows[:200], y=labels[:200])
(folder / "made.json").write_text(json.dumps(made))
"""


@dataclass(frozen=True)
class Store:
    """'digits@champion' and models of a run; rows of digits to check them on."""

    uri: str
    folder: Path
    run: str
    safe: str


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", LOG, folder, uri], check=True, capture_output=True, env=environment, timeout=240)
    made = json.loads((folder / "made.json").read_text())
    return Store(uri, folder, made["run"], made["safe"])


@pytest.fixture
def tracked(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    return store


def test_check_takes_a_uri_and_reads_the_lists_that_were_logged(tracked, tmp_path):
    home = tmp_path / "home"
    arguments = ["models:/digits@champion", "--data", str(tracked.folder / "rows.npz"), "--workspace", str(home), "--json"]
    done = CliRunner().invoke(cli, ["check", *arguments])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["name"] == "digits"
    assert said["model"]["source"]["path"].endswith("/model.skops")
    assert said["model"]["source"]["framework"] == "scikit-learn"
    assert said["report"]["findings"]
    folder = Path(said["model"]["source"]["path"]).parent
    settings = tracking.settings_of("models:/digits/1", home, {"model.name": "other"})
    assert [Path(one).name for one in settings.check.environment] == ["requirements.txt", "conda.yaml", "python_env.yaml"]
    assert settings.check.environment[0] == str(folder / "requirements.txt")
    assert (Path(settings.folder), settings.model.name) == (folder, "other")
    assert list((home / "fetched").iterdir()) == [folder], "the same content was brought twice"


@pytest.mark.parametrize(
    ("path", "file", "trust"), [("pickled", "model.pkl", True), ("xgb", "model.ubj", False), ("lgb", "model.lgb", False)]
)
def test_models_of_a_run_are_taken_in_and_answer_the_same(store, tmp_path, path, file, trust):
    found = fetch(store.uri, f"runs:/{store.run}/{path}", tmp_path / "fetched")
    assert (found.name, found.path.name) == (path, file)
    assert found.path.parent.parent == tmp_path / "fetched"
    model = check.take_in(found.path, found.name, tmp_path / "models", trust=trust)
    rows = {"X": np.load(store.folder / "rows.npz")["X"]}
    framework = check.reference(model, trust=trust)
    assert framework
    assert len(framework(rows)) == 2
    if trust:
        with pytest.raises(Refused, match="pickle"):
            check.take_in(found.path, found.name, tmp_path / "models")


@pytest.mark.parametrize(
    "uri",
    [
        "models:/digits@nope",
        f"runs:/{'0' * 32}/m",
        *(pytest.param(uri, marks=pytest.mark.slow) for uri in ("models:/nope@champion", "models:/digits/9", "models:/m-0123")),
    ],
)
def test_what_is_not_there_is_told(store, tmp_path, uri):
    with pytest.raises(NotFound, match="has nothing at") as missing:
        fetch(store.uri, uri, tmp_path / "fetched")
    assert missing.value.found
    assert list((tmp_path / "fetched").iterdir()) == []


def test_what_is_no_model_and_what_is_of_another_kind_is_refused(store, tmp_path):
    with pytest.raises(Refused, match="is no model of MLflow's"):
        fetch(store.uri, f"runs:/{store.run}/notes", tmp_path / "fetched")
    with pytest.raises(Refused, match="of a kind that is not taken in") as refused:
        fetch(store.uri, f"runs:/{store.run}/own", tmp_path / "fetched")
    assert refused.value.found == "flavors: python_function"


def test_without_mlflow_the_extra_is_named(tracked, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_fetch, "available", lambda: False)
    with pytest.raises(Refused, match="not installed") as refused:
        tracking.settings_of("models:/digits@champion", tmp_path / "home", {})
    assert refused.value.next == "pip install 'shipworthy[mlflow]'"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("models:/digits@champion", "digits"),
        ("models:/my digits/12", "my-digits"),
        ("models:/m-0a1b", "m-0a1b"),
        (f"runs:/{'a' * 32}/model", "model"),
        (f"runs:/{'a' * 32}/deep/er.model", "er.model"),
    ],
)
def test_names(uri, name):
    assert name_of(uri) == name


@pytest.mark.parametrize(
    "uri",
    [
        *("models:/", "models:digits@x", "models:/a/b/c", "models:/a@b@c", "models:/a\n@b", "models:/it's@x"),
        *("runs:/1/model", f"runs:/{'a' * 32}", f"runs:/{'a' * 32}/../x", f"runs:/{'a' * 32}//x", "s3://bucket/model"),
    ],
)
def test_what_is_no_uri_of_a_model_is_refused(uri):
    with pytest.raises(Refused, match="no model in MLflow"):
        name_of(uri)


@pytest.mark.parametrize(
    ("flavors", "files", "expected"),
    [
        ({"keras": {"data": "data"}}, ["data/model.keras"], "data/model.keras"),
        ({"tensorflow": {"saved_model_dir": "tf2model"}}, ["tf2model/saved_model.pb"], "tf2model"),
        ({"tensorflow": {"data": "data"}}, ["data/model/saved_model.pb"], "data/model"),
        ({"tensorflow": {"data": "data"}}, ["data/model.keras"], "data/model.keras"),
        ({"pytorch": {"model_data": "data"}}, ["data/model.pt2"], "data/model.pt2"),
        ({"pytorch": {"model_data": "data"}}, ["data/model.pth"], "data/model.pth"),
        ({"python_function": {}, "onnx": {"data": "model.onnx"}}, ["model.onnx", "w"], "model.onnx"),
    ],
)
def test_which_file_is_the_model(tmp_path, flavors, files, expected):
    for one in files:
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).write_bytes(b"x")
    found = file_of(tmp_path, flavors, "models:/a/1")
    assert found == tmp_path / expected
    if expected.endswith(".pth"):
        with pytest.raises(Refused, match="is a pickle of PyTorch's") as refused:
            check.take_in(found, "n", tmp_path / "models")
        assert "safetensors.torch.save_file" in refused.value.next


@pytest.mark.parametrize("named", ["../secret", "/etc/passwd", "gone.onnx", ""])
def test_a_flavor_that_names_a_file_elsewhere_is_refused(tmp_path, named):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "home").mkdir()
    with pytest.raises(Refused, match="not whole"):
        file_of(tmp_path / "home", {"onnx": {"data": named}}, "models:/a/1")


def test_a_logged_model_is_found_by_its_id_and_the_callers_process_never_imports_mlflow(store, tmp_path):
    code = (
        "import sys; from pathlib import Path; from shipworthy.release.mlflow_model import fetch\n"
        f"found = fetch({store.uri!r}, 'models:/{store.safe}', Path({str(tmp_path)!r}))\n"
        "assert found.path.name == 'model.skops' and found.path.is_file()\n"
        "assert not {'mlflow', 'onnx', 'pandas'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
