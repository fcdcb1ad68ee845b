"""The conductor: what may move the alias, what may be reused, and what stops the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import numpy_helper

from shipworthy import records, settings
from shipworthy import ship as conductor
from shipworthy.errors import Conflict, NotFound, Refused
from shipworthy.records import Exchange, Gate, Served, Shipment, Verdict
from shipworthy.release import mlflow
from shipworthy.release.registry import SqliteRegistry
from shipworthy.ship import ship
from shipworthy.workspace import Workspace

ROWS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that names the larger of two numbers, rows it is right on, and settings."""
    weights = numpy_helper.from_array(np.eye(2, dtype=np.float32), "W")
    node = onnx.helper.make_node("MatMul", ["X", "W"], ["scores"])
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2]) for name in ("X", "scores")]
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [weights])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx"
    )
    rows = np.random.default_rng(0).random((ROWS, 2)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", X=rows, y=rows.argmax(axis=1))
    return tmp_path


def plain(folder: Path, **changes: dict[str, Any]) -> settings.Settings:
    sections = {
        "model": {"name": "larger", "path": "m.onnx"},
        "data": {"evaluation": "rows.npz"},
        "optimize": {"passes": []},
        "measure": {"processes": 1, "repeat_seconds": 0.01},
        "release": {"mlflow": "off"},
    }
    return settings.parse(sections | changes, str(folder / "shipworthy.toml"))


def served(**changes: Any) -> Served:
    """A verification that went well, but for the changes."""
    one = Exchange(
        encoding="json",
        requests=ROWS,
        answered=ROWS,
        rows=ROWS,
        accuracy_percent=100.0,
        largest_difference=0.0,
        p50_ms=1.0,
        p99_ms=2.0,
    )
    good = Served(bundle="b", version=1, measured_accuracy_percent=100.0, gap_points=0.0, exchanges=(one,), verdicts=())
    return replace(good, **changes)


NO = Verdict(
    gate=Gate(figure="availability_percent", limit=99.95, unit="%", at_least=True),
    figure=90.0,
    passed=False,
    reason="90 % answered",
)
APART = replace(served().exchanges[0], largest_difference=0.01)


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (served(gap_points=0.2), "its accuracy is +0.20 points away over HTTP"),
        (served(gap_points=-0.2), "its accuracy is -0.20 points away over HTTP"),
        (served(verdicts=(NO,)), "90 % answered"),
        (
            served(gap_points=None, measured_accuracy_percent=None, exchanges=(APART,)),
            "its outputs differ from the measured ones",
        ),
    ],
    ids=["worse", "better", "availability", "outputs"],
)
def test_no_alias_moves_when_production_differs(folder: Path, monkeypatch: pytest.MonkeyPatch, proof: Served, why: str) -> None:
    monkeypatch.setattr(conductor, "verify", lambda *_: proof)
    home = Workspace(folder / "home")
    shipment = ship(plain(folder), home)
    assert not shipment.passed
    assert why in shipment.stopped
    assert shipment.promotion is None
    registry = SqliteRegistry(home.registry)
    assert [one.version for one in registry.releases("larger")] == [1]
    with pytest.raises(NotFound):
        registry.get("larger", "champion")
    assert registry.log("larger") == ()

    monkeypatch.setattr(conductor, "verify", lambda *_: served())
    again = ship(plain(folder), home)
    assert "verify" not in again.reused, "a failed proof must be taken again"
    assert again.promotion is not None
    assert again.promotion.after == 1


def test_outputs_that_differ_are_only_reported_when_labels_decide() -> None:
    assert served(exchanges=(APART,)).passed
    assert not served(exchanges=(APART,), gap_points=None).passed


def test_what_changes_is_done_again_and_only_that(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "verify", lambda *_: served())
    home = Workspace(folder / "home")
    assert ship(plain(folder), home).reused == ()
    everything = ("inspect", "intake", "check", "optimize", "measure", "release", "verify", "promote")
    assert ship(plain(folder), home).reused == everything
    gated = plain(folder, gates={"availability_percent": 90.0})
    assert ship(gated, home).reused == tuple(stage for stage in everything if stage != "verify")
    slower = plain(folder, measure={"processes": 1, "repeats": 4, "repeat_seconds": 0.01})
    assert ship(slower, home).reused == ("inspect", "intake", "check", "optimize")
    rows = np.random.default_rng(1).random((ROWS, 2)).astype(np.float32)
    np.savez(folder / "rows.npz", X=rows, y=rows.argmax(axis=1))
    assert ship(plain(folder), home).reused == ("inspect", "intake"), "variants are judged by the evaluation rows"


def test_an_alias_that_somebody_else_moved_is_never_overwritten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Workspace(folder / "home")
    registry = SqliteRegistry(home.registry)

    def meanwhile(*_: object) -> Served:
        registry.add("larger", "f" * 64, "somebody")
        return served()

    read = registry.get

    def get_then_move(self: SqliteRegistry, name: str, which: str | int) -> records.Release:
        try:
            return read(name, which)
        finally:
            registry.swap(name, "champion", expected=None, version=2, by="somebody", reason="first")

    monkeypatch.setattr(conductor, "verify", meanwhile)
    monkeypatch.setattr(SqliteRegistry, "get", get_then_move)
    with pytest.raises(Conflict):
        ship(plain(folder), home)
    assert [line.by for line in registry.log("larger")] == ["somebody"]


def test_promotion_can_be_switched_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "verify", lambda *_: served())
    home = Workspace(folder / "home")
    shipment = ship(plain(folder, rollout={"promote": False}), home)
    assert shipment.passed
    assert shipment.release is not None
    assert shipment.promotion is None
    assert SqliteRegistry(home.registry).log("larger") == ()


def test_mlflow_asked_for_and_missing_is_said_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "available", lambda: False)
    home = Workspace(folder / "home")
    with pytest.raises(Refused, match="MLflow is switched on and not installed"):
        ship(plain(folder, release={"mlflow": "on"}), home)
    assert not home.models.exists()


def test_errors_of_check_stop_the_way(folder: Path) -> None:
    proto = onnx.load(folder / "m.onnx")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = ROWS
    onnx.save(proto, folder / "m.onnx")
    shipment = ship(plain(folder), Workspace(folder / "home"))
    assert shipment.stopped.startswith("check found 1 error; the first: input X")
    assert shipment.optimized is None


def test_a_file_for_another_device_stops_the_way(folder: Path) -> None:
    proto = onnx.load(folder / "m.onnx")
    proto.metadata_props.add(key="shipworthy.int8", value="s8s8_symmetric")
    onnx.save(proto, folder / "m.onnx")
    shipment = ship(plain(folder), Workspace(folder / "home"))
    assert shipment.stopped.startswith("check found 1 error; the first: INT8: its INT8 is s8s8_symmetric, and the target takes")
    assert [one.law for one in shipment.report.errors] == ["format.device"]
    assert not (folder / "home" / "models").exists(), "it was taken in"


def test_a_shipment_survives_its_plain_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "verify", lambda *_: served())
    shipment = ship(plain(folder), Workspace(folder / "home"))
    assert records.load(Shipment, records.dump(shipment)) == shipment
