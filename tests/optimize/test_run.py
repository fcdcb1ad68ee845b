"""All variants of a model: what was made, what was skipped and why; one bad pass never stops the others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

from shipworthy import check, optimize, records
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import StorageFailed
from shipworthy.files import file_digest
from shipworthy.optimize import Opinion
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Static
from shipworthy.optimize.plan import Candidate
from shipworthy.records import Target
from shipworthy.targets import KINDS

SQUARE = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])


def reasons(optimized):
    return {skip.name: skip.reason for skip in optimized.skips}


def names(optimized):
    return [variant.name for variant in optimized.variants]


def only_digests(folder):
    return all(len(path.stem) == 64 and path.suffix == ".onnx" for path in folder.iterdir())


def test_every_variant_is_made_named_and_described(digits):
    optimized = optimize.run(digits.model, Target(), digits.train)
    assert names(optimized) == ["original", "graph", "int8_static", "int8_static_per_tensor", "int8_dynamic"]
    assert optimized.skips == ()
    original, graph, *quantized = optimized.variants
    assert (original.digest, original.path, original.chain) == (digits.model.digest, digits.model.path, ())
    assert [step.name for step in graph.chain] == ["graph"]
    assert [[step.name for step in one.chain] for one in quantized] == [
        ["graph", "int8_static"],
        ["graph", "int8_static"],
        ["graph", "int8_dynamic"],
    ]
    assert [one.chain[-1].options["per_channel"] for one in quantized] == [True, False, True]
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
        "int8_dynamic": "the model has no Gemm, MatMul to quantize",
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


@pytest.fixture
def bad(monkeypatch):
    """Put a pass that fails in the middle of the plan."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from bad_passes import Bad  # noqa: PLC0415 - by the name that the child imports it by

    def plan(do, **more):
        chains = [
            Candidate("graph", (Graph(),)),
            Candidate("bad", (Graph(), Bad(do=do, **more))),
            Candidate("int8_static", (Graph(), Int8Static())),
        ]
        monkeypatch.setattr(optimize, "candidates", lambda *_: chains)

    return plan


@pytest.mark.parametrize(
    ("do", "content", "says"),
    [
        ("value", b"", "it failed: ValueError: first line"),
        ("key", b"", "it failed: KeyError: "),
        ("refused", b"", "no: this"),
        ("odd", b"", "it failed: OSError"),
        ("memory", b"", "it failed: MemoryError"),
        ("stubborn", b"", "it failed: RuntimeError: Stubborn: this and that"),
        ("write", b"no model", "onnxruntime"),
        ("nothing", b"", "there is no file"),
        ("copy", b"", "it changes nothing"),
        ("crash", b"", "its process died: signal 6; its last words: the last words of a library"),
    ],
)
def test_a_pass_that_fails_is_a_skip_and_the_others_go_on(digits, bad, do, content, says):
    bad(do, content=content)
    optimized = optimize.run(digits.model, Target(), digits.train)
    assert names(optimized) == ["original", "graph", "int8_static"]
    assert list(reasons(optimized)) == ["bad"]
    assert reasons(optimized)["bad"].startswith(says)
    assert only_digests(Path(digits.model.path).parent), "nothing half-written stays"
    assert not optimized.cut_short


def test_the_log_of_a_pass_that_died_is_kept(digits, bad):
    bad("crash")
    (skip,) = optimize.run(digits.model, Target(), digits.train).skips
    assert skip.log.startswith("the last words of a library")


def test_a_pass_that_hangs_ends_with_the_budget(digits, bad):
    bad("hang")
    began = time.monotonic()
    optimized = optimize.run(digits.model, Target(), digits.train, budget_seconds=5)
    assert time.monotonic() - began < 20
    assert names(optimized) == ["original", "graph"]
    said = reasons(optimized)
    assert said["bad"].startswith("it took too long")
    assert said["int8_static"] == "the budget was spent before it was tried"
    assert optimized.cut_short
    assert only_digests(Path(digits.model.path).parent)


def test_a_pass_that_changes_the_signature_is_a_skip(digits, onnx_model, bad):
    bad("write", content=onnx_model([helper.make_node("Relu", ["x"], ["y"])], [SQUARE[0]], [SQUARE[1]]).SerializeToString())
    assert reasons(optimize.run(digits.model, Target(), digits.train))["bad"].startswith("the pass changed the signature")


