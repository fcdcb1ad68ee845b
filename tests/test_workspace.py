"""The workspace: reuse only what is whole and of the same key, one process at a time, no scraps, no strangers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Model, Optimized, Report, Signature, Source, Variant
from shipworthy.workspace import Workspace

REPORT = Report(model="m", laws=("format",), findings=())


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def model(workspace):
    path = workspace.models / "a.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the model")
    source = Source(path="a.onnx", digest="d", framework="onnx")
    empty = Signature(inputs=(), outputs=())
    return Model(name="a", path=str(path), digest=file_digest(path), signature=empty, opset=21, ir_version=10, source=source)


class Counted:
    """A build that counts its calls."""

    def __init__(self, record):
        self.record, self.calls = record, 0

    def __call__(self):
        self.calls += 1
        return self.record


def cached(workspace, stage="check"):
    return sorted((workspace.folder / "cache" / stage).iterdir())


def test_places(workspace, tmp_path):
    folder = tmp_path / "w"
    assert workspace.folder == folder
    places = (workspace.models, workspace.store, workspace.registry, workspace.reports)
    assert places == (folder / "models", folder / "store", folder / "registry.db", folder / "reports")
    assert not folder.exists(), "constructing only stores"


def test_a_relative_folder_stays_where_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("w"))
    monkeypatch.chdir("/")
    assert workspace.folder == tmp_path / "w"


# ---------------------------------------------------------------- reuse


def test_reuse_hits_only_with_the_same_key_stage_and_order_does_not_matter(workspace):
    build = Counted(REPORT)
    assert workspace.reuse("check", {"a": 1, "b": "x"}, Report, build) == REPORT
    assert (build.calls, workspace.reused) == (1, [])
    assert workspace.reuse("check", {"b": "x", "a": 1}, Report, build) == REPORT
    assert (build.calls, workspace.reused) == (1, ["check"])
    for stage, key in (
        ("check", {"a": 2, "b": "x"}),
        ("check", {"a": "1", "b": "x"}),
        ("check", {"a": 1}),
        ("other", {"a": 1}),
    ):
        before = build.calls
        workspace.reuse(stage, key, Report, build)
        assert build.calls == before + 1
    assert workspace.reused == ["check"]


def test_another_process_reuses_too(workspace):
    workspace.reuse("check", {"a": 1}, Report, lambda: REPORT)
    again = Workspace(workspace.folder)
    assert again.reuse("check", {"a": 1}, Report, lambda: pytest.fail("built again")) == REPORT
    assert again.reused == ["check"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\xff\xfe" + whole,
        lambda _: b"null",
        lambda _: b"[]",
        lambda whole: whole.replace(b'"laws":[', b'"laws":[1,'),
        lambda whole: whole.replace(b'"model"', b'"modem"'),
    ],
)
def test_a_damaged_record_is_built_again(workspace, damage):
    build = Counted(REPORT)
    workspace.reuse("check", {}, Report, build)
    (path,) = cached(workspace)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert workspace.reuse("check", {}, Report, build) == REPORT
    assert (build.calls, workspace.reused) == (2, [])
    assert path.read_bytes() == whole, "and mended"


@pytest.mark.parametrize("change", ["changed", "truncated", "gone", "a folder"])
@pytest.mark.parametrize("kind", [Model, Optimized])
def test_a_model_file_that_is_not_whole_is_built_again(workspace, model, change, kind):
    variant = Variant(
        name="v", path=model.path, digest=model.digest, parent=model.digest, chain=(), devices=("cpu",), size_mb=1
    )
    build = Counted(model if kind is Model else Optimized(variants=(variant,)))
    for _ in range(2):
        workspace.reuse("s", {}, kind, build)
    assert build.calls == 1
    path = Path(model.path)
    if change == "changed":
        path.write_bytes(b"The model")
    elif change == "truncated":
        path.write_bytes(b"the mod")
    else:
        path.unlink()
        if change == "a folder":
            path.mkdir()
    workspace.reuse("s", {}, kind, build)
    assert (build.calls, workspace.reused) == (2, ["s"])


def test_what_is_not_to_be_kept_is_built_every_time(workspace):
    build = Counted(REPORT)
    for _ in range(2):
        workspace.reuse("check", {}, Report, build, keep=lambda report: bool(report.findings))
    assert build.calls == 2
    assert not (workspace.folder / "cache").exists()


def test_a_build_that_fails_leaves_nothing(workspace):
    def build():
        raise Refused("no")

    with pytest.raises(Refused):
        workspace.reuse("check", {}, Report, build)
    assert not (workspace.folder / "cache").exists()
    assert workspace.reuse("check", {}, Report, lambda: REPORT) == REPORT


def test_fields_of_a_newer_version_are_kept(workspace):
    newer = replace(REPORT, unrecognised={"tomorrow": [1]})
    workspace.reuse("check", {}, Report, lambda: newer)
    assert workspace.reuse("check", {}, Report, lambda: pytest.fail("built again")).unrecognised == {"tomorrow": [1]}


# ---------------------------------------------------------------- lock


HOLDER = """
import sys, time
from pathlib import Path
from shipworthy.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(workspace):
    command = [sys.executable, "-c", HOLDER, str(workspace.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Refused, match="another shipworthy works") as caught, workspace.lock():
            pytest.fail("two held the lock")
        assert caught.value.found == f"process {holder.pid}"
        holder.kill()
    with workspace.lock():
        assert (workspace.folder / "lock").read_text() == str(os.getpid())


def test_the_lock_is_held_within_and_free_afterwards_also_after_an_error(workspace):
    with workspace.lock(), pytest.raises(Refused, match=str(workspace.folder)), Workspace(workspace.folder).lock():
        pytest.fail("two held the lock")
    with pytest.raises(KeyError), workspace.lock():
        raise KeyError
    with workspace.lock():
        pass


def test_a_child_does_not_keep_the_lock(workspace):
    """Probes and servers start while the lock is held; one that lingers must not lock the next run out."""
    with workspace.lock():
        code = "import time; print(1, flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", code], close_fds=False, stdout=subprocess.PIPE)
        child.stdout.readline()  # it runs: the kernel has closed what it must not inherit
    try:
        with workspace.lock():
            pass
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("below", [".", "sub/folder"])
def test_a_file_in_the_way_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refused, match="cannot be a workspace"), Workspace(tmp_path / "file" / below).lock():
        pytest.fail("held")
    assert (tmp_path / "file").read_text() == "mine"


