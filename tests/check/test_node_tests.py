"""No law accuses a model of ONNX's own node tests of what onnxruntime does not prove; and the proof can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from shipworthy.check import areas, format_onnx, security, signature
from shipworthy.check.graph import kernels
from shipworthy.check.numbers import repeats

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
    assert [one.name for one in outcomes if one.unsaid] == []
    assert {law for one in outcomes for law in one.proved} >= {
        "signature.batch",
        "signature.dtype",
        "graph.training",
        "numbers.repeats",
    }
    text = script.page(outcomes)
    assert f"{len(outcomes)} models of" in text
    assert "| Relu | 2 | 0 | signature.batch 2 | 0 |  |" in text


@pytest.mark.parametrize("law", [signature.ENDS, repeats.REPEATS, kernels.KERNEL, format_onnx.LOADS])
def test_a_law_that_accuses_without_reason_is_seen(script, sample, monkeypatch, law):
    monkeypatch.setitem(areas.OF_MODELS, "signature", lambda _: iter([law.found("output y", "it is said to be wrong")]))
    relu = [one for one in sample if one[1].name == "test_relu"]
    (outcome,) = script.look(relu)
    assert outcome.false == (f"{law.name}: output y: it is said to be wrong",)


def test_a_model_that_does_not_load_proves_only_what_says_so(script, sample, monkeypatch):
    laws = (security.CODE, kernels.KERNEL, format_onnx.OPERATORS)
    monkeypatch.setitem(areas.OF_FILES, "security", lambda _: (law.found("model", "it is said to be wrong") for law in laws))
    batchwise = [one for one in sample if one[1].name == "test_gru_batchwise"]
    (outcome,) = script.look(batchwise)
    assert outcome.false == tuple(f"{law.name}: model: it is said to be wrong" for law in laws)
    assert [*outcome.proved] == ["format.loads"]


@pytest.mark.long
@pytest.mark.slow
def test_no_node_test_has_a_false_error(script):
    outcomes = list(script.look(script.cases()))
    assert len(outcomes) > 1800
    assert [one.false for one in outcomes if one.false] == []
    assert [one.name for one in outcomes if one.unsaid] == []
