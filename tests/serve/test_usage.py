"""What processes take, against what the kernel says by another way."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from shipworthy.serve import usage


def test_this_process_takes_what_the_kernel_says() -> None:
    spent = time.process_time()
    while time.process_time() < spent + 0.05:
        pass
    mine = usage.mine()
    assert mine.cpu_seconds == pytest.approx(time.process_time(), abs=0.1)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.2 * most < mine.resident_bytes <= most


def test_cpu_of_children_outlives_them_and_their_memory_does_not() -> None:
    before = usage.of_children([])
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        alive = usage.of_children([child.pid])
        child.communicate(b"\n", timeout=10)
    finally:
        child.kill()
    gone = usage.of_children([child.pid])
    assert alive.resident_bytes > 1_000_000
    assert gone.resident_bytes == 0
    for seen in (alive, gone):
        assert 0.2 < seen.cpu_seconds - before.cpu_seconds < 2
    assert gone.cpu_seconds >= alive.cpu_seconds


def test_the_same_time_is_the_same_number_whoever_took_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"children_user": 0.1, "children_system": 0.0}
    monkeypatch.setattr(usage.os, "times", lambda: SimpleNamespace(**times))
    monkeypatch.setattr(usage, "_of", lambda pid: usage.Usage(0.2 if pid else 0.0, 0))
    alive = usage.of_children([1]).cpu_seconds
    times["children_user"] = 0.3
    assert usage.of_children([0]).cpu_seconds == alive == 0.3


def test_a_process_that_is_not_there_takes_nothing() -> None:
    assert usage.of_children([2**22 + os.getpid()]).resident_bytes == 0
