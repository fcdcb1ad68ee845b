"""Area memory: sizes of tensors, the laws, and a prediction beside a measurement."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy import records
from shipworthy.check import constants, memory, shapes
from shipworthy.check.fusion import fused
from shipworthy.data import Dataset, made_up
from shipworthy.measure.bench import Bench
from shipworthy.measure.rows import write
from shipworthy.records import Finding, MemoryPoint, Signature, Target, TensorSpec
from shipworthy.targets import PROCESS_MB

X, Y = ("x", "float32", [None, 64]), ("y", "float32", [None, 64])


def dense(width=64):
    return [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])], {
        "w": np.zeros((64, width), np.float32),
        "v": np.zeros((width, 64), np.float32),
    }


def model(taken, width=64):
    nodes, weights = dense(width)
    return taken(nodes, [X], [Y], weights)


def found(looked, law):
    return [one for one in looked if isinstance(one, Finding) and one.law == law]


def points(looked):
    return [one for one in looked if isinstance(one, MemoryPoint)]


def budget(at):
    return Target(memory_mb=at)


def test_without_a_budget_all_is_noted_up_to_64_rows(taken, subject):
    looked = list(memory.look(subject(model(taken))))
    assert [one.rows for one in points(looked)] == [1, 2, 4, 8, 16, 32, 64]
    assert {one.severity for one in looked if isinstance(one, Finding)} == {"note"}
    assert [len(found(looked, law)) for law in ("memory.budget", "memory.weights", "memory.peak")] == [1, 1, 1]
    assert "no budget" in found(looked, "memory.budget")[0].evidence
    assert " MB for 32: " in found(looked, "memory.peak")[0].evidence


def test_what_does_not_fit_with_one_row_is_an_error(taken, subject):
    looked = list(memory.look(subject(model(taken), target=budget(PROCESS_MB + 1))))
    one = found(looked, "memory.budget")[0]
    assert (one.severity, [point.rows for point in points(looked)]) == ("error", [1])
    assert "67 MB" in one.evidence
    assert one.mend


def test_a_batch_that_does_not_fit_is_a_warning_with_the_largest_that_does(taken, subject):
    """A megabyte a row is what grows."""
    ends = [("x", "float32", [None, 64])], [("y", "float32", [None, 250_000])]
    grown = taken(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Expand", ["h", "s"], ["y"])],
        *ends,
        {"w": np.zeros((64, 1), np.float32), "s": np.int64([1, 250_000])},
    )
    looked = list(memory.look(subject(grown, target=budget(PROCESS_MB + 40))))
    one = found(looked, "memory.budget")[0]
    largest = int(one.evidence.split("; ")[-1].split()[0])
    assert one.severity == "warning"
    assert f"batch_rows = {largest}" in one.mend
    sized = shapes.size_up(subject(grown).proto, grown.signature, None)
    foreseen = memory.foresee(subject(grown), sized)
    assert foreseen.point(largest).total_mb <= 40 < foreseen.point(largest + 1).total_mb
    assert points(looked)[-1].rows <= largest < 2 * points(looked)[-1].rows


def test_what_fits_is_a_note_with_points_up_to_the_largest(taken, subject):
    looked = list(memory.look(subject(model(taken), target=budget(4000))))
    assert found(looked, "memory.budget")[0].severity == "note"
    assert points(looked)[-1].rows == 1024


def test_this_machine_is_the_limit_where_no_target_says_one(taken, subject, monkeypatch):
    here = memory.machine.describe()
    small = records.load(type(here), records.dump(here) | {"memory_mb": 50})
    monkeypatch.setattr(memory.machine, "describe", lambda: small)
    one = found(memory.look(subject(model(taken))), "memory.budget")[0]
    assert (one.severity, "this machine" in one.evidence) == ("error", True)


def test_the_largest_constants_are_named(taken, subject):
    one = found(memory.look(subject(model(taken, 1000))), "memory.weights")[0]
    assert "w 0.3 MB" in one.evidence
    assert one.evidence.startswith("0.5 MB")


def test_one_absurdly_large_tensor_is_a_warning_and_named(taken, subject):
    def expanded(numbers):
        nodes = [
            helper.make_node("Expand", ["x", "s"], ["huge"], name="grow"),
            helper.make_node("ReduceSum", ["huge", "a"], ["y"], keepdims=1),
        ]
        weights = {"s": np.int64([1, numbers]), "a": np.int64([1])}
        return taken(nodes, [("x", "float32", [None, 1])], [("y", "float32", [None, 1])], weights)

    large, small = (found(memory.look(subject(expanded(n))), "memory.peak")[0] for n in (30_000_000, 3000))
    assert (large.severity, small.severity) == ("warning", "note")
    assert "grow" in large.place
    assert "huge is 120.0 MB" in large.evidence
    assert large.mend
    assert not small.mend


def test_a_fixed_batch_has_one_point(taken, subject):
    fixed = taken([helper.make_node("Sin", ["x"], ["y"])], [("x", "float32", [4, 64])], [("y", "float32", [4, 64])])
    looked = list(memory.look(subject(fixed)))
    assert [one.rows for one in points(looked)] == [1]
    assert "for 32" not in found(looked, "memory.peak")[0].evidence


def test_free_dimensions_are_those_of_the_rows_or_said(taken, subject):
    nodes = [helper.make_node("Sin", ["x"], ["h"]), helper.make_node("Sin", ["h"], ["y"])]
    free = taken(nodes, [("x", "float32", [None, None])], [("y", "float32", [None, None])])
    assumed = found(memory.look(subject(free)), "memory.peak")[0].evidence
    assert "dimension 1 of input x is free and taken as 128" in assumed
    rows = Dataset("d", "", {"x": np.zeros((3, 500_000), np.float32)})
    said = found(memory.look(subject(free, data=rows)), "memory.peak")[0].evidence
    assert "free" not in said
    assert said.startswith("4.0 MB")


def test_what_inference_does_not_reach_is_read_off_a_run(taken, subject):
    """NonZero gives as many columns as there are numbers that are not zero: only a run knows."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Transpose", ["places"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["y"], to=TensorProto.FLOAT),
    ]
    one = taken(nodes, [X], [("y", "float32", [None, 2])])
    sized = shapes.size_up(subject(one).proto, one.signature, Dataset("d", "", {"x": np.ones((2, 64), np.float32)}))
    assert sized.unknown == ()
    assert (sized.graph.sizes["places"].at(1), sized.graph.sizes["places"].at(2)) == (1024, 2048)


