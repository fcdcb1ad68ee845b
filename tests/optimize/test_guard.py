"""The accuracy guard: the worst nodes stay float, as few as the limit needs; what is worst is seen node by node."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from shipworthy.optimize import apart, guard
from shipworthy.optimize.damage import Damage, Found
from shipworthy.optimize.int8 import Int8Static
from shipworthy.protocols import Quiet
from shipworthy.records import Made, Variant

LATE = 1e18


def found(count):
    """Nodes n0 … with ever less noise, each a group of its own."""
    names = [f"n{place}" for place in range(count)]
    return Found({name: 10.0 * place for place, name in enumerate(names)}, {}, {name: (name,) for name in names})


def variant(name):
    return Variant(name=name, path="", digest="d", parent="p", chain=(), devices=("cpu",), size_mb=1.0)


class Tries:
    """Accurate when all of the nodes that must be are float; remembers what was asked."""

    def __init__(self, needed):
        self.needed = set(needed)
        self.asked = []

    def __call__(self, step):
        self.asked.append(set(step.float_nodes))
        ok = self.needed <= self.asked[-1]
        return Made(variant=variant("v")), "" if ok else "inaccurate", not ok


@given(st.integers(4, 40), st.sets(st.integers(0, 9), min_size=1, max_size=3))
@settings(deadline=None)
def test_what_is_kept_in_float_holds_the_limit_and_is_little_more_than_needed(count, places):
    needed = {f"n{place}" for place in places}
    tries = Tries(needed)
    made, reason = guard.repair(Int8Static(), found(count), tries, LATE, Quiet())
    worst = max(places) + 1
    if 2 ** (worst - 1).bit_length() > count // 2:
        assert made.variant is None
        assert "did not reach the limit" in made.reason
        return
    assert reason == ""
    (note,) = made.variant.notes
    kept = {part.split(" ")[0] for part in note.split(": ")[1].split(", ")}
    assert needed <= kept
    assert len(kept) <= max(len(needed), 2 ** (worst - 1).bit_length() - guard.MOST_BACK + len(needed))
    assert len(tries.asked) <= 6 + guard.MOST_BACK


def test_a_group_goes_together():
    damage = Found({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, {}, {"a": ("a", "b"), "b": ("b",), "c": ("c",), "d": ("d",)})
    tries = Tries({"a", "b"})
    guard.repair(Int8Static(), damage, tries, LATE, Quiet())
    assert tries.asked == [{"a", "b"}]


def test_a_variant_that_is_refused_for_something_else_ends_it():
    made, reason = guard.repair(Int8Static(), found(8), lambda _: (Made(variant=variant("v")), "slower", False), LATE, Quiet())
    assert reason == "slower"
    made, reason = guard.repair(Int8Static(), found(8), lambda _: (Made(reason="broken"), "", False), LATE, Quiet())
    assert (made.variant, reason) == (None, "broken")


def test_without_time_nothing_is_tried():
    made, _ = guard.repair(Int8Static(), found(8), Tries(set()), time.monotonic() - 1, Quiet())
    assert made.reason == "the accuracy guard did not reach the limit in the time that was left"


# ---------------------------------------------------------------- what INT8 does to a node


@pytest.fixture
def layers(onnx_model):
    """Five layers; the third gives two values that are 3000 times the others, which the fourth weighs accordingly."""
    random = np.random.default_rng(0)
    weights = {f"w{i}": (random.normal(size=(32, 32)) * (2 / 32) ** 0.5).astype(np.float32) for i in range(5)}
    weights["w2"][:, [3, 7]] *= 3000
    weights["w3"][[3, 7]] /= 3000
    nodes, last = [], "x"
    for i in range(5):
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"g{i}"], name=f"layer{i}"))
        nodes.append(helper.make_node("Relu", [f"g{i}"], [f"r{i}"], name=f"relu{i}"))
        last = f"r{i}"
    return onnx_model(nodes, [("x", "float32", [None, 32])], [("r4", "float32", [None, 32])], weights, opset=17)


@pytest.mark.parametrize("types", ["u8s8", "u8s8_reduced", "s8s8", "s8s8_symmetric"])
def test_the_layer_that_suffers_is_found_and_not_those_behind_it(layers, tmp_path, types):
    model, result = tmp_path / "m.onnx", tmp_path / "found.json"
    onnx.save(layers, model)
    rows = {"x": np.random.default_rng(1).normal(size=(100, 32)).astype(np.float32)}
    apart.run(apart.Job(Damage(Int8Static(types)), model, result, rows), 60)
    seen = msgspec.json.decode(result.read_bytes(), type=Found)
    worst, *others = seen.snr_db
    assert worst == "layer3"
    assert seen.snr_db["layer3"] < 15
    assert all(seen.snr_db[name] > 25 for name in others)
    between = () if types == "s8s8_symmetric" else ("relu2",)  # TensorRT takes a Relu into the layer before it
    assert seen.groups["layer3"] == ("layer2", "layer3", *between)
    low, high = seen.ranges["r2"]
    assert low == 0
    assert high > 1000


def test_a_node_that_reads_constants_only_or_unknown_ranges_has_no_figure(onnx_model, tmp_path):
    weights = {"a": np.ones((2, 2), np.float32), "b": np.ones((2, 2), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["c"], name="constant"),
        helper.make_node("MatMul", ["x", "c"], ["y"], name="real"),
    ]
    proto = onnx_model(nodes, [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], weights, opset=17)
    onnx.save(proto, tmp_path / "m.onnx")
    Damage(Int8Static()).apply(tmp_path / "m.onnx", tmp_path / "out.json", {"x": np.ones((4, 2), np.float32)})
    assert b'"real"' in Path(tmp_path / "out.json").read_bytes()
