"""One command takes the vision example from PyTorch to a verified release; the second time nothing is done again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

QUICK = (
    *("--set", "optimize.passes=['graph', 'structured_prune']", "--set", "optimize.fine_tune_steps=60"),
    *("--set", "measure.processes=1", "--set", "measure.repeat_seconds=0.05", "--set", "release.mlflow=off"),
)


def ship(folder):
    """The shipment as ``shipworthy ship`` tells it."""
    command = [sys.executable, "-W", "error", "-m", "shipworthy", "ship", str(folder), "--json", *QUICK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_example_is_shipped_and_the_second_time_nothing_is_done_again(trained, tmp_path):
    folder = tmp_path / "vision"
    shutil.copytree(trained[0], folder)
    shipment = ship(folder)
    assert shipment["model"]["source"]["framework"] == "torch"
    assert not [one for one in shipment["report"]["findings"] if one["severity"] == "error"]
    names = [one["name"] for one in shipment["optimized"]["variants"]]
    assert "structured_prune" in names, shipment["optimized"]["skips"]
    assert shipment["choice"]["variant_name"] == "structured_prune"
    evidence = {
        one["variant_name"]: {f["name"]: f["median"] for f in one["figures"]} for one in shipment["measured"]["evidence"]
    }
    assert evidence["structured_prune"]["latency_ratio"] < 0.67
    assert evidence["structured_prune"]["accuracy_percent"] >= 0.98 * evidence["original"]["accuracy_percent"]
    assert shipment["served"]["gap_points"] == 0
    assert shipment["promotion"]["after"] == 1
    again = ship(folder)
    assert {"intake", "check", "optimize", "measure"} <= set(again["reused"])
    assert again["choice"] == shipment["choice"]
