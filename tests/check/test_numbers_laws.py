"""The laws of the area numbers beside parity: each fires where it should, and is silent where it should be."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed
from onnx import TensorProto, helper
from onnx.reference.ops import op_relu

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.backends.onnxruntime_inside import Inside, opened
from shipworthy.check import numbers
from shipworthy.check.intake import read_proto
from shipworthy.check.numbers import closeness, graph, kernels, parity, repeats, runtime
from shipworthy.data import Dataset
from shipworthy.errors import Failed
from shipworthy.records import Target
from shipworthy.targets import KINDS

X, Y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])
ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def node(kind, inputs, output="y", **attributes):
    attributes = {"name": f"the_{kind.lower()}"} | attributes
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def dataset(**inputs):
    return Dataset("rows", "d" * 64, inputs)


def found(subject, law):
    """Severity, place and evidence of each finding of a law."""
    return [(one.severity, one.place, one.evidence) for one in numbers.look(subject) if one.law == f"numbers.{law}"]


@pytest.fixture
def look(taken, subject):
    """The findings of one law on a model of these nodes."""

    def of(law, nodes, data=None, weights=None, inputs=(X,), outputs=(Y,), target=None):
        model = taken(nodes, list(inputs), list(outputs), weights)
        return found(subject(model, data, target=target or Target()), law)

    return of


# finite


def test_a_real_row_whose_answer_is_infinite_is_an_error_with_the_node(look):
    rows = np.abs(ROWS) + 1
    rows[[7, 9], 2] = 0
    nodes = [node("Abs", "x", "a"), node("Log", "a", "b"), node("Relu", "b", "c"), node("Sub", "c b")]
    ((severity, place, evidence),) = [one for one in look("finite", nodes, dataset(x=rows)) if one[0] == "error"]
    assert (severity, place) == ("error", "output y")
    assert evidence == "infinity in 2 of 40 rows, first in row 7, made first by node the_log (Log)"


@pytest.mark.parametrize("data", [None, dataset(x=ROWS)], ids=["made up", "real"])
def test_bounded_answers_are_finite_for_all_inputs(look, data):
    assert look("finite", [node("Tanh", "x", "a"), node("Relu", "a")], data) == []


def test_zeros_that_are_divided_by_are_a_warning(look):
    nodes = [node("Abs", "x", "a"), node("Reciprocal", "a")]
    said = look("finite", nodes, dataset(x=ROWS))
    assert said == [("warning", "output y", "inputs of zeros give infinity, made first by node the_reciprocal (Reciprocal)")]


def test_numbers_too_small_to_square_are_a_warning(look):
    """X / (x² + [x = 0]): right for zero, and infinite where x² becomes zero."""
    nodes = [
        node("Mul", "x x", "square"),
        node("Equal", "x zero", "is"),
        node("Cast", "is", "one", to=TensorProto.FLOAT),
        node("Add", "square one", "below"),
        node("Div", "x below"),
    ]
    said = look("finite", nodes, dataset(x=ROWS), {"zero": np.float32(0)})
    assert said[0][:2] == ("warning", "output y")
    assert said[0][2] == "inputs of the smallest numbers of the type give infinity, made first by node the_div (Div)"


@pytest.mark.parametrize(("scale", "severity"), [(1.0, "warning"), (1e-4, "note"), (None, "note")])
def test_the_largest_inputs_are_graded_by_how_near_real_ones_come(look, scale, severity):
    data = None if scale is None else dataset(x=ROWS * np.float32(scale))
    ((said, place, evidence),) = look("finite", [node("Exp", "x")], data)
    assert (said, place) == (severity, "output y")
    assert evidence.startswith(
        "inputs of 1e+02 give infinity, made first by node the_exp (Exp); up to 1e+01 answers are finite"
    )


def test_only_the_end_of_the_type_is_no_limit_and_a_square_is_one(look):
    assert look("finite", [node("Mul", "x k")], dataset(x=ROWS), {"k": np.float32(1e6)}) == []
    ((severity, _, evidence),) = look("finite", [node("Mul", "x x")], dataset(x=ROWS))
    assert severity == "note"
    assert evidence.startswith("inputs of 1e+20 give infinity, made first by node the_mul (Mul); up to 1e+19 answers")


def test_a_mask_of_infinity_is_not_blamed_for_what_comes_later(look):
    nodes = [node("Add", "x mask", "a"), node("Max", "x a", "b"), node("Exp", "b")]
    said = look("finite", nodes, dataset(x=ROWS), {"mask": np.float32([-np.inf])})
    assert "made first by node the_exp (Exp)" in said[-1][2]
    assert all("the_add" not in evidence for *_, evidence in said)


def test_made_up_rows_without_a_finite_answer_are_a_warning(look):
    said = look("finite", [node("Div", "x zero")], None, {"zero": np.float32(0)})
    assert said == [("warning", "output y", "1 made-up rows give infinity, made first by node the_div (Div)")]


def test_an_input_that_sizes_the_answer_is_left_as_it_is(look):
    nodes = [node("Resize", "x nothing scales")]
    inputs = [X, ("scales", "float32", [2])]
    said = look("finite", nodes, None, {"nothing": np.zeros(0, np.float32)}, inputs, [("y", "float32", [None, None])])
    assert "scales" not in str(said)
    assert "no answer" not in str(said)


# batch


@pytest.mark.parametrize("data", [None, dataset(x=ROWS)], ids=["made up", "real"])
def test_a_model_that_normalises_over_the_rows_is_an_error(look, data):
    ((severity, place, evidence),) = look("batch", [node("Softmax", "x", axis=0)], data)
    assert (severity, place) == ("error", "output y")
    assert "alone and among" in evidence
    assert look("batch", [node("Softmax", "x", axis=1)], data) == []


def test_a_model_that_depends_on_the_order_of_the_rows_is_an_error(look):
    """It adds what the first row is above the last: nothing for a row alone, nor for rows that ascend."""
    nodes = [
        node("Gather", "x first", "a", name="1"),
        node("Gather", "x last", "b"),
        node("Sub", "a b", "c"),
        node("Relu", "c", "d"),
        node("Add", "x d"),
    ]
    weights = {"first": np.int64([0]), "last": np.int64([-1])}
    ((severity, _, evidence),) = look("batch", nodes, dataset(x=np.sort(ROWS, axis=0)), weights)
    assert severity == "error"
    assert "with the rows in reverse" in evidence


def test_labels_have_to_be_the_same(look):
    nodes = [node("ReduceMean", "x axes", "mean", keepdims=1), node("Greater", "x mean", "is"), node("Cast", "is", to=7)]
    said = look("batch", nodes, dataset(x=ROWS), {"axes": np.int64([0])}, outputs=[("y", "int64", [None, 4])])
    assert said[0][:2] == ("error", "output y")
    assert "values differ" in said[0][2]


def test_an_output_that_has_no_row_for_each_is_an_error(look):
    ((severity, place, evidence),) = look(
        "batch", [node("NonZero", "x", "n"), node("Transpose", "n")], dataset(x=ROWS), outputs=[("y", "int64", [None, None])]
    )
    assert (severity, place) == ("error", "output y")
    assert evidence.endswith("it has no row for each")
    assert "shape [128, 2]" in evidence


def test_a_dynamically_quantized_model_is_a_warning(look):
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")]
    ((severity, place, _),) = look("batch", nodes, dataset(x=ROWS))
    assert (severity, place) == ("warning", "output y")


@pytest.mark.parametrize(("shape", "rows"), [([4, 4], 40), ([None, 4], 1)])
def test_what_cannot_be_put_together_is_a_note(look, shape, rows):
    said = look(
        "batch", [node("Relu", "x")], dataset(x=ROWS[:rows]), None, [("x", "float32", shape)], [("y", "float32", shape)]
    )
    assert [one[0] for one in said] == ["note"]


# repeats


def test_random_answers_are_an_error_and_no_other_law_speaks_of_them(taken, subject):
    nodes = [node("RandomNormalLike", "x", "r"), node("Add", "x r")]
    one = subject(taken(nodes, [X], [Y]), dataset(x=ROWS))
    ((severity, place, evidence),) = found(one, "repeats")
    assert (severity, place) == ("error", "output y")
    assert "32 of 40 rows" in evidence
    assert (found(one, "batch"), found(one, "runtime")) == ([], [])


def test_the_same_answers_each_time_are_silent(look):
    assert look("repeats", [node("Relu", "x")], dataset(x=ROWS)) == []


@pytest.mark.parametrize(("factor", "severity"), [(1 + 1e-6, "note"), (1.01, "error")])
def test_answers_that_depend_on_the_threads(look, monkeypatch, factor, severity):
    class Other(OnnxRuntimeRunner):
        def run(self, inputs):
            return {name: answer * np.float32(factor) for name, answer in super().run(inputs).items()}

    monkeypatch.setattr(repeats, "OnnxRuntimeRunner", Other)
    ((said, _, evidence),) = look("repeats", [node("Relu", "x")], dataset(x=ROWS))
    assert said == severity
    assert evidence.startswith("2 threads on 32 of 40 rows: difference")


# half


@pytest.mark.parametrize(
    ("target", "severity"),
    [(Target(), "note"), (KINDS["cuda"], "warning"), (changed(Target(), precision="float16"), "warning")],
    ids=["cpu", "cuda", "precision"],
)
def test_tensors_and_weights_beyond_float16(look, target, severity):
    nodes = [
        node("Mul", "x large", "a", name="1"),
        node("Mul", "a a", "b", name="2"),
        node("Mul", "b small", "c"),
        node("Tanh", "c"),
    ]
    weights = {"large": np.float32([1e5, 1, 1, 1]), "small": np.full(4, 1e-7, np.float32)}
    said = look("half", nodes, dataset(x=ROWS), weights, target=target)
    assert [(level, place) for level, place, _ in said] == [
        (severity, "weight large"),
        (severity, "weight small"),
        (severity, "tensor b"),
    ]
    assert "so 1 more: a (" in said[2][2]
    assert "on 32 of 40 rows" in said[2][2]


def test_tensors_below_float16_and_made_up_rows(look):
    nodes = [node("Mul", "x scale", "a", name="1"), node("Mul", "a scale", "b"), node("Tanh", "b")]
    said = look("half", nodes, None, {"scale": np.float32([0.001])}, target=KINDS["cuda"])
    assert [(level, place) for level, place, _ in said] == [("note", "tensor y")]
    assert "on 32 made-up rows" in said[0][2]


def test_what_fits_in_float16_is_silent(look):
    assert look("half", [node("Mul", "x w")], dataset(x=ROWS), {"w": np.float32([1, 2, 0, 1e-9])}) == []


@pytest.mark.parametrize(("epsilon", "fires"), [(1e-5, False), (1e-12, True)])
def test_an_epsilon_is_told_only_where_it_becomes_zero(look, epsilon, fires):
    said = look("half", [node("Add", "x epsilon")], dataset(x=ROWS), {"epsilon": np.float32(epsilon)})
    assert [place for _, place, _ in said] == (["weight epsilon"] if fires else [])


def test_infinity_inside_does_not_hide_the_rest(look):
    said = look("half", [node("Add", "x mask", "a"), node("Exp", "a")], dataset(x=ROWS), {"mask": np.float32([-np.inf] * 4)})
    assert said == []


# runtime


LAYERS = [
    node("MatMul", "x w", "a"),
    node("Relu", "a", "b"),
    node("Mul", "b w2", "c"),
    node("Add", "c x", "d"),
    node("Abs", "d", "e"),
    node("Sub", "e a"),
]
WEIGHTS = {"w": np.eye(4, dtype=np.float32) * 2, "w2": np.float32([1, 2, 3, 4])}


def test_a_runtime_that_agrees_with_itself_and_the_reference_is_silent(look):
    assert look("runtime", LAYERS, dataset(x=ROWS), WEIGHTS) == []


def test_a_kernel_beside_the_reference_is_named(look, monkeypatch):
    monkeypatch.setattr(op_relu.Relu, "_run", lambda _, x: (np.maximum(x, x * 0.1),))
    ((severity, place, evidence),) = look("runtime", LAYERS, dataset(x=ROWS), WEIGHTS)
    assert (severity, place) == ("warning", "node the_relu (Relu)")
    assert "given the same inputs" in evidence


def test_optimisations_that_change_the_answers_are_found_at_their_node(taken, subject, monkeypatch):
    """Another factor in the third node stands in for what optimisations do wrong."""
    wrong = taken(LAYERS, [X], [Y], WEIGHTS | {"w2": np.float32([1, 2, 3, 5])})
    right = taken(LAYERS, [X], [Y], WEIGHTS)
    plainly = Inside.look
    with opened(Path(wrong.path), {"y"}) as other:
        monkeypatch.setattr(
            Inside,
            "look",
            lambda self, names, inputs, *, optimised=False: plainly(other if optimised else self, names, inputs),
        )
        monkeypatch.setattr(repeats, "OnnxRuntimeRunner", lambda _, target: OnnxRuntimeRunner(Path(wrong.path), target))
        framework = OnnxRuntimeRunner(Path(right.path), Target())
        one = replace(
            subject(right, dataset(x=ROWS), lambda inputs: [*framework.run(inputs).values()]),
            runner=OnnxRuntimeRunner(Path(wrong.path), Target()),
        )
        ((severity, place, evidence),) = found(one, "runtime")
        assert (severity, place) == ("error", "node the_mul (Mul)")
        assert "they part at this node, of 6" in evidence
        ((severity, place, evidence),) = found(one, "parity")
        assert (severity, place) == ("error", "output y")
        assert "see numbers.runtime at node the_mul (Mul)" in evidence
        assert evidence.endswith("the conversion is right")


@pytest.mark.parametrize("first", range(1, 30))
def test_bisection_finds_the_first_node_in_few_looks(first):
    """A chain with a way past it, wrong from one node on."""
    nodes = [helper.make_node("Add", [f"t{place}", "t0"], [f"t{place + 1}"]) for place in range(30)]
    looks = []

    def shifted(names):
        looks.append(names)
        return {name: np.float32([1 + (int(name[1:]) > first)]) for name in names}

    found = runtime.bisect(
        nodes, ["t30"], shifted, lambda names: {name: np.float32([1]) for name in names}, closeness.Closeness()
    )
    assert found == (first, True)
    assert len(looks) <= 5


def test_a_search_that_takes_too_long_says_what_it_knows(monkeypatch):
    monkeypatch.setattr(runtime, "SEARCH_SECONDS", -1)
    nodes = [helper.make_node("Relu", [f"t{place}"], [f"t{place + 1}"]) for place in range(9)]
    assert runtime.bisect(nodes, ["t9"], None, None, closeness.Closeness()) == (8, False)


def test_the_reference_takes_the_small_nodes_first_and_no_more_time_than_it_has(taken):
    nodes = [node("Expand", "x shape", "large"), node("ReduceSum", "large axes", "s", keepdims=0), node("Relu", "s")]
    weights = {"shape": np.int64([1000, 40, 4]), "axes": np.int64([0])}
    model = taken(nodes, [X], [Y], weights)
    with opened(Path(model.path), {"y"}) as inside:
        proto = read_proto(Path(model.path))
        done = kernels.compare(proto, inside, {"x": ROWS}, closeness.of(proto), 1.0)
        assert (done.departures, done.compared, done.of) == ((), 2, 3)
        assert kernels.compare(proto, inside, {"x": ROWS}, closeness.of(proto), 0.0).compared == 0


def test_rows_that_the_runtime_cannot_run_are_an_error_and_made_up_ones_a_note(look):
    nodes, weights = [node("Gather", "table x")], {"table": np.ones((1, 4), np.float32)}
    inputs = [("x", "int64", [None])]
    ((severity, _, evidence),) = look("runtime", nodes, dataset(x=np.int64([5, 6])), weights, inputs)
    assert severity == "error"
    assert "cannot run the rows of rows" in evidence
    assert [one[0] for one in look("runtime", nodes, None, weights, inputs)] in ([], ["note"])


# parity beside them


def test_a_slow_model_is_compared_on_fewer_rows(taken, subject):
    class Slow:
        def __init__(self, runner):
            self.runner = runner

        def run(self, inputs):
            time.sleep(0.02 * len(inputs["x"]))
            return self.runner.run(inputs)

    one = subject(taken([node("Relu", "x")], [X], [Y]), dataset(x=np.tile(ROWS, (100, 1))), lambda x: [x["x"].clip(0)])
    trial = numbers.prepare(replace(one, runner=Slow(one.runner)))
    rows, ours = numbers.answers(one.runner, trial)
    (finding,) = parity.ask(one, trial, rows, ours).findings
    assert finding.severity == "note"
    assert 10 < len(rows["x"]) <= 100
    assert finding.evidence.startswith("largest absolute difference 0 over")
    assert "of 4000" in finding.evidence


def test_answers_of_several_calls_are_those_of_one(taken, subject):
    one = subject(taken([node("Relu", "x")], [X], [Y]), dataset(x=ROWS))
    trial = replace(numbers.prepare(one), seconds=0.05)
    rows, ours = numbers.answers(one.runner, trial)
    np.testing.assert_array_equal(ours["y"], rows["x"].clip(0))
    assert len(rows["x"]) == 40


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("answer", "expected", "close"),
    [
        ([1.0, NAN, INF], [1.0, NAN, INF], True),
        ([1.0, NAN], [1.0, 1.0], False),
        ([1.0, INF], [1.0, -INF], False),
        ([100.0, 0.009], [100.0, 0.0], True),
        ([100.0, 0.011], [100.0, 0.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([0.0, 1e-9], [0.0, 0.0], False),
        ([1.0], [1.0, 1.0], False),
        ([], [], True),
    ],
)
def test_what_rounding_explains(answer, expected, close):
    one, two = np.float32(answer), np.float32(expected)
    assert (closeness.Closeness().excess(one, two) <= 1) is close
    assert closeness.Closeness(quantized=False).levels_explain(one, two) is False


# all kinds of models


MODELS = {
    "texts": (
        [helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a"], values_int64s=[1])],
        [("x", "str", [None, 1])],
        [("y", "int64", [None, 1])],
    ),
    "several inputs": (
        [node("Gather", "x k", "g", axis=1), node("ReduceSum", "g", "y", keepdims=0)],
        [X, ("k", "int64", [])],
        [("y", "float32", [])],
    ),
    "no input with a row": ([node("Relu", "x")], [("x", "float32", [])], [("y", "float32", [])]),
    "no rows in the answer": (
        [node("Slice", "x from from")],
        [X],
        [("y", "float32", [None, 4])],
    ),
    "a scalar": ([node("ReduceSum", "x", keepdims=0)], [X], [("y", "float32", [])]),
    "fixed": ([node("Relu", "x")], [("x", "float32", [3, 4])], [("y", "float32", [3, 4])]),
    "rows and none": (
        [node("Mul", "x k")],
        [X, ("k", "float32", [1])],
        [Y],
    ),
    "half": ([node("Relu", "x")], [("x", "float16", [None, 4])], [("y", "float16", [None, 4])]),
    "a sequence within": (
        [node("SplitToSequence", "x", "s", axis=1), node("ConcatFromSequence", "s", axis=1)],
        [X],
        [Y],
    ),
    "a branch": (
        [
            node("ReduceSum", "x", "sum", keepdims=0),
            node("Greater", "sum zero", "is"),
            helper.make_node(
                "If",
                ["is"],
                ["y"],
                then_branch=helper.make_graph(
                    [helper.make_node("Relu", ["x"], ["t"])], "t", [], [helper.make_tensor_value_info("t", 1, None)]
                ),
                else_branch=helper.make_graph(
                    [helper.make_node("Identity", ["x"], ["e"])], "e", [], [helper.make_tensor_value_info("e", 1, None)]
                ),
            ),
        ],
        [X],
        [Y],
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_looked_at(onnx_model, taken, subject, kind):
    nodes, inputs, outputs = MODELS[kind]
    weights = {"from": np.int64([0]), "zero": np.float32(0)}
    model = taken(nodes, inputs, outputs, weights, domains={"ai.onnx.ml": 3})
    said = [*numbers.look(subject(model))]
    errors = [one for one in said if one.severity == "error"]
    assert {(one.law, one.place) for one in errors} == (
        {("numbers.batch", "output y")} if kind == "no rows in the answer" else set()
    )
    assert not [one for one in said if one.law == "numbers.runtime"], said


def test_fixed_rows_are_taken_from_the_data(taken, subject):
    model = taken([node("Relu", "x")], [("x", "float32", [3, 4])], [("y", "float32", [3, 4])])
    one = subject(model, dataset(x=ROWS), lambda inputs: [inputs["x"].clip(0)])
    assert found(one, "parity")[0][2] == "largest absolute difference 0 over 3 rows (0 of the largest answer), of 40"
    few = subject(model, dataset(x=ROWS[:2]), lambda inputs: [inputs["x"].clip(0)])
    assert found(few, "parity") == [("warning", "[data] evaluation", "2 rows are less than the 3 of one call")]


def test_looking_inside_gives_any_tensor_and_our_own_errors(taken):
    model = taken(LAYERS, [X], [Y], WEIGHTS)
    with opened(Path(model.path), {"y"}) as inside:
        for optimised in (False, True):
            seen = inside.look(["b", "y", "a"], {"x": ROWS}, optimised=optimised)
            assert [*seen] == ["b", "y", "a"]
            np.testing.assert_allclose(seen["b"], (2 * ROWS).clip(0))
        with pytest.raises(Failed, match="could not run the rows"):
            inside.look(["a"], {"x": ROWS[:, :2]})
    assert Path(model.path).read_bytes() == Path(model.source.path).read_bytes()


def test_sizes_are_inferred_without_the_weights(taken):
    model = taken(
        [node("MatMul", "x w", "a"), node("Reshape", "a to")],
        [X],
        [("y", "float32", [None, 100])],
        {"w": np.ones((4, 600), np.float32), "to": np.int64([-1, 100])},
    )
    types = graph.inferred(read_proto(Path(model.path)), {"x": ROWS})
    assert {name: types[name] for name in ("a", "y")} == {"a": (1, 4 * 40 * 600), "y": (1, 4 * 40 * 600)}
    assert [*graph.groups(["a", "y", "z"], types, 100_000)] == [["a"], ["y"], ["z"]]
    assert [*graph.groups(["a", "y"], types, 200_000)] == [["a", "y"]]