# ---------------------------------------------------------------- sweep


def test_scraps_are_swept_and_nothing_else(workspace):
    scraps = ["models/draft-abc/model.onnx", "store/draft-x/y/z", "cache/check/.writing-1", "reports/.writing-2"]
    mine = [
        "models/aa.onnx",
        "cache/check/k.json",
        "draft-paper/chapter.txt",
        "data/draft-1/rows.csv",
        "mlflow/1/draft-2/model.onnx",
        "notes/.writing-3",
        "registry.db",
    ]
    for name in scraps + mine:
        path = workspace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with workspace.lock():
        pass
    found = {str(path.relative_to(workspace.folder)) for path in workspace.folder.rglob("*") if path.is_file()}
    assert found == {*mine, "lock"}
    assert sorted(path.name for path in workspace.models.iterdir()) == ["aa.onnx"]


def test_scraps_of_a_process_that_is_killed_are_swept(workspace):
    code = (
        "import os, sys; from pathlib import Path; from shipworthy.files import draft_folder; from shipworthy.workspace import "
        "Workspace\nw = Workspace(Path(sys.argv[1]))\n"
        "with w.lock(), draft_folder(w.models) as draft:\n    (draft / 'half').write_bytes(b'x'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(workspace.folder)], check=False).returncode == -9
    assert [path.name[:6] for path in workspace.models.iterdir()] == ["draft-"]
    with workspace.lock():
        assert list(workspace.models.iterdir()) == []
