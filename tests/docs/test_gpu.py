"""The page of GPUs: what benchmarks/gpu.py writes to it, and that it ends clearly where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipworthy.records import Figure

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from on_gpu import page as module  # noqa: PLC0415

    return module


def figure(median, low, high):
    return Figure(name="", unit="", median=median, low=low, high=high, samples=10, how="")


def test_a_line_has_its_figures_or_why_there_are_none(page):
    whole = page.Line("resnet50", 64, "onnxruntime fp16", figure(8, 7.9, 8.25), figure(2.5, 2.4, 2.61), 1234.6, 0.00123)
    full = page.Line("resnet50", 256, "PyTorch fp32", error="CUDA out of memory")
    little = page.Line("vision", 1, "PyTorch fp32", figure(0.5, 0.5, 0.5))
    head, rule, *rows = page.table([whole, full, little]).splitlines()
    assert rows == [
        "| resnet50 | 64 | onnxruntime fp16 | 8 (7.9 to 8.25) | 8,000 | 2.50 (2.40 to 2.61) | 1,235 | 1.2e-03 |",
        "| resnet50 | 256 | PyTorch fp32 | none: CUDA out of memory |  |  |  |  |",
        "| vision | 1 | PyTorch fp32 | 0.5 (0.5 to 0.5) | 2,000 |  |  |  |",
    ]
    assert {line.replace("\\|", "").count("|") for line in (head, rule, *rows)} == {9}


@pytest.mark.parametrize(
    ("low", "high", "word"), [(2.31, 2.6, "meets 2.3"), (2.2, 2.4, "may meet 2.3"), (2.0, 2.29, "misses 2.3")]
)
def test_the_figure_to_meet_is_met_with_its_interval(page, low, high, word):
    lines = [
        page.Line("resnet50", 1, "onnxruntime fp16", figure(1, 1, 1), figure(1.1, 1, 1.2)),
        page.Line("resnet50", 128, "onnxruntime fp16", figure(1, 1, 1), figure((low + high) / 2, low, high)),
        page.Line("resnet50", 128, "onnxruntime tf32", figure(1, 1, 1), figure(9, 9, 9)),
        page.Line("vision", 128, "onnxruntime fp16", figure(1, 1, 1), figure(9, 9, 9)),
        page.Line("resnet50", 8, "PyTorch fp16 channels_last", figure(1, 1, 1), figure(3, 2.9, 3.1)),
        page.Line("resnet50", 256, "PyTorch fp16", error="CUDA out of memory"),
    ]
    ours, torch = page.verdict(lines).removesuffix(".").split("; ")
    assert ours == f"onnxruntime's FP16 is {(low + high) / 2:.2f} times its FP32 at 128 images a call, and {word}"
    assert torch == "PyTorch's FP16 is 3.00 times its FP32 at 8 images a call, and meets 2.3"


def test_without_figures_nothing_is_said_of_it(page):
    assert "was not measured" in page.verdict([page.Line("resnet50", 1, "PyTorch fp16", error="no memory")])


def test_the_page_takes_the_figures_and_keeps_its_words(page):
    before = (ROOT / "docs" / "gpu.md").read_text()
    section = page.section([], {"GPU": "NVIDIA H100", "CUDA": "13.0"}, "2026-12-01")
    after = page.filled(before, section)
    assert "2026-12-01; GPU NVIDIA H100, CUDA 13.0." in after
    first, last = page.FIRST, page.LAST
    assert after.partition(first)[0] == before.partition(first)[0]
    assert after.partition(last)[2] == before.partition(last)[2]
    assert page.filled(after, "again").count(first) == 1
    assert "2026-12-01" not in page.filled(after, "again")


def test_a_page_without_a_place_is_not_written(page):
    with pytest.raises(ValueError, match="no place for figures"):
        page.filled(page.LAST + page.FIRST, "x")


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    target = tmp_path / "gpu.md"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--page", str(target)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=hidden)
    assert done.returncode == 77
    assert done.stderr.startswith("nothing is measured: ")
    assert "docs/gpu.md" in done.stderr
    assert not target.exists()