def test_texts_sequences_and_halves_are_counted(taken, subject, onnx_model):
    texts = taken([helper.make_node("Identity", ["x"], ["y"])], [("x", "str", [None, 3])], [("y", "str", [None, 3])])
    assert shapes.size_up(subject(texts).proto, texts.signature, None).graph.sizes["y"].at(2) == 2 * 3 * 32
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    listed = taken(nodes, [X], [("y", "float32", [None, 64])])
    assert shapes.size_up(subject(listed).proto, listed.signature, None).unknown == ()
    half = onnx_model([helper.make_node("Sin", ["x"], ["y"])], [("x", "float16", [None, 8])], [("y", "float16", [None, 8])])
    half.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.float16), "w"))
    kept = next(constants.constants(half.graph))
    assert (kept.stored, kept.held) == (16, 32)


def test_weights_of_other_files_are_sized_by_their_dims(tmp_path, onnx_model):
    """Three gigabytes that are nowhere: nothing reads them."""
    proto = onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])], [X], [("y", "float32", [None, 12_000_000])])
    far = TensorProto(name="w", data_type=1, dims=[64, 12_000_000], data_location=TensorProto.EXTERNAL)
    entry = far.external_data.add()
    entry.key, entry.value = "location", "nowhere.bin"
    proto.graph.initializer.append(far)
    assert next(constants.constants(proto.graph)).held == 64 * 12_000_000 * 4
    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 64)),), outputs=())
    assert shapes.size_up(proto, signature, None).graph.sizes["y"].at(1) == 48_000_000


def branch(name, width):
    nodes = [
        helper.make_node("Expand", ["x", f"{name}_s"], [f"{name}_h"]),
        helper.make_node("ReduceMax", [f"{name}_h"], [name]),
    ]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
    return helper.make_graph(nodes, name, [], given, [numpy_helper.from_array(np.int64([1, width]), f"{name}_s")])


def test_the_larger_branch_counts(taken, subject):
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["truth"], to=TensorProto.BOOL),
        helper.make_node("If", ["truth"], ["y"], then_branch=branch("a", 10), else_branch=branch("b", 1_000_000)),
    ]
    one = taken(nodes, [("x", "float32", [None, 1])], [("y", "float32", [None])])
    sized = shapes.size_up(subject(one).proto, one.signature, None)
    assert len(sized.graph.steps[-1].inner) == 2
    assert memory.life(fused(sized.graph, (), named=False), 1).peak > 4_000_000
    assert memory.foresee(subject(one), sized).nodes == 7


def test_the_skeleton_holds_no_weights_and_the_same_shapes(taken, subject):
    one = subject(model(taken, 10_000))
    bones = shapes.skeleton(one.proto)
    assert bones.ByteSize() < 1000 < one.proto.ByteSize()
    whole = onnx.shape_inference.infer_shapes(one.proto)
    assert [v.name for v in onnx.shape_inference.infer_shapes(bones).graph.value_info if v.name == "h"] == ["h"]
    assert [v.name for v in whole.graph.value_info] == ["h"]


@pytest.mark.parametrize("rows", [1, 32])
def test_the_prediction_is_within_a_quarter_of_a_fresh_process(taken, subject, tmp_path, rows):
    """Weights of 33 MB that are packed, and two tensors of 2 MB a row."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Reshape", ["r", "s"], ["image"]),
        helper.make_node("Conv", ["image", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "l"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    weights = {
        "w": np.zeros((512, 16_384), np.float32),
        "b": np.zeros(16_384, np.float32),
        "s": np.int64([0, 1, 128, 128]),
        "k": np.zeros((32, 1, 3, 3), np.float32),
        "l": np.zeros((32, 32, 3, 3), np.float32),
    }
    one = taken(nodes, [("x", "float32", [None, 512])], [("y", "float32", [None, 32])], weights)
    point = memory.foresee(subject(one), shapes.size_up(subject(one).proto, one.signature, None)).point(rows)
    write(tmp_path / "rows.npz", made_up(one.signature, 4).inputs)
    with Bench("one") as bench:
        target = records.dump(Target())
        before = bench.ask("load", model=one.path, target=target, rows=str(tmp_path / "rows.npz"), batch_rows=rows)["before_mb"]
        bench.ask("throughput", seconds=0.0)
        grown = bench.ask("memory")["memory_mb"] - before
    assert point.total_mb == pytest.approx(grown, rel=0.25)


def test_a_converted_pipeline_has_no_false_error(taken, subject, digits):
    looked = list(memory.look(subject(digits.model, data=digits.evaluation)))
    assert points(looked)
    assert not [one for one in looked if isinstance(one, Finding) and one.severity == "error"]
