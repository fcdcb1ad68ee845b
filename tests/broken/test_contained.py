"""A library that crashes or loops over a model does so in a child: the parent has a finding, in time."""

from __future__ import annotations

import time

import pytest

from shipworthy import child
from shipworthy.check import apart
from shipworthy.check.subject import Origin

from . import make

SECONDS = 2
# In the place of onnxruntime: reading at address 0; a regular expression in C that takes longer than the universe is old,
# and lets no other thread of Python run; one that takes memory without end.
CRASH = "import ctypes; dies = lambda *_, **__: ctypes.string_at(0)"
LOOP = "import re; dies = lambda *_, **__: re.match('(a+)+$', 'a' * 60 + 'b')"
GREED = "dies = lambda *_, **__: [bytearray(2**30) for _ in range(10**6)]"


@pytest.fixture
def replaced(monkeypatch):
    """What stands in for onnxruntime in the child."""

    def replace(program: str) -> None:
        begin = (
            f"{program}; import onnxruntime; onnxruntime.InferenceSession = dies;"
            f"from shipworthy.check import apart; apart.SECONDS_OTHERWISE = {SECONDS}; apart.SECONDS = {{}}"
        )
        run = child.run
        monkeypatch.setattr(apart, "SECONDS_OTHERWISE", SECONDS)
        monkeypatch.setattr(apart, "SECONDS", {})
        monkeypatch.setattr(
            apart.child, "run", lambda arguments, *rest: run((arguments[0], f"{begin}; {arguments[1]}", arguments[2]), *rest)
        )

    return replace


@pytest.mark.parametrize(("program", "says"), [(CRASH, "signal 11"), (LOOP, f"no end after {SECONDS} s")])
def test_what_happens_in_the_runtime_stays_in_the_child(tmp_path, replaced, program, says):
    path = tmp_path / "model.onnx"
    path.write_bytes(make.VALID)
    replaced(program)
    begun = time.monotonic()
    report = apart.inspect(Origin(path, path))
    assert time.monotonic() - begun < SECONDS + 10
    (error,) = report.errors
    assert (error.law, error.place) == ("format.contained", "area format")
    assert says in error.evidence
    assert report.laws[-1] != "format", "the other areas went on"


@pytest.mark.slow
def test_a_runtime_that_takes_all_memory_is_ended_by_its_limit(tmp_path, replaced):
    path = tmp_path / "model.onnx"
    path.write_bytes(make.VALID)
    replaced(GREED)
    (error,) = apart.inspect(Origin(path, path)).errors
    assert error.law in {"format.contained", "format.loads"}
    assert "MemoryError" in error.evidence or "no end" in error.evidence
    assert list(tmp_path.iterdir()) == [path]
