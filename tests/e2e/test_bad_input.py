"""Each thing that can be wrong gets one clear error: what was found, what was expected, what to do next."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from .conftest import Project

Breaker = Callable[[Path], None]


def evaluation(**changed: np.ndarray) -> Breaker:
    def write(folder: Path) -> None:
        arrays = {"X": np.ones((4, 64), np.float32), "y": np.zeros(4, np.int64)} | changed
        np.savez(folder / "evaluation.npz", **{name: array for name, array in arrays.items() if array.ndim})

    return write


def with_nan() -> Breaker:
    pixels = np.ones((4, 64), np.float32)
    pixels[2, 7] = np.nan
    return evaluation(X=pixels)


def onnx_model(data: bytes | Callable[[bytes], bytes]) -> Breaker:
    def write(folder: Path) -> None:
        node = onnx.helper.make_node("Relu", ["X"], ["Y"])
        tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 64]) for name in "XY"]
        graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:])
        good = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        whole = good.SerializeToString()
        (folder / "model.onnx").write_bytes(data(whole) if callable(data) else data)
        settings = (folder / "shipworthy.toml").read_text()
        (folder / "shipworthy.toml").write_text(settings.replace("model.joblib", "model.onnx").replace("trust = true", ""))

    return write


def edit(old: str, new: str) -> Breaker:
    def write(folder: Path) -> None:
        path = folder / "shipworthy.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return write


NONE = np.zeros(())
CASES: dict[str, tuple[Breaker, list[str]]] = {
    "missing model": (edit('train = "train.py"', ""), ["there is no file", "model.joblib", "do next:"]),
    "wrong input name": (evaluation(X=NONE, pixels=np.ones((4, 64), np.float32)), ["no array for the input 'X'", "'pixels'"]),
    "wrong shape": (evaluation(X=np.ones((4, 63), np.float32)), ["wrong shape", "[4, 63]", "[?, 64]"]),
    "NaN": (with_nan(), ["holds NaN or infinity", "row 2"]),
    "zero rows": (evaluation(X=np.ones((0, 64), np.float32), y=np.zeros(0, np.int64)), ["has no rows"]),
    "labels of another length": (evaluation(y=np.zeros(3, np.int64)), ["labels and rows differ", "'y' 3", "'X' 4"]),
    "no labels": (evaluation(y=NONE), ["no array 'y' for the labels"]),
    "data is no npz": (lambda folder: (folder / "evaluation.npz").write_text("X,y\n1,2\n"), ["not a readable .npz"]),
    "unknown key": (edit("accuracy_percent", "acuracy_percent"), ["unknown key", "did you mean 'gates.accuracy_percent'"]),
    "not TOML": (edit("[model]", "[model"), ["is not TOML"]),
    "training fails": (lambda folder: (folder / "train.py").write_text("raise SystemExit('no data today')"), ["no data today"]),
    "training leaves nothing": (lambda folder: (folder / "train.py").write_text(""), ["left no", "model.joblib"]),
}  # fmt: skip
# What is wrong with the trained file itself is found by ``check``, with a law and a mend.
FOUND: dict[str, tuple[Breaker, str, list[str]]] = {
    "not a model": (onnx_model(b"\x89PNG\r\n\x1a\n" * 20), "format.readable", ["it is no ONNX model", "a PNG picture"]),
    "truncated model": (onnx_model(lambda whole: whole[:-7]), "format.readable", ["it is no ONNX model", "truncated"]),
    "empty model": (onnx_model(b""), "format.readable", ["it is empty", "copy or write the file again"]),
    "no trust": (edit("trust = true", ""), "security.code", ["it is a pickle", "--trust", "can execute any code"]),
}  # fmt: skip
UNTRAINED = {"missing model", "training fails", "training leaves nothing"}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(project: Project, case: str) -> None:
    breaker, parts = CASES[case]
    breaker(project.folder)
    if case in UNTRAINED:
        (project.folder / "model.joblib").unlink()
    out, err = project.run("ship", code=2)
    assert not out.strip()
    assert err.count("error:") == 1, err
    for part in parts:
        assert part in err, f"'{part}' is not in: {err}"
    home = project.folder / ".shipworthy"
    assert not list(home.rglob("draft-*")) + list(home.rglob(".writing-*")), "something half-written stayed"
    assert not (home / "registry.db").exists()


@pytest.mark.parametrize("case", FOUND)
@pytest.mark.parametrize("verb", ["check", "ship"])
def test_one_clear_finding(project: Project, case: str, verb: str) -> None:
    breaker, law, parts = FOUND[case]
    breaker(project.folder)
    shipment = project.json(verb, code=1)
    (error,) = [one for one in shipment["report"]["findings"] if one["severity"] == "error"]
    assert error["law"] == law
    for part in parts:
        assert part in f"{error['evidence']} {error['mend']}"
    assert error["evidence"] in shipment["stopped"]
    home = project.folder / ".shipworthy"
    assert not list(home.rglob("draft-*")) + list(home.rglob(".writing-*")), "something half-written stayed"
    assert not (home / "registry.db").exists()


def test_errors_for_machines(project: Project) -> None:
    edit("accuracy_percent", "acuracy_percent")(project.folder)
    out, err = project.run("ship", "--json", code=2)
    assert set(json.loads(out)) == {"error", "found", "expected", "next"}
    assert not err


def test_an_unreachable_mlflow_is_said_before_any_work(project: Project) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        _, err = project.run("ship", "--set", "release.mlflow=on", code=3, MLFLOW_TRACKING_URI=uri)
    assert uri in err
    assert "measure" not in err


def test_a_busy_port(project: Project) -> None:
    onnx_model(lambda whole: whole)(project.folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, err = project.run("serve", "model.onnx", "--port", str(port), code=2)
    assert f"port {port} is taken" in err
    assert "--port" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root; tests/test_files.py covers the rest")
@pytest.mark.parametrize("size_kb", [64, 3000, 4500])
def test_a_full_disk(project: Project, size_kb: int) -> None:
    home = project.folder / ".shipworthy"
    home.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(home)], check=True)
    try:
        _, err = project.run("ship", code=3)
        assert "the disk is full" in err
        assert "free some space" in err
        assert not list(home.rglob("draft-*")) + list(home.rglob(".writing-*"))
    finally:
        subprocess.run(["/bin/umount", str(home)], check=True)
    project.run("check")
