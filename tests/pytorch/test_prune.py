"""Pruned while it trains: how sparse or narrow it is, how good, and how fast; on the vision example and small modules."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace

from shipworthy import measure, optimize
from shipworthy.backends import torch as backend
from shipworthy.backends import torch_prune
from shipworthy.backends.notes import notes
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.backends.weights import sparsity_percent
from shipworthy.errors import Refused
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Static
from shipworthy.optimize.nodes import outline
from shipworthy.optimize.prune import Prune, Schedule, StructuredPrune
from shipworthy.records import Target
from shipworthy.settings import MeasureSettings


def accuracy(vision, path):
    answers = OnnxRuntimeRunner(Path(path), Target()).run(vision.evaluation.inputs)["output"]
    return 100 * float((answers.argmax(1) == vision.evaluation.labels).mean())


@pytest.fixture(scope="module")
def structured(vision):
    """The example with half of its channels."""
    return vision.make(StructuredPrune(vision.tuning))


def test_seventy_percent_of_the_example_are_zero_at_98_percent_of_its_accuracy(vision):
    first = optimize.original(vision.model)
    pruned = vision.make(Prune(vision.tuning), Graph())
    assert [step.name for step in pruned.chain] == ["prune", "graph"]
    options = pruned.chain[0].options
    assert (options["method"], options["initial"], options["final"], options["power"]) == ("fine-tuned", 0.3, 0.7, 3.0)
    assert options["fine_tune"] == "train.py:fine_tune", "no place on this machine"
    assert 70 <= sparsity_percent(Path(pruned.path)) <= 72
    assert 70 <= float(notes(outline(Path(pruned.path)))["sparsity_percent"]) <= 72
    assert accuracy(vision, pruned.path) >= 0.98 * vision.accuracy
    before, after = (len(gzip.compress(Path(one.path).read_bytes(), 6)) for one in (first, pruned))
    assert after < 0.5 * before, "storage is what zeros gain"


def test_half_the_channels_are_faster_at_98_percent_of_the_accuracy(vision, structured):
    variants = [optimize.original(vision.model), replace(structured, name="structured_prune")]
    for batch in (1, 32):
        settings = MeasureSettings(processes=2, repeats=3, repeat_seconds=0.2, batch_rows=batch)
        original, narrow = measure.run(vision.model, variants, Target(), settings, vision.evaluation, "").evidence
        assert narrow.figure("throughput_rps").median >= 1.5 * original.figure("throughput_rps").median, batch
    assert narrow.figure("latency_ratio").median <= 1 / 1.5
    assert accuracy(vision, structured.path) >= 0.98 * vision.accuracy
    assert "stem.0.weight: 16 to 8" in notes(outline(Path(structured.path)))["channels"]
    assert structured.size_mb < 0.3 * variants[0].size_mb


def test_int8_comes_on_top_of_fewer_channels(vision, structured):
    both = vision.make(StructuredPrune(vision.tuning), Graph(), Int8Static("u8s8"))
    assert [step.name for step in both.chain] == ["structured_prune", "graph", "int8_static"]
    assert both.chain[0] == structured.chain[0]
    assert accuracy(vision, both.path) >= 0.98 * vision.accuracy
    assert both.size_mb < 0.1 * optimize.original(vision.model).size_mb


def test_pruning_has_to_come_first(vision, structured):
    first = optimize.original(vision.model)
    for step in (Prune(vision.tuning), StructuredPrune(vision.tuning)):
        assert "first pass" in step.requires(Path(structured.path), Target(), None)
        assert step.requires(Path(first.path), Target(), None) == ""


CODE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def make():
    return Net()


seen = []


def tune(model, steps):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for step in range(steps):
        loss = model(torch.randn(16, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield
        weights = torch.cat([one.flatten() for one in model.parameters()])
        seen.append(int((weights == 0).sum()))


def raising(model, steps):
    yield
    raise ValueError("no more rows")


def early(model, steps):
    yield


def diverging(model, steps):
    for _ in range(steps):
        model.a.weight.data.fill_(float("nan"))
        yield


def endless(model, steps):
    yield from tune(model, steps)
    while True:
        yield


def silent(model, steps):
    return None
"""


@pytest.fixture
def small(project, tmp_path, onnx_model):
    """A small module, an ONNX file of the operator set that is wanted, and how it trains on with a function of ``CODE``."""
    path, recipe = project(CODE)
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    onnx.save(onnx_model(nodes, [("x", "float32", [None, 3])], [("y", "float32", [None, 3])]), tmp_path / "first.onnx")

    def tuned(name, steps=40):
        fine_tune = f"{recipe.factory.rpartition(':')[0]}:{name}"
        return backend.Tuning(path, "d" * 64, fine_tune, steps, "c", recipe)

    return tmp_path, tuned


@pytest.mark.parametrize("name", ["tune", "endless"])
def test_zeros_follow_the_schedule_and_stay(small, name):
    folder, tuned = small
    tuning, schedule = tuned(name), Schedule()
    torch_prune.sparse(tuning, lambda step: schedule.at(step, 40), folder / "first.onnx", folder / "pruned.onnx")
    from shipworthy.backends.fine_tune import function  # noqa: PLC0415

    seen = function(tuning.fine_tune).__globals__["seen"]
    count = 3 * 64 + 64 + 64 * 4 + 4
    assert len(seen) >= 39, "what the user's function finds after a step"
    shares = [one / count for one in seen[:39]]
    assert shares[:9] == [0] * 9, "the first look is after ten steps"
    for step in (10, 20, 30):
        assert shares[step - 1] == pytest.approx(schedule.at(step, 40), abs=0.01)
        assert shares[step : step + 8] == [shares[step - 1]] * 8, "masks are applied after every step"
    assert shares[-1] == pytest.approx(0.7, abs=0.01)
    proto = onnx.load(folder / "pruned.onnx")
    assert sparsity_percent(folder / "pruned.onnx") >= 70
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    assert all(np.count_nonzero(arrays[name]) for name in ("a.bias", "b.bias")), "biases are not pruned"


@pytest.mark.parametrize(
    ("name", "what", "found"),
    [
        ("raising", "failed after 1 steps", "ValueError: no more rows"),
        ("early", "stopped early", "1 steps"),
        ("diverging", "not finite", "a.weight"),
        ("silent", "failed after 0 steps", "NoneType"),
        ("missing", "has no function", ""),
    ],
)
def test_training_that_goes_wrong_is_refused(small, name, what, found):
    folder, tuned = small
    for run in (
        lambda: torch_prune.sparse(tuned(name), lambda _: 0.5, folder / "first.onnx", folder / "pruned.onnx"),
        lambda: torch_prune.narrow(tuned(name), 0.5, folder / "first.onnx", folder / "pruned.onnx"),
    ):
        with pytest.raises(Refused, match=what) as caught:
            run()
        assert found in caught.value.found
    assert not (folder / "pruned.onnx").exists()


def test_the_largest_weights_of_all_layers_stay():
    weights = [torch.tensor([[0.1, -3.0], [0.2, 2.0]]), torch.tensor([[-0.3, 0.15, 5.0]])]
    masks = torch_prune._masks(weights, 4)
    assert [one.tolist() for one in masks] == [[[0, 1], [0, 1]], [[0, 0, 1]]]
    assert sum(int((one == 0).sum()) for one in torch_prune._masks(weights, 100)) == 7
