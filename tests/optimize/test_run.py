"""All variants of a model: what was made, what was skipped and why; one bad pass never stops the others."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

from shipworthy import check, optimize, records
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import Refused, StorageFailed
from shipworthy.files import file_digest
from shipworthy.optimize.int8 import Int8Dynamic
from shipworthy.records import Target

SQUARE = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])


def reasons(optimized):
    return {skip.name: skip.reason for skip in optimized.skips}


def names(optimized):
    return [variant.name for variant in optimized.variants]


def only_digests(folder):
    return all(len(path.stem) == 64 and path.suffix == ".onnx" for path in folder.iterdir())


def test_every_variant_is_made_named_and_described(digits):
    optimized = optimize.run(digits.model, Target(), digits.train)
    assert names(optimized) == ["original", "graph", "int8_dynamic", "int8_static", "int8_static_per_tensor"]
    assert optimized.skips == ()
    original, graph, *quantized = optimized.variants
    assert (original.digest, original.path, original.chain) == (digits.model.digest, digits.model.path, ())
    assert [step.name for step in graph.chain] == ["graph"]
    assert [[step.name for step in one.chain] for one in quantized] == [
        ["graph", "int8_dynamic"],
        ["graph", "int8_static"],
        ["graph", "int8_static"],
    ]
    assert [one.chain[-1].options["per_channel"] for one in quantized] == [True, True, False]
    for one in optimized.variants:
        path = Path(one.path)
        assert one.digest == path.stem == file_digest(path)
        assert one.parent == digits.model.digest
        assert one.size_mb == path.stat().st_size / 1e6
        assert one.devices == (("cpu", "cuda") if "int8" not in one.name else ("cpu",))
        assert OnnxRuntimeRunner(path, Target()).signature == digits.model.signature
    assert len({one.digest for one in optimized.variants}) == 5
    assert only_digests(Path(digits.model.path).parent)
    again = optimize.run(digits.model, Target(), digits.train)
    assert again == optimized, "the same model, rows and passes give the same digests"


def test_no_passes_give_the_original(digits):
    optimized = optimize.run(digits.model, Target(), digits.train, passes=())
    assert names(optimized) == ["original"]
    assert optimized.skips == ()


def test_without_the_graph_pass_the_chain_begins_with_the_original(digits):
    optimized = optimize.run(digits.model, Target(), digits.train, passes=("int8_dynamic",))
    assert [[step.name for step in one.chain] for one in optimized.variants] == [[], ["int8_dynamic"]]


def test_static_int8_without_calibration_is_a_skip(digits):
    optimized = optimize.run(digits.model, Target())
    assert names(optimized) == ["original", "graph", "int8_dynamic"]
    assert list(reasons(optimized)) == ["int8_static", "int8_static_per_tensor"]
    assert all("calibration under [data]" in reason for reason in reasons(optimized).values())


def test_a_model_with_nothing_to_quantize(taken):
    model = taken([helper.make_node("Add", ["x", "x"], ["y"])], [SQUARE[0]], [SQUARE[1]])
    rows = Dataset("d", "", {"x": np.ones((8, 4), np.float32)})
    optimized = optimize.run(model, Target(), rows)
    assert names(optimized) == ["original"]
    nothing = "the model has no Conv, Gemm, MatMul to quantize"
    assert reasons(optimized) == {
        "graph": "it changes nothing",
        "int8_dynamic": nothing,
        "int8_static": nothing,
        "int8_static_per_tensor": nothing,
    }
    assert list(Path(model.path).parent.iterdir()) == [Path(model.path)]


def test_a_model_that_is_quantized_already(digits):
    quantized = optimize.run(digits.model, Target(), passes=("int8_dynamic",)).variants[1]
    model = replace(digits.model, path=quantized.path, digest=quantized.digest)
    said = reasons(optimize.run(model, Target(), digits.train))
    assert {said[name] for name in ("int8_dynamic", "int8_static", "int8_static_per_tensor")} == {
        "the model is quantized already"
    }


def test_two_passes_that_give_the_same_file_give_one_variant(taken):
    """Without constant weights there are no channels, and both static variants are the same."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "x"], ["s"]),
        helper.make_node("MatMul", ["x", "s"], ["y"]),
    ]
    rows = Dataset("d", "", {"x": np.random.default_rng(0).random((64, 4)).astype(np.float32)})
    optimized = optimize.run(taken(nodes, [SQUARE[0]], [SQUARE[1]]), Target(), rows)
    digests = [one.digest for one in optimized.variants]
    assert len(set(digests)) == len(digests)
    assert reasons(optimized)["int8_static_per_tensor"] == "it gives the same file as int8_static"


class Bad(Int8Dynamic):
    """A pass that does what it is told to instead of quantizing."""

    def __init__(self, do):
        object.__setattr__(self, "do", do)
        super().__init__()

    def apply(self, model, result, calibration):  # noqa: ARG002 - the seam's
        self.do(model, result)


def raises(error):
    def do(model, result):
        result.write_bytes(b"half a")
        raise error

    return do


