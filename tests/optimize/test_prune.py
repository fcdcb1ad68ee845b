"""Zeros without training: which weights, how many, and what is refused. What trains on is in tests/pytorch."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import helper, numpy_helper

from shipworthy import check, optimize
from shipworthy.backends import torch
from shipworthy.backends.notes import notes
from shipworthy.backends.weights import sparsity_percent
from shipworthy.errors import Refused
from shipworthy.optimize.int8 import Int8Dynamic
from shipworthy.optimize.nodes import outline
from shipworthy.optimize.prune import Prune, Schedule, StructuredPrune
from shipworthy.records import Target
from shipworthy.settings import OptimizeSettings


def weights(path):
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def tuning(original):
    return torch.Tuning(Path("m.safetensors"), original, "/anywhere/train.py:fine_tune", 10, "c" * 64)


def test_the_smallest_weights_of_all_layers_become_zero(cnn, saved, images, answers, tmp_path):
    path, result = saved(cnn), tmp_path / "pruned.onnx"
    step = Prune()
    assert step.requires(path, Target(), None) == ""
    step.apply(path, result, None)
    before, after = weights(path), weights(result)
    assert sparsity_percent(path) == 0
    assert sparsity_percent(result) == pytest.approx(70, abs=0.1)
    assert sparsity_percent(result) >= 70
    assert float(notes(outline(result))["sparsity_percent"]) == pytest.approx(70, abs=0.1)
    kept = [np.abs(before[name][after[name] != 0]) for name in before if before[name].ndim > 1]
    gone = [np.abs(before[name][after[name] == 0]) for name in before if before[name].ndim > 1]
    assert np.concatenate(gone).max() <= np.concatenate(kept).min()
    assert len({round((after[name] == 0).mean(), 2) for name in after if after[name].ndim > 1}) > 2, "of all layers together"
    for name in before:
        if before[name].ndim == 1:
            np.testing.assert_array_equal(after[name], before[name])
        else:
            np.testing.assert_array_equal(after[name][after[name] != 0], before[name][after[name] != 0])
    assert answers(result, images)["logits"].shape == (40, 10)
    assert len(gzip.compress(result.read_bytes(), 6)) < 0.5 * len(gzip.compress(path.read_bytes(), 6))


def test_the_same_model_gives_the_same_bytes_and_options_say_how(cnn, saved, tmp_path):
    path = saved(cnn)
    for name in ("one", "two"):
        Prune(schedule=Schedule(final=0.4)).apply(path, tmp_path / name, None)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sparsity_percent(tmp_path / "one") == pytest.approx(40, abs=0.1)
    assert Prune().options == {"method": "one shot", "final": 0.7}
    assert Prune(tuning("d")).options == {
        "method": "fine-tuned", "initial": 0.3, "final": 0.7, "power": 3.0, "begin": 0.0, "end": 0.5,
        "fine_tune": "train.py:fine_tune", "steps": 10, "code": "c" * 64,
    }  # fmt: skip
    assert StructuredPrune(tuning("d"), 0.25).options["share"] == 0.25


def test_zeros_on_top_of_others_and_beside_what_stays(onnx_model, saved, tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "s"], ["y"])]
    random = np.random.default_rng(0)
    dense = {"w": random.normal(size=(4, 4)).astype(np.float32), "s": np.ones(4, np.float32)}
    path = saved(onnx_model(nodes, [("x", "float32", [None, 4])], [("y", "float32", [None, 4])], dense))
    Prune(schedule=Schedule(final=0.5)).apply(path, tmp_path / "half.onnx", None)
    Prune(schedule=Schedule(final=0.75)).apply(tmp_path / "half.onnx", tmp_path / "more.onnx", None)
    half, more = weights(tmp_path / "half.onnx")["w"], weights(tmp_path / "more.onnx")["w"]
    assert ((half == 0).sum(), (more == 0).sum()) == (10, 15), "of 20 numbers in all"
    assert (more[half == 0] == 0).all()
    with pytest.raises(Refused, match="too few") as caught:
        Prune(schedule=Schedule(final=0.95)).apply(path, tmp_path / "all.onnx", None)
    assert "80.0 % zero" in caught.value.found
    assert not (tmp_path / "all.onnx").exists()


def test_what_cannot_be_pruned_is_a_reason(cnn, onnx_model, saved, tmp_path):
    path = saved(cnn)
    Int8Dynamic().apply(path, tmp_path / "int8.onnx", None)
    assert "quantized already" in Prune().requires(tmp_path / "int8.onnx", Target(), None)
    plain = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [("x", "float32", [None, 4])], [("y", "float32", [None, 4])])
    assert "no float weights" in Prune().requires(saved(plain, "plain.onnx"), Target(), None)
    assert "fine_tune under [optimize]" in StructuredPrune().requires(path, Target(), None)
    for step in (Prune(tuning("other")), StructuredPrune(tuning("other"))):
        assert "first pass of a chain" in step.requires(path, Target(), None)


shares = st.floats(0, 1)


@given(shares, shares, shares, shares, st.floats(1, 5), st.integers(1, 500))
def test_a_schedule_never_falls_and_ends_where_it_should(initial, final, begin, end, power, steps):
    plan = Schedule(min(initial, final), max(initial, final), power, min(begin, end), max(begin, end))
    found = [plan.at(step, steps) for step in range(1, steps + 1)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(plan.final), "all training but the part before begin has ended"
    assert all(share == 0 or plan.initial - 1e-9 <= share <= plan.final + 1e-9 for share in found)


def test_a_schedule_follows_its_formula():
    plan = Schedule(0.3, 0.7, 3.0, begin=0.2, end=0.6)
    found = [plan.at(step, 10) for step in (1, 2, 3, 4, 5, 6, 10)]
    assert found == pytest.approx([0, 0.3, 0.53125, 0.65, 0.69375, 0.7, 0.7])


def test_pruned_chains_come_last_and_int8_follows_them(cnn, saved, tmp_path):
    assert [one.name for one in optimize.pruned(OptimizeSettings(passes=("graph", "int8_static")), Target(), None)] == []
    wanted = OptimizeSettings(passes=("prune", "graph", "int8_static"))
    chains = {one.name: one.chain for one in optimize.pruned(wanted, Target(), tuning("d"))}
    assert {name: [step.name for step in chain] for name, chain in chains.items()} == {
        "prune": ["prune", "graph"],
        "prune_int8": ["prune", "graph", "int8_static"],
    }
    assert chains["prune"][0].tuning == tuning("d")
    model = check.take_in(saved(cnn), "cnn", tmp_path / "models")
    wanted = OptimizeSettings(passes=("prune", "structured_prune", "graph"))
    made = optimize.run(model, Target(), None, (*wanted.passes, *optimize.pruned(wanted, Target(), None)))
    assert [one.name for one in made.variants][-1] == "prune"
    assert made.variants[-1].chain[0].options["method"] == "one shot"
    skipped = {one.name: one.reason for one in made.skips}
    assert "fine_tune under [optimize]" in skipped["structured_prune"]


def test_settings_say_how_much_goes_and_when():
    plain = OptimizeSettings(passes=("prune", "structured_prune"))
    narrow, zeros = (one.chain[0] for one in optimize.pruned(plain, Target(), tuning("d")))
    assert (zeros, narrow) == (Prune(tuning("d"), Schedule()), StructuredPrune(tuning("d"))), "both have the same defaults"
    assert (zeros.schedule.initial, zeros.schedule.final, zeros.schedule.power, narrow.share) == (0.3, 0.7, 3.0, 0.5)
    set_up = replace(
        plain,
        prune_initial_percent=10,
        prune_final_percent=60,
        prune_begin_percent=20,
        prune_end_percent=80,
        structured_prune_percent=25,
    )
    narrow, zeros = (one.chain[0] for one in optimize.pruned(set_up, Target(), tuning("d")))
    assert zeros.schedule == Schedule(initial=0.1, final=0.6, begin=0.2, end=0.8)
    assert narrow.share == 0.25


def test_a_share_from_the_settings_is_what_is_in_the_file(cnn, saved, tmp_path):
    """And a changed one meets no earlier result."""
    model = check.take_in(saved(cnn), "cnn", tmp_path / "models")
    kept = {}

    def remember(key, make):
        return kept.setdefault(json.dumps(key, sort_keys=True), make())

    for percent in (40, 80):
        wanted = OptimizeSettings(passes=("prune",), prune_final_percent=percent)
        made = optimize.run(model, Target(), None, tuple(optimize.pruned(wanted, Target(), None)), remember=remember)
        assert sparsity_percent(Path(made.variants[-1].path)) == pytest.approx(percent, abs=0.5)
    assert len(kept) == 2
