"""The runner on onnxruntime: signature, refusals, the laws of the seam; nothing of the runtime's own comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from onnx import TensorProto, helper

from shipworthy.backends import onnxruntime as backend
from shipworthy.backends.onnxruntime import DTYPES, OnnxRuntimeRunner
from shipworthy.errors import Failed, Refused
from shipworthy.records import Target, TensorSpec
from shipworthy.testing import laws

X, Y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])


@pytest.fixture
def runner(digits):
    return OnnxRuntimeRunner(Path(digits.model.path), Target())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("law", laws.RUNNER, ids=lambda law: law.__name__)
def test_the_laws_of_runners(law, threads, digits):
    law(OnnxRuntimeRunner(Path(digits.model.path), Target(threads=threads)))


def test_a_signature_has_numpy_names_and_free_dimensions(taken):
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("t", "h")]
    inputs = [("t", "str", [None, "width", 3]), ("h", "float16", [2])]
    model = taken(nodes, inputs, [("t_out", "str", [None, "width", 3]), ("h_out", "float16", [2])])
    found = OnnxRuntimeRunner(Path(model.path), Target()).signature
    assert found.inputs == (
        TensorSpec(name="t", dtype="str", shape=(None, None, 3)),
        TensorSpec(name="h", dtype="float16", shape=(2,)),
    )
    assert [one.name for one in found.outputs] == ["t_out", "h_out"]


def test_every_dtype_is_one_of_numpy():
    assert {str(np.dtype(name)) for name in DTYPES.values() if name != "str"} == set(DTYPES.values()) - {"str"}


@pytest.mark.parametrize("array", [np.array([["a", "é"]], object), np.array([["a", "é"]])])
def test_texts_are_taken_as_objects_and_as_numpy_texts(taken, array):
    model = taken([helper.make_node("Identity", ["t"], ["u"])], [("t", "str", [None, 2])], [("u", "str", [None, 2])])
    answer = OnnxRuntimeRunner(Path(model.path), Target()).run({"t": array})["u"]
    assert answer.dtype == object
    assert answer.tolist() == [["a", "é"]]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "none"),
        ({"x": np.zeros((1, 64), np.float32)}, "x"),
        ({"X": np.zeros((1, 64), np.float32), "Z": np.zeros(1)}, "X, Z"),
        ({"X": np.zeros((1, 64))}, "float64 [1, 64]"),
        ({"X": np.zeros((1, 63), np.float32)}, "float32 [1, 63]"),
        ({"X": np.zeros(64, np.float32)}, "float32 [64]"),
        ({"X": np.zeros((1, 64, 1), np.float32)}, "float32 [1, 64, 1]"),
        ({"X": np.full((1, 64), "a")}, "<U1 [1, 64]"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_what_does(runner, inputs, says):
    with pytest.raises(Refused) as caught:
        runner.run(inputs)
    assert caught.value.found == says
    assert "X: float32 [?, 64]" in caught.value.expected


def test_no_rows_give_no_answers(taken):
    model = taken([helper.make_node("Relu", ["x"], ["y"])], [X], [Y])
    answers = OnnxRuntimeRunner(Path(model.path), Target()).run({"x": np.zeros((0, 4), np.float32)})
    assert answers["y"].shape == (0, 4)


def test_what_the_runtime_cannot_run_is_failed_in_one_line(taken, capfd):
    nodes = [helper.make_node("Gather", ["x", "i"], ["y"], axis=1)]
    model = taken(nodes, [X], [Y], {"i": np.array([0, 1, 2, 9])})
    with pytest.raises(Failed, match="could not run the batch") as caught:
        OnnxRuntimeRunner(Path(model.path), Target()).run({"x": np.zeros((2, 4), np.float32)})
    assert "\n" not in caught.value.found
    assert len(caught.value.found) <= 300
    assert capfd.readouterr() == ("", "")  # it is said once, by who asked


def test_a_closed_runner_fails(runner):
    runner.close()
    runner.close()
    with pytest.raises(Failed, match="closed"):
        runner.run({"X": np.zeros((1, 64), np.float32)})


@pytest.mark.parametrize("content", [None, b"", b"broken", b"\x08\x0a"])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused, match="no file" if content is None else "does not load") as caught:
        OnnxRuntimeRunner(path, Target())
    assert str(path) in caught.value.what
    assert caught.value.next


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(Refused, match="no file"):
        OnnxRuntimeRunner(tmp_path, Target())


def test_threads_are_those_of_the_target_and_nothing_spins(digits):
    options = backend.session(Path(digits.model.path), Target(threads=2)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


CUDA = Target(name="gpu", device="cuda")
TENSORRT = Target(name="gpu", device="cuda", runtime="tensorrt")
WANTED = {"CUDAExecutionProvider": CUDA, "TensorrtExecutionProvider": TENSORRT}


def test_the_wanted_provider_comes_first_and_others_take_what_it_leaves():
    names = [[name for name, _ in backend.providers(target)] for target in (Target(), CUDA, TENSORRT)]
    assert names == [
        ["CPUExecutionProvider"],
        ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    ]
    options = dict(backend.providers(TENSORRT))
    assert options["CUDAExecutionProvider"] == {"device_id": "0", "use_tf32": "0"}, "FP32 is FP32"
    assert options["TensorrtExecutionProvider"] == {"device_id": "0"}
    assert options["CPUExecutionProvider"] == {}


@pytest.mark.parametrize("provider", WANTED)
def test_a_device_that_this_build_cannot_use_is_refused(digits, provider):
    """Here: the wheel without GPUs."""
    with pytest.raises(Refused, match=f"cannot use {provider} here") as caught:
        OnnxRuntimeRunner(Path(digits.model.path), WANTED[provider])
    assert "CPUExecutionProvider" in caught.value.found
    assert "onnxruntime-gpu" in caught.value.next


class FakeSession:
    """onnxruntime's session on a machine with a GPU whose libraries load, or do not (then it takes what is left)."""

    works = True
    made: list[tuple[list, dict]] = []

    def __init__(self, *_, providers, **more):
        self.names = [name for name, _ in providers] if self.works else ["CPUExecutionProvider"]
        self.made.append((providers, more))

    def get_providers(self):
        return self.names


