"""No law accuses a model of ONNX's own node tests of what onnxruntime does not prove; and the proof can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from shipworthy.check import areas, signature

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "node_tests.py"
# Modules of onnx.backend.test.case.node.
SAMPLE = (
    "batch_normalization",
    "conv",
    "dropout",
    "gather",
    "gru",
    "relu",
    "reshape",
    "sequenceinsert",
    "sinh",
    "string_concat",
)
# onnx 1.23.2: its own checker fails on its own function body when shapes are inferred; onnxruntime loads and runs the model.
OF_ONNX = {"test_mvn"}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("node_tests", SCRIPT)
    module = sys.modules["node_tests"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample(script):
    return script.cases(SAMPLE)


def test_a_sample_has_no_false_error(script, sample):
    outcomes = list(script.look(sample))
    assert len(outcomes) > 30
    assert [one.false for one in outcomes if one.false] == []
    assert {law for one in outcomes for law in one.proved} >= {"signature.batch", "signature.dtype", "graph.training"}
    assert sum(bool(one.unsaid) for one in outcomes) <= 1  # a GRU with the batch first
    text = script.page(outcomes)
    assert f"{len(outcomes)} models of" in text
    assert "| Relu | 2 | 0 | signature.batch 2 | 0 |  |" in text


def test_a_law_that_accuses_without_reason_is_seen(script, sample, monkeypatch):
    def accuse(subject):
        yield signature.ENDS.found("model", "it has no input: there is nothing to serve")

    monkeypatch.setitem(areas.OF_MODELS, "signature", accuse)
    relu = [one for one in sample if one[1].name == "test_relu"]
    (outcome,) = script.look(relu)
    assert outcome.false == ("signature.ends: model: it has no input: there is nothing to serve",)


@pytest.mark.long
@pytest.mark.slow
def test_no_node_test_has_a_false_error(script):
    outcomes = list(script.look(script.cases()))
    assert len(outcomes) > 1800
    assert {one.name for one in outcomes if one.false} <= OF_ONNX
