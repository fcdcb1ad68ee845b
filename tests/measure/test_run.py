"""measure.run: every figure of every variant, each in a process of its own, and no scratch afterwards."""

from __future__ import annotations

import errno
import gzip
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

from shipworthy import machine, measure, optimize
from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused, StorageFailed
from shipworthy.measure import bench as bench_module
from shipworthy.measure import metrics, rows
from shipworthy.records import Step, Target
from shipworthy.settings import MeasureSettings

QUICK = MeasureSettings(processes=1, repeats=3, repeat_seconds=0.01, batch_rows=16)
COST = ["size_mb", "compressed_mb", "memory_mb", "load_ms"]
SPEED = ["p50_ms", "p99_ms", "throughput_rps", "latency_ratio"]
AGREEMENT = ["agreement_percent"]
RIGHT = ["accuracy_percent", "accuracy_kept_percent", *AGREEMENT]


@pytest.fixture(scope="module")
def variants(digits):
    made = optimize.run(digits.model, Target(), passes=("graph", "int8_dynamic")).variants
    assert [one.name for one in made] == ["original", "graph", "int8_dynamic"]
    return made


@pytest.fixture
def pids(monkeypatch):
    """The process ids of all probes that are started."""
    seen, enter = [], bench_module.Bench.__enter__

    def remember(self):
        enter(self)
        seen.append(self._process.pid)
        return self

    monkeypatch.setattr(bench_module.Bench, "__enter__", remember)
    return seen


def names(evidence):
    return [one.name for one in evidence.figures]


def left(model):
    return {path.name for path in Path(model.path).parent.iterdir() if len(path.stem) != 64}


def test_every_figure_of_every_variant(digits, variants, pids):
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text, record.done, record.total))

    measured = measure.run(digits.model, variants, Target(), QUICK, digits.evaluation, sink=Ear())
    assert len(set(pids)) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert os.getpid() not in pids
    assert left(digits.model) == set()
    assert [(one.variant, one.variant_name) for one in measured.evidence] == [(one.digest, one.name) for one in variants]
    for one, variant in zip(measured.evidence, variants, strict=True):
        assert names(one) == COST + SPEED + RIGHT
        assert one.data == digits.evaluation.digest
        assert one.target == Target()
        assert one.machine == machine.describe()
        assert one.measured_at.endswith("+00:00")
        assert all(figure.low <= figure.median <= figure.high and figure.how for figure in one.figures)
        assert all(figure.median > 0 for figure in one.figures)
        assert one.figure("size_mb").median == variant.size_mb
        assert one.figure("compressed_mb").median == len(gzip.compress(Path(variant.path).read_bytes(), 6, mtime=0)) / 1e6
        assert one.figure("p50_ms").median <= one.figure("p99_ms").median
        assert {one.figure(name).samples for name in SPEED} == {3}
        assert one.figure("accuracy_percent").samples == 400
    ratio = measured.evidence[0].figure("latency_ratio")
    assert (ratio.median, ratio.low, ratio.high) == (1, 1, 1)
    assert measured.evidence[0].figure("accuracy_kept_percent").median == 100
    assert [text for _, text, _, _ in heard[:4]] == [
        "original, repeat 1 of 3",
        "graph, repeat 1 of 3",
        "int8_dynamic, repeat 1 of 3",
        "graph, repeat 2 of 3",
    ]
    assert [(done, total) for _, _, done, total in heard] == [(place, 9) for place in range(9)]


def test_every_process_is_fresh_and_counts(digits, variants, pids):
    several = replace(QUICK, processes=2)
    measured = measure.run(digits.model, variants[:2], Target(), several, digits.evaluation)
    assert len(set(pids)) == 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    for one in measured.evidence:
        assert {one.figure(name).samples for name in SPEED} == {6}
        assert {one.figure(name).samples for name in ("memory_mb", "load_ms")} == {2}
        assert one.figure("memory_mb").low < one.figure("memory_mb").high, "two processes never hold the very same memory"


