"""Writes are there whole or not at all: also when the process is killed, also when the disk is full."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipworthy import files
from shipworthy.errors import Refused, StorageFailed


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_digest_and_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert files.file_digest(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert files.size_mb(path) == 3.0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "there is no file"),
        (".", "cannot be read"),
        ("plain/below", "cannot be read"),
        ("long" * 100, "cannot be read"),
        ("zero\0byte", "cannot be read"),
        ("loop", "cannot be read"),
    ],
)
def test_a_digest_of_what_is_no_file(tmp_path, name, said):
    (tmp_path / "plain").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Refused, match=said):
        files.file_digest(tmp_path / name)


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["c.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["folder", "plain/below", "long" * 100])
def test_a_place_that_cannot_be_written(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("old")
    with pytest.raises(StorageFailed, match=r"cannot be written(.|\n)*name another folder"):
        files.write_bytes(tmp_path / name, b"new")
    assert names(tmp_path) == ["folder", "plain"]
    assert (tmp_path / "plain").read_text() == "old"


WRITER = """
import sys
from pathlib import Path
from shipworthy import files
path = Path(sys.argv[1])
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    files.write_bytes(path, bytes([turn % 256]) * 2_000_000)
"""


def whole(path: Path) -> int:
    """The one byte that the file is full of."""
    content = path.read_bytes()
    assert len(content) == 2_000_000, "half a file"
    assert content.count(content[0]) == len(content), "two writes in one file"
    return content[0]


def test_a_killed_writer_leaves_old_or_new_content(tmp_path):
    path = tmp_path / "file"
    files.write_bytes(path, b"\0" * 2_000_000)
    seen = set()
    for turn in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            end = time.monotonic() + 0.011 * turn
            try:
                while time.monotonic() < end:
                    whole(path)
            finally:
                writer.kill()
        assert writer.returncode == -signal.SIGKILL
        seen.add(whole(path))
    assert len(seen) > 1, "the writer never wrote: the test shows nothing"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from shipworthy import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    files.write_bytes(Path(sys.argv[1]), b"new" * 100_000)
except files.StorageFailed as error:
    print(error)
"""


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY, "the child sets its own"
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert f"the disk is full at {tmp_path}" in done.stdout
    assert "free some space and run the same command again" in done.stdout
    assert (names(tmp_path), path.read_bytes()) == (["file"], b"old")


@pytest.fixture
def full_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)  # noqa: S607


def overfill(path: Path) -> None:
    with files.machine_errors(path.parent):
        path.write_bytes(b"new" * 1_000_000)


def test_a_full_disk_keeps_what_was_there(full_disk):
    path = full_disk / "file"
    files.write_bytes(path, b"old")
    with pytest.raises(StorageFailed, match=r"the disk is full(.|\n)*MB free(.|\n)*run the same command again"):
        files.write_bytes(path, b"new" * 1_000_000)
    assert (names(full_disk), path.read_bytes()) == (["file"], b"old")
    with files.draft_folder(full_disk) as draft, pytest.raises(StorageFailed, match="the disk is full"):
        overfill(draft / "big")
    assert names(full_disk) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageFailed, match="cannot be written"):
        files.write_bytes(tmp_path / "file", b"new")


def test_publish_a_file_and_a_folder(tmp_path):
    (tmp_path / "draft").write_bytes(b"one")
    files.publish(tmp_path / "draft", tmp_path / "new" / "final")
    assert (tmp_path / "new" / "final").read_bytes() == b"one"
    with files.draft_folder(tmp_path) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "file").write_bytes(b"two")
        files.publish(draft, tmp_path / "store" / "digest")
    assert (tmp_path / "store" / "digest" / "inner" / "file").read_bytes() == b"two"
    assert names(tmp_path) == ["new", "store"]


def test_publish_what_somebody_published_before(tmp_path):
    for content in (b"first", b"second"):
        with files.draft_folder(tmp_path) as draft:
            (draft / "file").write_bytes(content)
            files.publish(draft, tmp_path / "digest")
    (tmp_path / "late").mkdir()
    files.publish(tmp_path / "late", tmp_path / "digest")
    assert names(tmp_path) == ["digest"]
    assert (tmp_path / "digest" / "file").read_bytes() == b"first"


def test_a_folder_never_takes_the_place_of_a_file(tmp_path):
    (tmp_path / "digest").write_bytes(b"a file")
    with files.draft_folder(tmp_path) as draft, pytest.raises(StorageFailed, match="cannot be written"):
        files.publish(draft, tmp_path / "digest")
    assert (tmp_path / "digest").read_bytes() == b"a file"


def test_a_draft_is_gone_whatever_happens(tmp_path):
    def interrupted() -> None:
        with files.draft_folder(tmp_path / "a") as draft:
            (draft / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path / "a") == []


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), files.machine_errors(tmp_path):
        (tmp_path / "none").read_bytes()