def test_a_pass_whose_model_cannot_run_is_a_skip(taken, onnx_model, bad):
    """It loads and has the signature, but no batch comes through."""
    model = taken([helper.make_node("Relu", ["x"], ["y"])], [SQUARE[0]], [SQUARE[1]])
    nodes = [helper.make_node("Gather", ["x", "columns"], ["y"], axis=1)]
    broken = onnx_model(nodes, [SQUARE[0]], [SQUARE[1]], {"columns": np.array([0, 1, 2, 9])}).SerializeToString()
    bad("write", content=broken)
    assert "could not run" in reasons(optimize.run(model, Target()))["bad"]


@pytest.mark.parametrize("do", ["full", "quota", "read only"])
def test_a_full_disk_stops(digits, bad, do):
    bad(do)
    with pytest.raises(StorageFailed):
        optimize.run(digits.model, Target(), digits.train)
    assert only_digests(Path(digits.model.path).parent)


# ---------------------------------------------------------------- the search


def test_what_the_judge_does_not_want_is_a_skip_with_its_reason(digits):
    asked = []

    def judge(variant):
        asked.append(variant.name)
        return Opinion("too plain" if variant.name == "graph" else "")

    optimized = optimize.run(digits.model, Target(), digits.train, ("graph", "int8_dynamic"), judge=judge)
    assert asked == ["graph", "int8_dynamic"]
    assert names(optimized) == ["original", "int8_dynamic"]
    assert reasons(optimized) == {"graph": "too plain"}


def test_other_ranges_are_tried_only_where_int8_misses_the_accuracy_and_only_until_one_holds_it(digits):
    def judge(variant):
        return Opinion("inaccurate", inaccurate=True) if variant.name in missing else Opinion()

    missing = {"int8_static"}
    optimized = optimize.run(digits.model, Target(), digits.train, ("int8_static",), judge=judge)
    assert names(optimized) == ["original", "int8_static_per_tensor", "int8_static_percentile"]
    assert reasons(optimized) == {"int8_static": "inaccurate"}


def test_what_was_made_before_is_not_made_again(digits):
    known, built = {}, []

    def remember(key, build):
        name = str(sorted(key.items()))
        if name not in known:
            built.append(key["step"])
            known[name] = build()
        return known[name]

    passes = ("graph", "int8_static")
    first = optimize.run(digits.model, Target(), digits.train, passes, remember=remember)
    assert built == ["graph", "int8_static", "int8_static"]
    again = optimize.run(digits.model, Target(), digits.train, passes, remember=remember)
    assert again == first
    assert len(built) == 3
    optimize.run(digits.model, Target(), replace_rows(digits.train), passes, remember=remember)
    assert len(built) == 6, "other rows are another key"


def replace_rows(data):
    return Dataset("other", "o" * 64, data.inputs)


def test_openvino_is_another_runtime_for_the_same_files(digits):
    target = Target(precisions=("float32", "bfloat16", "int8"))
    optimized = optimize.run(digits.model, target, digits.train, ("graph", "int8_static", "openvino"))
    found = {one.name: one for one in optimized.variants}
    assert found["openvino"].digest == found["openvino_bf16"].digest == found["graph"].digest
    assert found["openvino_int8"].digest == found["int8_static"].digest
    on = {name: (one.on(target).runtime, one.on(target).precision) for name, one in found.items()}
    assert on["graph"] == on["int8_static"] == ("onnxruntime", "float32")
    assert on["openvino"] == on["openvino_int8"] == ("openvino", "float32")
    assert on["openvino_bf16"] == ("openvino", "bfloat16")


# ---------------------------------------------------------------- the disk, the terminal, other targets


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


def test_variants_are_made_for_a_target_elsewhere_and_tried_out_here(digits):
    """INT8 as x86 wants it is not for a GPU, and what the GPU wants runs on the CPU, too, if slowly."""
    made = optimize.run(digits.model, KINDS["jetson-orin"], digits.train, ("graph", "int8_static", "int8_dynamic", "fp16"))
    assert names(made) == ["original", "graph", "int8_static", "int8_static_per_tensor", "fp16", "int8_static_fp16"]
    assert {one.chain[-1].options["types"] for one in made.variants[2:4]} == {"s8s8_symmetric"}
    assert reasons(made) == {"int8_dynamic": "it is for cpu, and the target is cuda"}
    assert [step.name for step in made.variants[-1].chain] == ["graph", "int8_static", "fp16"]


def test_variants_are_tried_on_the_runtime_of_the_target(digits):
    made = optimize.run(digits.model, Target(runtime="openvino"), digits.train, passes=("graph", "int8_static"))
    assert [one.name for one in made.variants] == ["original", "graph", "int8_static", "int8_static_per_tensor"]
    assert made.skips == ()
