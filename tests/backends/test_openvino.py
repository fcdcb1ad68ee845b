"""The runner on OpenVINO: the laws of the seam, the signature that onnxruntime gives, FP32 as FP32, and no telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from shipworthy.backends import openvino as backend
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.backends.openvino import DTYPES, OpenVinoRunner
from shipworthy.errors import Failed, Refused
from shipworthy.records import Target
from shipworthy.testing import laws

TARGET = Target(runtime="openvino")
X, Y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])


@pytest.fixture
def runner(digits):
    return OpenVinoRunner(Path(digits.model.path), TARGET)


@pytest.fixture
def built(tmp_path, onnx_model):
    """The file of a model of these nodes, inputs, outputs and weights."""

    def build(*arguments):
        path = tmp_path / "built.onnx"
        path.write_bytes(onnx_model(*arguments).SerializeToString())
        return path

    return build


def typed(path: Path, op: str, dtype: str) -> Path:
    """A model y = op(x, x) in one dtype, [rows, 2]."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, [None, 2]) for name in "xy")
    node = helper.make_node(op, ["x", "x"] if op == "Add" else ["x"], ["y"])
    proto = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("law", laws.RUNNER, ids=lambda law: law.__name__)
def test_the_laws_of_runners(law, threads, digits):
    law(OpenVinoRunner(Path(digits.model.path), Target(runtime="openvino", threads=threads)))


def test_the_answers_are_those_of_onnxruntime(runner, digits):
    rows = digits.evaluation.inputs
    ours, theirs = runner.run(rows), OnnxRuntimeRunner(Path(digits.model.path), Target()).run(rows)
    assert list(ours) == list(theirs)
    assert (ours["label"] == theirs["label"]).all()
    assert np.abs(ours["probabilities"] - theirs["probabilities"]).max() < 1e-5


GRAPHS = {
    "several outputs, not in the order of the nodes": (
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["y"], ["z"])],
        [X],
        [("z", "float32", [None, 4]), Y],
    ),
    "an input that is an output": ([helper.make_node("Relu", ["x"], ["y"])], [X], [X, Y]),
    "an input that nothing reads": ([helper.make_node("Relu", ["x"], ["y"])], [("u", "int64", [3]), X], [Y]),
    "an output without a shape": ([helper.make_node("MatMul", ["x", "w"], ["y"])], [X], [("y", "float32", None)]),
    "free where the graph says more": ([helper.make_node("MatMul", ["x", "w"], ["y"])], [X], [("y", "float32", ["n", "m"])]),
    "a weight that is an input too": (
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [X, ("w", "float32", [4, 3])],
        [("y", "float32", [None, 3])],
    ),
    "a scalar": ([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [X], [("y", "float32", [])]),
    "a free second axis": ([helper.make_node("NonZero", ["x"], ["y"])], [X], [("y", "int64", [2, None])]),
}


@pytest.mark.parametrize(("nodes", "inputs", "outputs"), GRAPHS.values(), ids=GRAPHS)
def test_the_signature_is_what_onnxruntime_says(built, nodes, inputs, outputs):
    weights = {"w": np.ones((4, 3), np.float32)} if "w" in nodes[0].input else {}
    path = built(nodes, inputs, outputs, weights)
    ours, theirs = OpenVinoRunner(path, TARGET), OnnxRuntimeRunner(path, Target())
    assert ours.signature == theirs.signature
    laws.every_output_is_answered_as_signed(ours)


@pytest.mark.parametrize("dtype", sorted(DTYPES.values()))
def test_every_dtype_goes_through_as_it_is(tmp_path, dtype):
    path = typed(tmp_path / "m.onnx", "Identity", dtype)
    runner = OpenVinoRunner(path, TARGET)
    assert runner.signature == OnnxRuntimeRunner(path, Target()).signature
    if dtype == "bool":
        row = np.array([[True, False]])
    else:
        about = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype.replace("int64", "int32"))
        row = np.array([[about.min, min(about.max, 2**31 - 1) if dtype == "uint64" else about.max]], dtype)
    answer = runner.run({"x": row})["y"]
    assert answer.dtype == dtype
    assert answer.tolist() == row.tolist()


@pytest.mark.parametrize(("dtype", "value"), [("int64", 2**31), ("int64", -(2**31) - 1), ("uint64", 2**31)])
def test_whole_numbers_that_openvino_would_cut_are_refused(tmp_path, dtype, value):
    runner = OpenVinoRunner(typed(tmp_path / "m.onnx", "Add", dtype), TARGET)
    with pytest.raises(Refused, match="'x' holds numbers beyond 32 bits") as caught:
        runner.run({"x": np.array([[1, value]], dtype)})
    assert str(value) in caught.value.found
    assert runner.run({"x": np.zeros((0, 2), dtype)})["y"].shape == (0, 2)
    assert runner.run({"x": np.array([[1, 5]], dtype)})["y"].tolist() == [[2, 10]]


