"""A model of Keras 2, pruned while it trains: how sparse it is, and how good."""

from __future__ import annotations

import gzip
from pathlib import Path

import onnx
import pytest

from shipworthy.backends.tensorflow import Tuning
from shipworthy.backends.weights import sparsity_percent
from shipworthy.errors import Refused
from shipworthy.optimize import apart
from shipworthy.optimize.prune import Prune, Schedule
from shipworthy.records import Target

TRAIN = Path(__file__).parent / "train.py"
STEPS = 200


@pytest.fixture
def prune(models, take, tmp_path, monkeypatch):
    """Prune one of the models in the process that passes run in; gives the ONNX before and after."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from sparse_step import Sparse  # noqa: PLC0415 - by the name that the child imports it by

    def make(name, fine_tune="fine_tune", schedule=None, steps=STEPS):
        model = take(name)
        tuning = Tuning(models.folder / name, model.digest, f"{TRAIN}:{fine_tune}", steps, "")
        result = tmp_path / "made" / "pruned.onnx"
        result.parent.mkdir()
        promise = (model.signature, Target())
        apart.run(apart.Job(Sparse(tuning, schedule or Schedule()), Path(model.path), result, None, promise), 200)
        return Path(model.path), result

    return make


def test_seventy_percent_are_zero_at_98_percent_of_the_accuracy(models, prune):
    before, after = prune("old.keras")
    assert sparsity_percent(before) < 1
    assert 70 <= sparsity_percent(after) <= 72
    rows = {"pixels": models.rows}
    assert models.right(after, rows) >= 0.98 * models.right(before, rows)
    small, large = (len(gzip.compress(path.read_bytes(), 6)) for path in (after, before))
    assert small < 0.5 * large, "storage is what zeros gain"
    assert [one.version for one in onnx.load(after).opset_import] == [18]


def test_the_final_share_is_reached_at_a_step_that_no_fixed_interval_hits(prune):
    _, after = prune("old.keras", schedule=Schedule(final=0.5, begin=0.1, end=0.5), steps=46)
    assert 50 <= sparsity_percent(after) <= 52


def test_a_step_need_not_be_one_call_of_the_model(prune):
    _, after = prune("old.keras", "seldom", Schedule(final=0.5), steps=40)
    assert 50 <= sparsity_percent(after) <= 52


def test_training_that_ends_in_nan_is_refused(prune):
    with pytest.raises(Refused, match="training has ended in numbers that are not finite"):
        prune("old.keras", "diverges", steps=3)


def test_a_model_with_too_few_weights_is_refused(prune):
    with pytest.raises(Refused, match="too few of the model's numbers are weights that can be zero") as caught:
        prune("few.keras")
    assert "in 1 layers Conv or Dense" in caught.value.found


def test_a_model_of_keras_3_does_not_train_on_and_has_one_shot(prune, take, tmp_path):
    with pytest.raises(Refused, match=r"conv\.keras cannot be loaded"):
        prune("conv.keras")
    model, result = Path(take("conv.keras", trust=False).path), tmp_path / "shot.onnx"
    assert Prune().requires(model, Target(), None) == ""
    Prune().apply(model, result, None)
    assert 69 <= sparsity_percent(result) <= 71, "the weights are what is counted there"
