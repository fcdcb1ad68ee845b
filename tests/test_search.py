"""The whole search: what each variant is judged by, and a model that INT8 breaks and the accuracy guard brings back."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy import check, measure, optimize
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import Failed
from shipworthy.optimize import Opinion
from shipworthy.records import Evidence, Figure, Gate, Machine, Measured, Target
from shipworthy.search import Screen
from shipworthy.settings import GateSettings, MeasureSettings

SIDE, LAYERS = 1024, 10
QUICK = MeasureSettings(processes=2, repeats=3, repeat_seconds=0.1)


@pytest.fixture(scope="module")
def outlier(onnx_model, tmp_path_factory):
    """A network, rows and labels that it all gets right; one layer gives two values that are 3000 times the others.

    The next layer weighs them accordingly, so that in float nothing has changed; in eight bits the others are lost.
    """
    folder, random = tmp_path_factory.mktemp("outlier"), np.random.default_rng(0)
    widths = [64, *[SIDE] * (LAYERS - 1), 10]
    weights = {
        f"w{i}": (random.normal(size=(ins, outs)) * (2 / ins) ** 0.5).astype(np.float32)
        for i, (ins, outs) in enumerate(itertools.pairwise(widths))
    }
    weights["w4"][:, [3, 7]] *= 3000
    weights["w5"][[3, 7]] /= 3000
    nodes, last = [], "x"
    for i in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"g{i}"], name=f"layer{i}"))
        nodes.append(helper.make_node("Relu", [f"g{i}"], [f"r{i}"], name=f"relu{i}"))
        last = f"r{i}"
    proto = onnx_model(nodes[:-1], [("x", "float32", [None, 64])], [("g9", "float32", [None, 10])], weights, opset=17)
    onnx.save(proto, folder / "outlier.onnx")
    rows = random.normal(size=(2000, 64)).astype(np.float32)
    scores = OnnxRuntimeRunner(folder / "outlier.onnx", Target()).run({"x": rows})["g9"]
    ordered = np.sort(scores, axis=1)
    clear = np.argsort(ordered[:, -1] - ordered[:, -2])[-400:]
    model = check.take_in(folder / "outlier.onnx", "outlier", folder / "models")
    return model, Dataset("c", "c" * 64, {"x": rows[:64]}), Dataset("e", "e" * 64, {"x": rows[clear]}, scores[clear].argmax(1))


@pytest.mark.slow
def test_a_network_that_int8_breaks_comes_back_within_the_gate_at_twice_the_speed(outlier):
    model, calibration, rows = outlier
    gates = measure.gates(GateSettings(accuracy_kept_percent=97), Target())
    screen = Screen(model, optimize.original(model), Target(), gates, QUICK, rows)
    optimized = optimize.run(model, Target(), calibration, ("int8_static",), judge=screen)
    missed = {skip.name: skip.reason for skip in optimized.skips}
    assert set(missed) == {"int8_static", *(f"int8_static_{how}" for how in ("per_tensor", "percentile", "entropy"))}
    kept = float(missed["int8_static"].split(" is ")[1].split(" ")[0])
    assert kept < 90, "plain INT8 loses more than ten points"
    _, guarded = optimized.variants
    assert guarded.name == "int8_static_guarded"
    assert set(guarded.chain[-1].options["float_nodes"]) == {"layer4", "relu4", "layer5"}
    assert guarded.notes[0].startswith("stays float for the accuracy, by the noise that INT8 adds: layer5 (")
    found = measure.run(model, optimized.variants, Target(), QUICK, rows).evidence[1]
    assert found.figure("accuracy_kept_percent").median >= 97
    assert found.figure("latency_ratio").median <= 0.5


# ---------------------------------------------------------------- one variant before its judge


def evidence(name, accuracy, ratio, size=1.0):
    values = {"accuracy_percent": accuracy, "latency_ratio": ratio, "size_mb": size}
    made = tuple(Figure(name=key, unit="", median=m, low=m, high=m, samples=1, how="") for key, m in values.items())
    here = Machine(cpu="", isa=(), cores=1, memory_mb=1, system="", python="", packages={})
    return Evidence(variant=name, variant_name=name, target=Target(), machine=here, data="", measured_at="", figures=made)


ORIGINAL = evidence("original", 97.0, 1.0, 4.0)
ACCURATE = Gate(figure="accuracy_percent", limit=96.0, unit="%", at_least=True)
QUICKER = Gate(figure="p99_ms", limit=0.001, unit="ms", at_least=False)


@pytest.mark.parametrize(
    ("seen", "before", "says", "inaccurate"),
    [
        (evidence("v", 97.0, 0.5), (), "", False),
        (evidence("v", 95.0, 0.5), (), "accuracy_percent is 95 %, beyond the limit of at least 96 % by 1 %", True),
        (evidence("v", 97.0, 1.3), (), "slower than the original: 1.30 times its median latency in a first look", False),
        (evidence("v", 97.0, 1.1), (), "", False),
        (evidence("v", 97.0, 0.5), (evidence("w", 97.0, 0.4),), "w is as accurate, and faster or smaller", False),
        (evidence("v", 97.2, 0.5), (evidence("w", 97.0, 0.4),), "", False),
        (evidence("v", 97.0, 1.1, 5.0), (), "original is as accurate, and faster or smaller", False),
    ],
)
def test_what_a_variant_is_judged_by(digits, monkeypatch, seen, before, says, inaccurate):
    """Limits on the accuracy are decided at once; those on speed wait for the whole measurement."""
    monkeypatch.setattr(measure, "run", lambda *_, **__: Measured(evidence=(ORIGINAL, seen)))
    first = optimize.original(digits.model)
    screen = Screen(digits.model, first, Target(), (ACCURATE, QUICKER), QUICK, digits.evaluation, kept=[*before])
    assert screen(first) == Opinion(says, inaccurate=inaccurate)
    assert screen.kept == [*before, *([] if says else [seen])]


def test_a_variant_that_cannot_be_measured_is_not_kept(digits, monkeypatch):
    def fail(*_, **__):
        raise Failed("the process died", found="signal 9")

    monkeypatch.setattr(measure, "run", fail)
    first = optimize.original(digits.model)
    assert Screen(digits.model, first, Target(), (), QUICK)(first) == Opinion("the process died: signal 9")