@pytest.fixture
def gpu(monkeypatch):
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(backend.ort, "get_available_providers", lambda: everything)
    monkeypatch.setattr(backend.ort, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "made", [])


@pytest.mark.parametrize("provider", WANTED)
def test_a_session_on_a_gpu_is_asked_for_it_without_fallback(gpu, digits, provider):
    target = WANTED[provider]
    assert backend.session(Path(digits.model.path), target).get_providers()[0] == provider
    assert FakeSession.made == [(backend.providers(target), {"enable_fallback": 0})]


@pytest.mark.parametrize("provider", WANTED)
def test_a_session_that_silently_took_the_cpu_is_refused(gpu, digits, monkeypatch, provider):
    monkeypatch.setattr(FakeSession, "works", False)
    with pytest.raises(Refused, match=f"cannot use {provider} here") as caught:
        backend.session(Path(digits.model.path), WANTED[provider])
    assert "it took CPUExecutionProvider" in caught.value.found


def test_inputs_may_be_any_mapping(runner):
    rows = {"X": np.zeros((1, 64), np.float32)}
    assert runner.run(MappingProxyType(rows))["label"].tolist() == runner.run(rows)["label"].tolist()


def test_the_version_is_the_package_s():
    assert backend.version() == sys.modules["onnxruntime"].__version__


def test_a_refusal_prints_nothing(tmp_path, capfd):
    """The runtime's fallback to another provider writes to standard output, where ``--json`` and the probe speak."""
    node = helper.make_node("Nonesuch", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    proto = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString().replace(b"Nonesuch", b"Nones\xff\xfeh"))
    with pytest.raises(Refused):
        OnnxRuntimeRunner(path, Target())
    assert capfd.readouterr().out == ""


def test_nothing_is_collected_and_nobody_is_called() -> None:
    """Without the variable the runtime keeps a database of events open in the user's cache folder."""
    code = (
        "import os; import shipworthy.backends.onnxruntime\n"
        "files = [os.readlink(one.path) for one in os.scandir('/proc/self/fd') if os.path.exists(one.path)]\n"
        "print([name for name in files if 'onnxruntime' in name and not name.endswith('.so')])"
    )
    clean = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
