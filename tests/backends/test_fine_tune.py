"""The user's own training: every step is counted, and what goes wrong in it is told as theirs."""

from __future__ import annotations

import sys

import pytest

from shipworthy.backends import fine_tune
from shipworthy.errors import Refused

CODE = """
import fine_tune_helper

seen = fine_tune_helper.seen

def train(model, steps):
    seen.append((model, steps))
    try:
        for step in range(steps + 5):
            model[step] = "trained"
            yield
    finally:
        seen.append("closed")

def kept(model, steps):
    seen.append(train(model, steps))
    return seen[-1]

def short(model, steps):
    yield

def broken(model, steps):
    yield
    raise ValueError("no more rows\\nof any kind")

def none(model, steps):
    return None

value = 3
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "fine_tune_code.py").write_text(CODE)
    (tmp_path / "fine_tune_helper.py").write_text("seen = []\n")
    yield lambda name: f"{tmp_path / 'fine_tune_code.py'}:{name}"
    for module in ("fine_tune_code", "fine_tune_helper"):
        sys.modules.pop(module, None)


def test_the_function_trains_in_place_and_is_closed_after_the_last_step(spec):
    model = {}
    assert list(fine_tune.steps(spec("kept"), model, 4)) == [1, 2, 3, 4]
    assert model == dict.fromkeys(range(4), "trained"), "not a step more"
    assert sys.modules["fine_tune_helper"].seen[1:] == [(model, 4), "closed"]


@pytest.mark.parametrize(
    ("name", "what", "found"),
    [
        ("short", "fine_tune_code.py:short stopped early", "1 steps"),
        ("broken", "fine_tune_code.py:broken failed after 1 steps", "ValueError: no more rows"),
        ("none", "fine_tune_code.py:none failed after 0 steps", "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_what_goes_wrong_in_it_is_told(spec, name, what, found):
    with pytest.raises(Refused) as caught:
        list(fine_tune.steps(spec(name), {}, 4))
    assert (caught.value.what, caught.value.found) == (what, found)


def test_a_file_that_cannot_be_run_and_a_name_that_is_not_there(spec, tmp_path):
    for name in ("value", "absent"):
        with pytest.raises(Refused, match=f"has no function '{name}'"):
            list(fine_tune.steps(spec(name), {}, 1))
    (tmp_path / "fine_tune_code.py").write_text("import nothing_of_that_name")
    del sys.modules["fine_tune_code"]  # a file runs once in a process: the module and what trains it share their names
    with pytest.raises(Refused, match="cannot be run") as caught:
        fine_tune.function(spec("train"))
    assert caught.value.found == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