def test_accuracy_is_that_of_the_variant(digits, variants):
    measured = measure.run(digits.model, variants[:1], Target(), QUICK, digits.evaluation)
    import joblib  # noqa: PLC0415

    by_hand = 100 * joblib.load(digits.file).score(digits.evaluation.inputs["X"], digits.evaluation.labels)
    assert measured.evidence[0].figure("accuracy_percent").median == pytest.approx(by_hand)
    assert "output 'label'" in measured.evidence[0].figure("accuracy_percent").how
    by_scores = measure.run(digits.model, variants[:1], Target(), QUICK, digits.evaluation, prediction="probabilities")
    assert by_scores.evidence[0].figure("accuracy_percent").median == pytest.approx(by_hand)
    assert "output 'probabilities'" in by_scores.evidence[0].figure("accuracy_percent").how


def test_what_a_variant_keeps_is_counted_against_the_original(taken):
    """Three of four rows right by the largest, one by the smallest."""
    made = []
    for name, kind in (("original", "ArgMax"), ("worse", "ArgMin")):
        nodes = [helper.make_node(kind, ["x"], ["label"], axis=1, keepdims=0)]
        model = taken(nodes, [("x", "float32", [None, 2])], [("label", "int64", [None])])
        made.append(replace(optimize.run(model, Target(), passes=()).variants[0], name=name))
    data = Dataset("d", "d", {"x": np.float32([[1, 0], [0, 1], [1, 0], [1, 0]])}, np.array([0, 1, 0, 1]))
    original, worse = measure.run(model, made, Target(), QUICK, data).evidence
    assert [one.figure("accuracy_percent").median for one in (original, worse)] == [75, 25]
    assert [one.figure("accuracy_kept_percent").median for one in (original, worse)] == [100, pytest.approx(100 / 3)]


def test_the_original_that_is_never_right_keeps_nothing(digits, variants):
    wrong = Dataset("d", "d", digits.evaluation.inputs, np.arange(400) + 77)
    found = measure.run(digits.model, variants[:1], Target(), QUICK, wrong).evidence[0]
    assert names(found) == [*COST, *SPEED, "accuracy_percent", *AGREEMENT]
    assert found.figure("accuracy_percent").median == 0


def test_memory_is_that_of_each_process_alone(taken):
    """A model with 40 MB of weights beside one with none: the small one's memory does not hold the large one's."""
    found = {}
    for name, width in (("small", 4), ("large", 3200)):
        weights = {"w": np.ones((width, width), np.float32)}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        model = taken(nodes, [("x", "float32", [None, width])], [("y", "float32", [None, width])], weights)
        found[name] = (model, optimize.run(model, Target(), passes=()).variants[0])
    pair = [replace(found["small"][1], name="original"), replace(found["small"][1], name="again")]
    alone = measure.run(found["small"][0], pair, Target(), QUICK).evidence
    large = measure.run(found["large"][0], [found["large"][1]], Target(), replace(QUICK, batch_rows=1)).evidence[0]
    first, second = (one.figure("memory_mb").median for one in alone)
    assert abs(first - second) < 10
    assert large.figure("memory_mb").median > first + 35


def test_without_data_there_is_no_accuracy(digits, variants):
    measured = measure.run(digits.model, variants[:1], Target(), QUICK)
    assert names(measured.evidence[0]) == COST + SPEED + AGREEMENT
    assert measured.evidence[0].data == ""


def test_rows_without_labels_give_no_accuracy(digits, variants):
    measured = measure.run(digits.model, variants[:1], Target(), QUICK, digits.train)
    assert names(measured.evidence[0]) == COST + SPEED + AGREEMENT
    assert measured.evidence[0].data == digits.train.digest


def test_labels_that_nothing_can_be_compared_with_start_no_probe(digits, variants, pids):
    with pytest.raises(Refused, match="no output 'nothing'"):
        measure.run(digits.model, variants, Target(), QUICK, digits.evaluation, prediction="nothing")
    assert pids == []


def test_labels_of_another_kind_are_refused_and_nothing_is_left(digits, variants, pids):
    texts = Dataset("d", "d", digits.evaluation.inputs, digits.evaluation.labels.astype(str))
    with pytest.raises(Refused, match="different kinds"):
        measure.run(digits.model, variants[:1], Target(), QUICK, texts)
    assert left(digits.model) == set()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("name", ["file", "allow_pickle"])
