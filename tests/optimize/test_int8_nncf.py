"""When NNCF is not tried, and what is said then; what it does is tested for real by ``make test-openvino``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from shipworthy.backends import nncf
from shipworthy.optimize.int8_nncf import Int8Nncf
from shipworthy.records import Target


def test_without_the_extra_it_says_what_to_install(digits, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said = Int8Nncf().requires(Path(digits.model.path), Target(), digits.train.inputs)
    assert said == "NNCF is an extra that is not installed: pip install 'shipworthy[nncf]'"


@pytest.mark.parametrize(
    ("target", "rows", "says"),
    [(Target(int8="s8s8_symmetric"), True, "TensorRT"), (Target(), False, "it needs calibration rows")],
)
def test_where_it_is_not_for(digits, monkeypatch, target, rows, says):
    monkeypatch.setattr(nncf, "missing", lambda: "")
    assert says in Int8Nncf().requires(Path(digits.model.path), target, digits.train.inputs if rows else None)
