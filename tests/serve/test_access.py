"""Lines of the access log where the disk fills up, and the thread that writes them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from shipworthy.errors import Refused
from shipworthy.serve import access, notes
from shipworthy.serve.access import Lines
from shipworthy.serve.note import Note
from shipworthy.serve.spool import Spool
from shipworthy.settings import ServeSettings


def ended(path: str) -> Note:
    note = Note("http", "GET", path, b"")
    note.ended_ns, note.ended_at_ns = note.began_ns + 1_500_000, 1_000_000_000_123_456_789
    return note


def test_a_line_that_a_full_disk_cuts_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.log"
    lines = Lines(str(log))
    lines.open()
    write = os.write
    room = [10_000, 20, 0, 10_000, 10_000, 10_000]

    def full(file: int, data: bytes) -> int:
        left = room.pop(0)
        if not left:
            raise OSError(28, "No space left on device")
        return write(file, data[:left])

    monkeypatch.setattr(access.os, "write", full)
    lines.write([ended(f"/{n}") for n in range(5)], 0)
    first, cut, *rest = log.read_text().splitlines()
    assert json.loads(first)["path"] == "/0"
    assert len(cut) == 20
    assert [json.loads(line).get("path") for line in rest] == ["/3", "/4", None]
    assert json.loads(rest[-1])["left_out"] == 2


def test_a_line_says_when_it_began(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    lines = Lines(str(log))
    lines.open()
    lines.write([ended("/" + "x" * 1000)], 0)
    line = json.loads(log.read_text())
    assert line["time"] == "2001-09-09T01:46:40.121956Z"
    assert line["whole_ms"] == 1.5
    assert len(line["path"]) == access.LONGEST_PATH
    assert log.stat().st_mode & 0o777 == 0o640


def test_a_pipe_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="cannot be written"):
        Lines(str(tmp_path / "pipe")).open()


def test_a_log_whose_folder_has_gone_goes_on_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    lines = Lines(str(folder / "a.log"))
    lines.open()
    folder.rename(tmp_path / "old")
    lines.write([ended("/")], 0)
    assert json.loads((tmp_path / "old" / "a.log").read_text())["path"] == "/"


def test_a_spool_is_bounded_and_counts_what_it_leaves_out() -> None:
    took: list[tuple[list[int], int]] = []
    held = threading.Event()

    def take(items: list[int], left_out: int) -> None:
        took.append((items, left_out))
        held.wait(5)
        if items == [0]:
            raise ValueError

    spool = Spool("test", take, 3)
    spool.put(0)
    spool.start()
    while not took:
        time.sleep(0.01)
    began = time.monotonic()
    for n in range(1, 8):
        spool.put(n)
    spool.leave_out()
    assert time.monotonic() - began < 0.1
    held.set()
    spool.close(5)
    assert took == [([0], 0), ([1, 2, 3], 5)]


def test_a_spool_that_hangs_does_not_hold_the_end_up() -> None:
    held = threading.Event()
    spool: Spool[int] = Spool("test", lambda *_: held.wait(5), 3)
    spool.put(0)
    spool.start()
    began = time.monotonic()
    spool.close(0.1)
    assert time.monotonic() - began < 1
    held.set()
    spool.close(5)


def test_spans_without_the_extra_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shipworthy.serve.spans", None)
    with pytest.raises(Refused, match=r"pip install 'shipworthy\[otel\]'"):
        notes.open_notes(ServeSettings(otlp_endpoint="http://127.0.0.1:4318"), "1")
    assert notes.open_notes(ServeSettings(), "1") is None
