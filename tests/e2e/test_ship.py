"""One command from a trained file to a verified release; run again, refused, interrupted, killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shipworthy.release import bundle
from shipworthy.release.registry import SqliteRegistry

from .conftest import Project

ALL_PASSES = ("--set", "optimize.passes=['graph', 'int8_dynamic', 'int8_static']")
VARIANTS = ["original", "graph", "int8_dynamic", "int8_static", "int8_static_per_tensor"]
FIGURES = {"size_mb", "memory_mb", "load_ms", "p50_ms", "p99_ms", "throughput_rps", "latency_ratio", "accuracy_percent"}

# By the number of variants made: the trained file, ONNX and variant that shipped; always the same bytes.
SHIPPED: dict[int, tuple[str, str, str]] = {}


def assert_whole(project: Project, shipment: dict[str, Any]) -> None:
    """One release, verified by its digests, the champion, one line in the log; the served model is the measured one."""
    home = project.folder / ".shipworthy"
    registry = SqliteRegistry(home / "registry.db")
    (release,) = registry.releases()
    (promotion,) = registry.log("digits")
    assert (release.name, release.version, promotion.alias, promotion.before, promotion.after) == (
        "digits",
        1,
        "champion",
        None,
        1,
    )
    assert registry.get("digits", "champion") == release
    folder, manifest = bundle.open_bundle(home / "store", release.bundle)
    assert sorted(path.name for path in (home / "store").iterdir()) == [release.bundle]
    assert set(manifest.files) == {
        "model.onnx", "signature.json", "source.json", "report.json", "variant.json", "evidence.json",
        "choice.json", "baseline.npz", "environment.json",
    }  # fmt: skip
    assert manifest.source == shipment["model"]["source"]["digest"]
    assert manifest.variant == shipment["choice"]["variant"]
    assert shipment["served"]["gap_points"] == 0
    assert manifest.variant_name == "int8_static_per_tensor"
    SHIPPED.setdefault(len(shipment["optimized"]["variants"]), (manifest.source, manifest.model, manifest.variant))
    same = SHIPPED[len(shipment["optimized"]["variants"])]
    assert same == (manifest.source, manifest.model, manifest.variant), "another run of the same project shipped other bytes"
    assert not list(home.rglob("draft-*"))
    assert not list(home.rglob(".writing-*"))
    assert Path(shipment["html"]).stat().st_size > 10_000
    assert folder.is_dir()


def test_one_command_ships_the_model_and_the_second_reuses_everything(untrained: Project) -> None:
    shipment = untrained.json("ship", *ALL_PASSES)
    assert_whole(untrained, shipment)
    names = [one["variant_name"] for one in shipment["measured"]["evidence"]]
    # One that another beats in all is not kept; on a busy machine that may be any but the first and the best.
    assert {*names, *(one["name"] for one in shipment["optimized"]["skips"])} == set(VARIANTS)
    assert {"original", "int8_static_per_tensor"} <= set(names)
    for one in shipment["measured"]["evidence"]:
        assert {figure["name"] for figure in one["figures"]} >= FIGURES
        assert all(figure["low"] <= figure["median"] <= figure["high"] for figure in one["figures"])
    assert [one["variant_name"] for one in shipment["choice"]["judged"]] == names
    assert shipment["choice"]["variant_name"] == "int8_static_per_tensor"
    measured = shipment["served"]["measured_accuracy_percent"]
    assert [(one["encoding"], one["answered"]) for one in shipment["served"]["exchanges"]] == [("json", 450), ("binary", 450)]
    assert [one["accuracy_percent"] for one in shipment["served"]["exchanges"]] == [measured, measured]
    assert shipment["reused"] == []

    again = untrained.json("ship", *ALL_PASSES)
    assert again["reused"] == ["inspect", "intake", "check", "optimize", "measure", "release", "verify", "promote"]
    assert again["release"] == shipment["release"]
    assert again["measured"] == shipment["measured"]
    assert_whole(untrained, again)

    text, _ = untrained.run("ship", *ALL_PASSES, "--set", "measure.repeats=4")
    assert "reused  inspect, intake, check, optimize: nothing that shapes them has changed" in text
    assert "digits@champion is version 2 (was version 1)" in text


DIGESTS = """
import json, sys
from pathlib import Path
from shipworthy import check, data, optimize
from shipworthy.records import Target
model = check.take_in(Path("model.joblib"), "digits", Path(sys.argv[1]), trust=True)
rows = data.read(Path("calibration.npz"), model.signature)
made = optimize.run(model, Target(), rows, ("graph", "int8_static", "int8_dynamic", "fp16")).variants
print(json.dumps([one.digest for one in made]))
"""


def test_the_same_file_gives_the_same_bytes_in_every_process(project: Project) -> None:
    """Names in sets come in another order with another hash seed: no digest may depend on that."""
    digests = set()
    for seed in range(2):
        command = [sys.executable, "-c", DIGESTS, f"models-{seed}"]
        environment = os.environ | {"PYTHONHASHSEED": str(seed)}
        done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, timeout=120, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(json.loads(digests.pop())) == 6


def test_a_gate_that_says_no_stops_the_way(project: Project) -> None:
    shipment = project.json("ship", "--set", "gates.accuracy_percent=100", code=1)
    assert shipment["choice"]["variant"] is None
    assert "accuracy_percent is" in shipment["stopped"]
    assert "beyond the limit of at least 100 %" in shipment["stopped"]
    assert "release" not in shipment or shipment["release"] is None
    assert not (project.folder / ".shipworthy" / "registry.db").exists()
    text, _ = project.run("measure", "--set", "gates.accuracy_percent=100", code=1)
    assert [one["variant_name"] for one in shipment["choice"]["judged"]] == ["original"]
    assert "refused original: accuracy_percent is" in text
    assert text.count("skipped") == len(shipment["optimized"]["skips"]) >= 2
    assert any("beyond the limit" in one["reason"] for one in shipment["optimized"]["skips"])


def test_every_verb_works_alone(project: Project) -> None:
    report = project.json("check", "model.joblib", "--trust", "--data", "evaluation.npz")
    laws = [
        finding["law"]
        for finding in report["report"]["findings"]
        if finding["severity"] != "note" or "parity" in finding["law"]
    ]
    assert laws == ["numbers.parity", "numbers.parity"]
    made = project.json("optimize", "--output", "variants", *ALL_PASSES)
    names = sorted(path.name for path in (project.folder / "variants").iterdir())
    assert names == sorted(f"digits-{one['name']}.onnx" for one in made["optimized"]["variants"])
    assert made["choice"]["variant_name"] == "int8_static_per_tensor"
    assert not made.get("release")
    short = ("--set", "measure.processes=1", "--set", "measure.repeats=1", "--set", "measure.repeat_seconds=0.02")
    measured = project.json("measure", "variants/digits-original.onnx", "--set", "optimize.passes=[]", *short)
    assert [one["variant_name"] for one in measured["measured"]["evidence"]] == ["original"]
    released = project.json("release")
    assert released["served"] is None
    assert released["promotion"]["reason"] == "passed every gate"


STAGES = ["train", "inspect", "intake", "check", "optimize", "measure", "release", "verify", "promote"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_a_stage_the_second_run_ends_in_the_same_release(untrained: Project, trained: Path, stage: str) -> None:
    if stage != "train":
        for path in trained.glob("*.[jn]*"):
            (untrained.folder / path.name).write_bytes(path.read_bytes())
    process = untrained.start("ship")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{stage}:"):
            break
    else:
        pytest.fail(f"the stage {stage} was never announced")
    time.sleep(0.05)  # into the stage, not at its edge
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_nothing_half_made(untrained.folder / ".shipworthy")
    assert_whole(untrained, untrained.json("ship"))


def test_killed_while_mlflow_is_told_the_second_run_shows_the_release_once(project: Project) -> None:
    process = project.start("ship", "--set", "release.mlflow=on")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("track:"):
            break
    time.sleep(2.5)  # into the making of the database, or the logging
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shipment = project.json("ship", "--set", "release.mlflow=on")
    assert_whole(project, shipment)
    tracked = shipment["tracked"]
    assert (tracked["model_name"], tracked["alias"]) == ("digits", "champion")
    again = project.json("ship", "--set", "release.mlflow=on")["tracked"]
    assert again == tracked
    with sqlite3.connect(project.folder / ".shipworthy" / "mlflow.db") as database:
        versions = database.execute("SELECT COUNT(*) FROM model_versions WHERE current_stage != 'Deleted_Internal'").fetchone()
        runs = database.execute("SELECT status, lifecycle_stage FROM runs WHERE lifecycle_stage = 'active'").fetchall()
    database.close()
    assert versions == (1,)
    assert [status for status, _ in runs] == ["FINISHED"]


def test_ctrl_c_says_how_to_go_on(project: Project) -> None:
    process = project.start("ship")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measure:"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; the same command goes on where this one stopped" in err
    assert "Traceback" not in err
    assert_whole(project, project.json("ship"))


def test_two_at_once_in_one_workspace(project: Project) -> None:
    first = project.start("ship")
    assert first.stderr is not None
    first.stderr.readline()
    _, err = project.run("ship", code=2)
    assert f"found:    process {first.pid}" in err
    first.communicate(timeout=120)
    assert first.returncode == 0


def assert_nothing_half_made(home: Path) -> None:
    """Whatever a killed run left: every release that is visible is whole, and so is every model."""
    if (home / "registry.db").exists():
        registry = SqliteRegistry(home / "registry.db")
        with sqlite3.connect(home / "registry.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
        try:
            releases = registry.releases()
        except Exception as error:  # noqa: BLE001  nothing is released yet, and the database says so
            assert "nothing" in str(error)  # noqa: PT017
            releases = ()
        for release in releases:
            bundle.open_bundle(home / "store", release.bundle)
    for folder in (home / "store").glob("[0-9a-f]" * 64):  # a draft, which begins with a "d", is nothing that anybody sees
        bundle.verify(folder, folder.name)
    ours = [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and _works_in(path.name, home)]
    deadline = time.monotonic() + 10
    while ours and time.monotonic() < deadline:
        time.sleep(0.1)
        ours = [pid for pid in ours if _works_in(pid, home)]
    assert not ours, "processes outlived their parent"


def _works_in(pid: str, home: Path) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        where = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return False
    return "shipworthy" in command and where == home.parent