@pytest.mark.parametrize(("dtype", "said"), [("float64", "f64"), ("object", "string")])
def test_what_it_cannot_serve_is_refused_at_load(tmp_path, dtype, said):
    with pytest.raises(Refused, match="'x' is not a tensor that OpenVINO can serve") as caught:
        OpenVinoRunner(typed(tmp_path / "m.onnx", "Identity", dtype), TARGET)
    assert caught.value.found.startswith(said)
    assert "onnxruntime" in caught.value.next


def test_fp32_is_computed_in_fp32(runner, digits):
    """Left alone, OpenVINO takes BF16 on CPUs that have it: three digits of a number, not seven."""
    compiled = runner._free.get().get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_rows_of_every_kind_are_taken(built):
    runner = OpenVinoRunner(built([helper.make_node("Relu", ["x"], ["y"])], [X], [Y]), TARGET)
    fixed = np.arange(8, dtype=np.float32).reshape(2, 4)
    fixed.setflags(write=False)
    for rows in (fixed, np.asfortranarray(fixed), np.arange(16, dtype=np.float32).reshape(2, 8)[:, ::2], fixed[:0]):
        assert runner.run({"x": rows})["y"].tolist() == rows.tolist()


def test_the_answer_of_one_run_is_not_touched_by_the_next(built):
    runner = OpenVinoRunner(built([helper.make_node("Relu", ["x"], ["y"])], [X], [Y]), TARGET)
    first = runner.run({"x": np.ones((2, 4), np.float32)})["y"]
    runner.run({"x": np.full((2, 4), 7, np.float32)})
    assert (first == 1).all()


def test_the_same_inputs_are_refused_as_by_onnxruntime(runner, digits):
    other = OnnxRuntimeRunner(Path(digits.model.path), Target())
    row = np.zeros((1, 64), np.float32)
    for wrong in ({}, {"X": row, "Z": row}, {"X": row[:, 1:]}, {"X": row.astype(float)}, {"X": row[0]}):
        said = []
        for one in (runner, other):
            with pytest.raises(Refused) as caught:
                one.run(wrong)
            said.append(str(caught.value))
        assert said[0] == said[1]