def writes(content):
    return lambda _, result: result.write_bytes(content)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (raises(ValueError("first line\nsecond")), "it failed: ValueError: first line"),
        (raises(KeyError()), "it failed: KeyError: "),
        (raises(Refused("no", found="this")), "no: this"),
        (raises(OSError(errno.ENOTTY, "odd")), "it failed: OSError"),
        (raises(MemoryError()), "it failed: MemoryError"),
        (writes(b"no model"), "onnxruntime"),
        (lambda *_: None, "there is no file"),
        (lambda model, result: result.write_bytes(model.read_bytes()), "it changes nothing"),
    ],
)
def test_a_pass_that_fails_is_a_skip_and_the_others_go_on(digits, monkeypatch, do, says):
    monkeypatch.setitem(optimize.QUANTIZING, "int8_dynamic", {"int8_dynamic": Bad(do)})
    optimized = optimize.run(digits.model, Target(), digits.train)
    assert names(optimized) == ["original", "graph", "int8_static", "int8_static_per_tensor"]
    assert list(reasons(optimized)) == ["int8_dynamic"]
    assert reasons(optimized)["int8_dynamic"].startswith(says)
    assert only_digests(Path(digits.model.path).parent), "nothing half-written stays"


def test_a_pass_that_changes_the_signature_is_a_skip(digits, onnx_model, monkeypatch):
    other = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [SQUARE[0]], [SQUARE[1]]).SerializeToString()
    monkeypatch.setitem(optimize.QUANTIZING, "int8_dynamic", {"int8_dynamic": Bad(writes(other))})
    optimized = optimize.run(digits.model, Target(), passes=("int8_dynamic",))
    assert names(optimized) == ["original"]
    assert reasons(optimized)["int8_dynamic"].startswith("the pass changed the signature")


def test_a_pass_whose_model_cannot_run_is_a_skip(taken, onnx_model, monkeypatch):
    """It loads and has the signature, but no batch comes through."""
    model = taken([helper.make_node("Relu", ["x"], ["y"])], [SQUARE[0]], [SQUARE[1]])
    nodes = [helper.make_node("Gather", ["x", "columns"], ["y"], axis=1)]
    broken = onnx_model(nodes, [SQUARE[0]], [SQUARE[1]], {"columns": np.array([0, 1, 2, 9])}).SerializeToString()
    monkeypatch.setattr(Int8Dynamic, "requires", lambda *_: "")
    monkeypatch.setitem(optimize.QUANTIZING, "int8_dynamic", {"int8_dynamic": Bad(writes(broken))})
    optimized = optimize.run(model, Target(), passes=("int8_dynamic",))
    assert names(optimized) == ["original"]
    assert "could not run" in reasons(optimized)["int8_dynamic"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_stops(digits, monkeypatch, number):
    monkeypatch.setitem(optimize.QUANTIZING, "int8_dynamic", {"int8_dynamic": Bad(raises(OSError(number, "said")))})
    with pytest.raises(StorageFailed):
        optimize.run(digits.model, Target(), digits.train)
    assert only_digests(Path(digits.model.path).parent)


FULL = """
import resource, signal, sys
from pathlib import Path
from shipworthy import optimize, records
from shipworthy.data import made_up
from shipworthy.errors import StorageFailed
model = records.decode(records.Model, Path(sys.argv[1]).read_bytes())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    optimized = optimize.run(model, records.Target(), made_up(model.signature, 64), [sys.argv[2]])
except StorageFailed as error:
    print(error.what)
"""


@pytest.mark.parametrize("word", ["int8_dynamic", "int8_static"])
def test_files_that_may_not_grow_stop_the_quantizers_and_leave_no_scraps(digits, tmp_path, word):
    """The kernel itself refuses to write more than 4 KB into a file, whoever writes it."""
    folder = tmp_path / "models"
    model = check.take_in(digits.file, "digits", folder, trust=True)
    (tmp_path / "model.json").write_bytes(records.encode(model))
    command = [sys.executable, "-c", FULL, str(tmp_path / "model.json"), word]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"the disk is full at {folder}\n", done.stderr
    assert list(folder.iterdir()) == [Path(model.path)]


def test_every_variant_is_announced(digits):
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text, record.done, record.total))

    optimize.run(digits.model, Target(), passes=("graph", "int8_dynamic"), sink=Ear())
    assert heard == [("optimize", "graph", 0, 2), ("optimize", "int8_dynamic", 1, 2)]


def test_variants_are_made_for_the_device_of_the_target(digits):
    """INT8 as x86 wants it is not for a GPU; that nothing here runs there is a skip of its own."""
    made = optimize.run(digits.model, Target(device="cuda"), digits.train)
    reasons = {skip.name: skip.reason for skip in made.skips}
    assert set(reasons) == {"graph", "int8_dynamic", "int8_static", "int8_static_per_tensor"}
    assert "cannot use CUDAExecutionProvider here" in reasons.pop("graph")
    assert set(reasons.values()) == {"it is for cpu, and the target is cuda"}


def test_variants_are_tried_on_the_runtime_of_the_target(digits):
    made = optimize.run(digits.model, Target(runtime="openvino"), digits.train, passes=("graph", "int8_static"))
    assert [one.name for one in made.variants] == ["original", "graph", "int8_static", "int8_static_per_tensor"]
    assert made.skips == ()