def test_an_input_may_have_any_name_and_texts_are_measured(taken, name):
    nodes = [helper.make_node("Identity", [name], ["label"])]
    model = taken(nodes, [(name, "str", [None])], [("label", "str", [None])])
    data = Dataset("d", "d", {name: np.array(["a", "b", "c"], object)}, np.array(["a", "b", "x"]))
    found = measure.run(model, optimize.run(model, Target(), passes=()).variants, Target(), QUICK, data).evidence[0]
    assert found.figure("accuracy_percent").median == pytest.approx(200 / 3)


def test_a_probe_that_is_killed_ends_the_measurement(digits, variants, pids):
    class Killer:
        def emit(self, record):
            if record.text == "graph, repeat 2 of 3":
                os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(Failed, match="variant 'graph' died") as caught:
        measure.run(digits.model, variants, Target(), QUICK, digits.evaluation, sink=Killer())
    assert "signal 9" in caught.value.found
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert left(digits.model) == set()


def test_a_variant_that_vanished(digits, variants, pids, tmp_path):
    gone = replace(variants[1], path=str(tmp_path / "gone.onnx"))
    with pytest.raises(Failed, match="variant 'graph' could not be measured: there is no file"):
        measure.run(digits.model, [variants[0], gone], Target(), QUICK)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert left(digits.model) == set()


def test_any_metric_is_measured_and_named_in_the_evidence(digits, variants):
    found = measure.run(digits.model, variants[:1], Target(), QUICK, digits.evaluation, metric=metrics.named("auc")).evidence[0]
    assert found.metric == metrics.named("auc")
    assert names(found) == [*COST, *SPEED, "auc", "auc_kept_percent", *AGREEMENT]
    assert 0.9 < found.quality.median < 1
    assert "output 'probabilities'" in found.quality.how


def test_a_metric_of_ones_own_is_named_without_its_folder(digits, variants, tmp_path):
    (tmp_path / "score.py").write_text("def right(outputs, labels):\n    return (outputs['label'] == labels).mean()\n")
    metric = replace(metrics.named(f"{tmp_path}/score.py:right"), code="c" * 64)
    found = measure.run(digits.model, variants[:1], Target(), QUICK, digits.evaluation, metric=metric).evidence[0]
    by_hand = measure.run(digits.model, variants[:1], Target(), QUICK, digits.evaluation).evidence[0]
    assert (found.metric.name, found.metric.code) == ("score.py:right", "c" * 64)
    assert found.quality.median == pytest.approx(by_hand.quality.median / 100)
    assert left(digits.model) == set()


def test_one_class_starts_no_probe(digits, variants, pids):
    with pytest.raises(Refused, match="accuracy says nothing of one class"):
        measure.run(digits.model, variants, Target(), QUICK, Dataset("d", "d", digits.evaluation.inputs, np.full(400, 3)))
    assert pids == []


def test_what_was_pruned_says_how_many_zeros_it_has(taken):
    weights = {"w": np.float32([[0, 0, 0, 1]])}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = taken(nodes, [("x", "float32", [None, 1])], [("y", "float32", [None, 4])], weights)
    original = optimize.run(model, Target(), passes=()).variants[0]
    pruned = replace(original, name="prune", chain=(Step(name="prune"),))
    first, second = measure.run(model, [original, pruned], Target(), QUICK).evidence
    assert first.figure("sparsity_percent") is None
    assert second.figure("sparsity_percent").median == 75


def test_a_target_elsewhere_has_no_figures():
    said = measure.elsewhere(Target(name="jetson-orin"), "it has no NVIDIA GPU")
    assert said.startswith("target 'jetson-orin' is not this machine: it has no NVIDIA GPU; ")
    assert "missing" in said


def test_a_full_disk_is_said(digits, variants, monkeypatch):
    def full(path, arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(rows, "write", full)
    with pytest.raises(StorageFailed, match="disk is full"):
        measure.run(digits.model, variants, Target(), QUICK)
    assert left(digits.model) == set()


def test_rows_that_are_large_do_not_count_as_the_models_memory(taken):
    """256 rows of 1 MB each would be five times what the process takes by itself."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]
    model = taken(nodes, [("x", "float32", [None, 250_000])], [("y", "float32", [None])], opset=17)
    settings = replace(QUICK, batch_rows=1)
    (one,) = measure.run(model, optimize.run(model, Target(), passes=()).variants, Target(), settings).evidence
    assert one.figure("memory_mb").median < 200