def test_calls_at_one_time_are_as_many_as_the_cores_have_room_for(digits, monkeypatch):
    """Two requests are there at first; more are made when they are needed; nobody gets another's answer."""
    monkeypatch.setattr(backend.os, "sched_getaffinity", lambda _: set(range(4)))
    runner = OpenVinoRunner(Path(digits.model.path), TARGET)
    parts = [{"X": digits.train.inputs["X"][start : start + 100 + start]} for start in range(6)]
    wanted = [runner.run(part)["probabilities"] for part in parts]
    assert runner._free.qsize() == 2
    held = [runner._free.get(), runner._free.get()]
    answers = {}

    def answer(n):
        answers[n] = [runner.run(parts[n])["probabilities"] for _ in range(20)]

    threads = [threading.Thread(target=answer, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(held) == 2
    assert all(np.array_equal(one, wanted[n]) for n, given in answers.items() for one in given)
    assert sorted(answers) == list(range(6))
    assert runner._free.qsize() == 4
    assert runner._free.get().get_compiled_model().get_property("NUM_STREAMS") in {2, 4}, "OpenVINO knows the real cores"


def test_two_calls_at_one_time_have_a_thread_each(built):
    """With one stream, OpenVINO would let the second wait for the first."""
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("needs two cores")
    runner = OpenVinoRunner(built([helper.make_node("Relu", ["x"], ["y"])], [X], [Y]), TARGET)
    compiled = runner._free.get().get_compiled_model()
    assert compiled.get_property("NUM_STREAMS") == compiled.get_property("INFERENCE_NUM_THREADS") == 2


def test_with_threads_for_every_core_there_is_one_request(digits, monkeypatch):
    monkeypatch.setattr(backend.os, "sched_getaffinity", lambda _: {0, 1})
    runner = OpenVinoRunner(Path(digits.model.path), Target(runtime="openvino", threads=2))
    laws.threads_may_run_together(runner)
    assert runner._free.qsize() == 1
    assert runner._free.get().get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 2


def test_whoever_waits_when_it_is_closed_is_not_left_waiting(runner, digits, monkeypatch):
    """A request that is out comes back to the queue it was taken from, closed or not."""
    monkeypatch.setattr(runner, "_most", 2)
    free = runner._free
    held = [free.get() for _ in range(free.qsize())]
    said = []
    waiting = threading.Thread(target=lambda: said.append(runner.run(digits.evaluation.inputs)), daemon=True)
    waiting.start()
    time.sleep(0.05)
    assert not said
    runner.close()
    for request in held:
        free.put(request)
    waiting.join(10)
    assert [sorted(one) for one in said] == [["label", "probabilities"]]
    with pytest.raises(Failed, match="closed"):
        runner.run(digits.evaluation.inputs)


MISFITS = {
    "two widths": ([helper.make_node("Add", ["x", "z"], ["y"])], [[2, 5], [2, 3]], {}),
    "a product": ([helper.make_node("MatMul", ["x", "z"], ["y"])], [[2, 5], [3, 3]], {}),
    "a new shape": ([helper.make_node("Reshape", ["x", "s"], ["y"])], [[2, 4]], {"s": np.array([3, 3])}),
}
ALONE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from pathlib import Path
from shipworthy.backends.openvino import OpenVinoRunner
from shipworthy.errors import Failed
from shipworthy.records import Target
runner = OpenVinoRunner(Path(sys.argv[1]), Target(runtime="openvino", threads=int(sys.argv[2])))
right = {name: np.full((2, 2), 3, np.float32) for name in "xz"}
for i in range(3):
    assert (runner.run(right)["y"] == 6).all()
    try:
        runner.run(right | {"z": np.ones((2, 5), np.float32)})
    except Failed:
        print("failed")
    first = runner.run(right)["y"]
    runner.run({name: np.zeros((2, 2), np.float32) for name in "xz"})
    assert (first == 6).all()
"""


@pytest.mark.parametrize(("nodes", "shapes", "weights"), MISFITS.values(), ids=MISFITS)
def test_what_the_runtime_cannot_run_is_failed_in_one_line(built, nodes, shapes, weights):
    free = [(name, "float32", [None, None]) for name, _ in zip("xz", shapes, strict=False)]
    runner = OpenVinoRunner(built(nodes, free, [("y", "float32", [None, None])], weights), TARGET)
    with pytest.raises(Failed, match="could not run the batch") as caught:
        runner.run({name: np.zeros(shape, np.float32) for name, shape in zip("xz", shapes, strict=False)})
    assert caught.value.found
    assert "\n" not in caught.value.found
    assert len(caught.value.found) <= 300
    square = {name: np.zeros((3, 3), np.float32) for name, _ in zip("xz", shapes, strict=False)}
    assert runner.run(square)["y"].shape == (3, 3)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_on_one_core_it_fails_as_well(built, threads):
    """OpenVINO's plain call answers with what lay in memory when there is one thread in all."""
    free = [(name, "float32", [None, None]) for name in "xyz"]
    path = built([helper.make_node("Add", ["x", "z"], ["y"])], [free[0], free[2]], [free[1]])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path), threads], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "failed\n" * 3


@pytest.mark.parametrize("content", [None, b"", b"broken", b"\x08\x0a"])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused, match="no file" if content is None else "does not load") as caught:
        OpenVinoRunner(path, TARGET)
    assert str(path) in caught.value.what
    assert caught.value.next


def test_an_operator_that_it_lacks_is_named(tmp_path):
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=imports).SerializeToString())
    with pytest.raises(Refused) as caught:
        OpenVinoRunner(path, TARGET)
    assert "ai.onnx.ml.Scaler" in caught.value.found


def test_without_the_extra_it_says_what_to_install(monkeypatch, digits):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Refused, match="extra that is not installed") as caught:
        OpenVinoRunner(Path(digits.model.path), TARGET)
    assert "shipworthy[openvino]" in caught.value.next


PROGRAM = """
import socket, sys
from pathlib import Path
def connect(*arguments):
    print("CONNECTS", arguments)
    raise OSError
socket.socket.connect = socket.create_connection = socket.getaddrinfo = connect
if sys.argv[2] == "ours":
    from shipworthy.backends.openvino import OpenVinoRunner
    from shipworthy.records import Target
    OpenVinoRunner(Path(sys.argv[1]), Target(runtime="openvino"))
else:
    import openvino
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


@pytest.mark.parametrize("how", ["ours", "plain"])
def test_nothing_phones_home(tmp_path, digits, how):
    """OpenVINO's own import sends an event to Google Analytics and writes to the home folder; ours does neither."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", PROGRAM, digits.model.path, how]
    done = subprocess.run(command, env={"HOME": str(home)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    quiet = "CONNECTS" not in done.stdout and done.stdout.endswith("[]\n") and not list(home.iterdir())
    assert quiet == (how == "ours"), done.stdout
