"""When a model of Keras 2 can train on, and when in its training weights become zero: all without TensorFlow."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from shipworthy import settings
from shipworthy.backends import tensorflow, tensorflow_prune
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.optimize.prune import Schedule
from shipworthy.records import Model, Signature, Source

SHARE = st.floats(0, 1)


@given(SHARE, SHARE, st.integers(1, 5000))
@example(1.0, 1.0, 10)
def test_the_last_look_is_a_whole_number_of_looks_behind_the_first(begin, end, steps):
    first, last, every = tensorflow_prune.steps_of(Schedule(begin=min(begin, end), end=max(begin, end)), steps)
    assert 0 <= first < last <= steps, "a step that is really made"
    assert 1 <= every <= tensorflow_prune.EVERY
    assert (last - first) % every == 0


def test_the_schedule_of_the_house_looks_every_ten_steps_of_its_first_half():
    assert tensorflow_prune.steps_of(Schedule(), 200) == (0, 100, 10)
    assert tensorflow_prune.steps_of(Schedule(begin=0.1, end=0.6), 210) == (21, 126, 7)
    assert tensorflow_prune.steps_of(Schedule(), 1) == (0, 1, 1)


@pytest.fixture
def job(tmp_path):
    """Settings and a model, of a file of that version of Keras."""

    def make(version="2.21.0", trust="true", fine_tune="train.py:tune", suffix=".keras"):
        path = tmp_path / f"model{suffix}"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        (tmp_path / "train.py").write_text("def tune(model, steps):\n    yield\n")
        (tmp_path / "shipworthy.toml").write_text(
            f'[model]\nname = "m"\npath = "{path.name}"\ntrust = {trust}\n'
            f'[optimize]\nfine_tune = "{fine_tune}"\nfine_tune_steps = 30\n[targets.here]\n'
        )
        source = Source(path=str(path), digest="a" * 64, framework="tensorflow", packages={})
        nothing = Signature(inputs=(), outputs=())
        model = Model(name="m", path="x", digest="b" * 64, signature=nothing, opset=18, ir_version=8, source=source)
        return settings.read(tmp_path), model

    return make


def test_a_model_of_keras_2_with_a_function_trains_on(job, tmp_path):
    wanted, model = job()
    found = tensorflow.tuning(wanted, model)
    code = file_digest(tmp_path / "train.py")
    assert found == tensorflow.Tuning(tmp_path / "model.keras", "b" * 64, f"{tmp_path}/train.py:tune", 30, code)
    assert found.options == {"fine_tune": "train.py:tune", "steps": 30, "code": code}
    (tmp_path / "train.py").write_text("def tune(model, steps):\n    yield 1\n")
    assert tensorflow.tuning(wanted, model).options != found.options, "other code, another result"


@pytest.mark.parametrize(
    "odd", [{"version": "3.15.1"}, {"trust": "false"}, {"fine_tune": ""}], ids=["Keras 3", "no trust", "no function"]
)
def test_other_models_do_not(job, odd):
    assert tensorflow.tuning(*job(**odd)) is None


def test_nor_does_a_model_of_another_framework(job):
    wanted, model = job()
    assert tensorflow.tuning(wanted, replace(model, source=replace(model.source, path="model.safetensors"))) is None


@pytest.mark.parametrize("spec", ["train.py", "train:tune", "train.py:", "train.py:a b"])
def test_a_function_that_is_no_name_is_refused(job, spec):
    with pytest.raises(Refused, match="names no function"):
        tensorflow.tuning(*job(fine_tune=spec))


def test_a_file_that_is_gone_is_refused(job):
    with pytest.raises(Refused, match="there is no file"):
        tensorflow.tuning(*job(fine_tune="gone.py:tune"))


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorflow_prune, "PACKAGES", ("sys", "optimization_of_nobody"))
    tuning = tensorflow.Tuning(tmp_path / "m.keras", "", "train.py:tune", 10, "")
    with pytest.raises(Refused) as caught:
        tensorflow_prune.sparse(tuning, Schedule(), Path("a"), Path("b"))
    assert "no module 'optimization_of_nobody'" in caught.value.found
    assert "pip install --no-deps tf-keras tensorflow-model-optimization" in caught.value.found
