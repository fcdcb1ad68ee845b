"""Area graph: each law fires where it should, and is silent where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, defs, helper

from shipworthy import check
from shipworthy.check.graph import cost, cuda_operators, elsewhere, precision, tensorrt_operators, training, waste
from shipworthy.check.graph.view import view
from shipworthy.data import Dataset
from shipworthy.errors import Refused
from shipworthy.records import Target
from shipworthy.targets import KINDS

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])
ONE, TRUE, FALSE, HALF = (np.array(one) for one in (np.float32(1), True, False, np.float32(0.5)))


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


@pytest.fixture
def found(onnx_model):
    """The laws, with severities, that a part of the area says are broken."""

    def of(part, *arguments, **options):
        return [(one.law, one.severity) for one in part.look(view(onnx_model(*arguments, **options)))]

    return of


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("ratio", "mode", "expected"),
    [
        (HALF, TRUE, [("graph.training", "error")]),
        (HALF, FALSE, []),
        (np.array(np.float32(0)), TRUE, []),
    ],
)
def test_dropout_that_drops(found, ratio, mode, expected):
    assert found(training, [node("Dropout", "x r m", "y")], [X], [Y], {"r": ratio, "m": mode}) == expected


def test_dropout_that_a_caller_switches_on(found):
    inputs = [X, ("m", "bool", [])]
    assert found(training, [node("Dropout", "x r m", "y")], inputs, [Y], {"r": HALF}) == [("graph.training", "warning")]
    assert found(training, [node("Dropout", "x", "y")], [X], [Y]) == []


@pytest.mark.parametrize(("mode", "outputs", "expected"), [(1, "y a b", [("graph.training", "error")]), (0, "y", [])])
def test_batch_normalization_by_the_batch(found, mode, outputs, expected):
    weights = {name: np.ones(2, np.float32) for name in "smv"}
    nodes = [node("BatchNormalization", "x s s m v", outputs, training_mode=mode)]
    assert found(training, nodes, [X], [Y], weights) == expected


def test_training_inside_a_branch_is_seen(found):
    def branch(name, mode):
        nodes = [node("Dropout", f"x r {mode}", name)]
        return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(name)])

    nodes = [node("If", "c", "y", then_branch=branch("n", "t"), else_branch=branch("m", "f"))]
    assert found(training, nodes, [X], [Y], {"c": TRUE, "r": HALF, "t": TRUE, "f": FALSE}) == [("graph.training", "error")]


def test_a_loss_and_random_numbers(found):
    loss = [node("SoftmaxCrossEntropyLoss", "x t", "y")]
    assert found(training, loss, [X, ("t", "int64", [None])], [Y]) == [("graph.loss", "warning")]
    for kind in ("RandomNormalLike", "Bernoulli", "Multinomial"):
        assert found(training, [node(kind, "x", "y")], [X], [Y]) == [("graph.random", "warning")]
    assert found(training, [node("Softmax", "x", "y")], [X], [Y]) == []


# ---------------------------------------------------------------- 64 bits


def test_float64_arithmetic_but_not_its_transport(found):
    cast = [
        node("Cast", "x", "d", to=TensorProto.DOUBLE),
        node("Mul", "d d", "e"),
        node("Cast", "e", "y", to=TensorProto.FLOAT),
    ]
    assert found(precision, cast, [X], [Y]) == [("graph.float64", "warning")]
    assert found(precision, [cast[0], node("Cast", "d", "y", to=TensorProto.FLOAT)], [X], [Y]) == []


WHOLE = ("i", "int64", [None, 2])
INT64 = {
    "data that ends as floats": (
        [node("Mul", "i two", "d"), node("Cast", "d", "y", to=TensorProto.FLOAT)],
        True,
    ),
    "data that is the answer": ([node("Mul", "i two", "d"), node("Identity", "d", "y")], True),
    "rounded floats": (
        [
            node("Cast", "x", "r", to=TensorProto.INT64),
            node("Add", "r two", "d"),
            node("Cast", "d", "y", to=TensorProto.FLOAT),
        ],
        True,
    ),
    "indices": ([node("Add", "i two", "d"), node("Gather", "table d", "y")], False),
    "a shape": (
        [node("Shape", "x", "s"), node("Mul", "s two", "d"), node("Expand", "one d", "y")],
        False,
    ),
    "labels": (
        [node("ArgMax", "x", "l", axis=1), node("Add", "l two", "y")],
        False,
    ),
    "a mask": (
        [node("Sub", "i two", "d"), node("Equal", "d two", "b"), node("Cast", "b", "y", to=TensorProto.FLOAT)],
        False,
    ),
    "moved only": ([node("Transpose", "i", "d"), node("Cast", "d", "y", to=TensorProto.FLOAT)], False),
}


@pytest.mark.parametrize(("nodes", "fires"), INT64.values(), ids=INT64)
def test_int64_arithmetic_on_data(found, nodes, fires):
    answer = ("y", "int64" if nodes[-1].op_type in {"Add", "Identity"} else "float32", None)
    weights = {"two": np.array(2), "table": np.ones((9, 2), np.float32), "one": ONE}
    assert found(precision, nodes, [X, WHOLE], [answer], weights) == [("graph.int64", "warning")] * fires


# ---------------------------------------------------------------- waste


BIG = np.random.default_rng(0).standard_normal((1000, 2)).astype(np.float32)


def test_a_weight_that_is_stored_twice(onnx_model):
    nodes = [node("MatMul", "x a", "m"), node("MatMul", "m b", "y")]
    weights = {"a": BIG[:500].T.copy(), "b": BIG[:500]}
    assert list(waste.look(view(onnx_model(nodes, [X], [Y], weights)))) == []
    nodes = [node("Add", "x a", "m"), node("Add", "m b", "y")]
    (copy,) = waste.look(view(onnx_model(nodes, [X], [Y], {"a": BIG, "b": BIG.copy()})))
    assert (copy.law, copy.severity, copy.place) == ("graph.twice", "warning", "initializer b")
    assert "1 weights are copies of others: 0.008 MB" in copy.evidence
    other = {"a": BIG, "b": BIG.astype(np.float64).astype(np.float32) + 1}
    assert list(waste.look(view(onnx_model(nodes, [X], [Y], other)))) == []


def test_what_is_stored_twice_by_another_encoding_is_the_same(onnx_model):
    proto = onnx_model([node("Add", "x a", "m"), node("Add", "m b", "y")], [X], [Y], {"a": BIG, "b": BIG})
    plain = helper.make_tensor("b", TensorProto.FLOAT, BIG.shape, BIG.ravel().tolist())
    proto.graph.initializer[1].CopyFrom(plain)
    assert [one.law for one in waste.look(view(proto))] == ["graph.twice"]


def test_texts_and_small_weights_are_let_be(found):
    nodes = [node("Add", "x a", "m"), node("Add", "m b", "y")]
    assert found(waste, nodes, [X], [Y], {"a": BIG[:5], "b": BIG[:5]}) == []


def test_what_leads_to_no_output(onnx_model):
    nodes = [node("Relu", "x", "y"), node("Neg", "x", "d"), node("Add", "d w", "e")]
    dead, weight = waste.look(view(onnx_model(nodes, [X], [Y], {"w": BIG})))
    assert (dead.law, dead.place) == ("graph.unread", "node that gives d (Neg)")
    assert "2 nodes lead to no output" in dead.evidence
    assert (weight.law, weight.severity, weight.place) == ("graph.unread", "warning", "initializer w")
    assert list(waste.look(view(onnx_model(nodes[:1], [X], [Y])))) == []


def test_the_order_of_the_nodes_does_not_matter(found):
    assert found(waste, [node("Neg", "m", "y"), node("Relu", "x", "m")], [X], [Y]) == []


def test_nodes_that_change_nothing(onnx_model):
    nodes = [
        node("Identity", "x", "a"),
        node("Identity", "a", "b"),
        node("Cast", "b", "c", to=TensorProto.FLOAT),
        node("Relu", "c", "d"),
        node("Identity", "d", "y"),
    ]
    (idle,) = waste.look(view(onnx_model(nodes, [X], [Y])))
    assert (idle.law, idle.severity) == ("graph.idle", "note")
    assert "3 nodes change nothing, 2 of them behind another one" in idle.evidence
    assert list(waste.look(view(onnx_model([nodes[0], node("Neg", "a", "y")], [X], [Y])))) != []
    lowered = [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Neg", "h", "y")]
    assert list(waste.look(view(onnx_model(lowered, [X], [("y", "float16", None)])))) == []


def test_a_tensor_that_is_quantized_again(found):
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("QuantizeLinear", "d s z", "r"),
        node("DequantizeLinear", "r s z", "y"),
    ]
    weights = {"s": HALF, "z": np.array(0, np.int8)}
    assert found(waste, nodes, [X], [Y], weights) == [("graph.requantized", "warning")]
    once = [*nodes[:2], node("Relu", "d", "e"), node("QuantizeLinear", "e s z", "r"), nodes[3]]
    assert found(waste, once, [X], [Y], weights) == []


# ---------------------------------------------------------------- other runtimes


def test_tensorrt_by_its_table(onnx_model):
    nodes = [node("Relu", "x", "a"), node("Det", "a", "b"), node("Neg", "b", "c"), node("Det", "c", "d"), node("Abs", "d", "y")]
    (split,) = elsewhere.fallbacks(view(onnx_model(nodes, [X], [Y])))
    assert (split.law, split.severity, split.place) == ("graph.fallback", "warning", "node that gives b (Det)")
    assert "2 of 5 nodes" in split.evidence
    assert "at least 3 engines" in split.evidence
    assert list(elsewhere.fallbacks(view(onnx_model([nodes[0], node("Abs", "a", "y")], [X], [Y])))) == []


def test_tensorrt_reads_no_texts_and_what_functions_hold(onnx_model):
    seen = view(onnx_model([node("Identity", "x", "y")], [("x", "str", [None])], [("y", "str", [None])]))
    assert [one.law for one in elsewhere.fallbacks(seen)] == ["graph.fallback"]
    seen = view(onnx_model([node("Mine", "x", "y", domain="own")], [X], [Y], domains={"own": 1}))
    assert [one.law for one in elsewhere.fallbacks(seen)] == ["graph.fallback"]
    assert list(elsewhere.fallbacks(seen, {("own", "Mine")})) == []


def test_each_target_has_its_own_way(taken, subject):
    model = taken([node("Relu", "x", "y")], [X], [Y])

    def said(target):
        one = subject(model, target=target)
        return [(one.law, one.severity, one.place) for one in elsewhere.look(one, view(one.proto))]

    assert said(Target()) == []
    assert said(KINDS["tensorrt-10"]) == []
    assert said(KINDS["cuda"]) == []


def test_cuda_by_its_table(onnx_model):
    nodes = [
        node("Relu", "x", "a"),
        node("Det", "a", "b"),
        node("Neg", "b", "c"),
        node("Tan", "c", "d"),
        node("Mish", "d", "y"),
    ]
    (split,) = elsewhere.left_to_the_cpu(view(onnx_model(nodes, [X], [Y])))
    assert (split.law, split.severity, split.place) == ("graph.fallback", "warning", "node that gives b (Det)")
    assert "2 of 5 nodes have no kernel of CUDA" in split.evidence, "Mish is made of operators that have one"
    assert "at least 3 stretches" in split.evidence
    seen = view(onnx_model([node("Mine", "x", "y", domain="own")], [X], [Y], domains={"own": 1}))
    assert "at least 0 stretches" in next(elsewhere.left_to_the_cpu(seen)).evidence
    assert list(elsewhere.left_to_the_cpu(seen, {("own", "Mine")})) == []


def test_the_tables_name_operators_that_exist():
    old = {"Affine", "Crop", "DynamicSlice", "ImageScaler", "ParametricSoftplus", "ScaledTanh", "SimplifiedLayerNormalization"}
    known = {schema.name for schema in defs.get_all_schemas_with_history() if not schema.domain}
    assert cuda_operators.KERNELS[""] - known == old
    assert tensorrt_operators.READ - known <= old


@pytest.mark.parametrize("lacking", [None, Refused("an extra", found="no module 'openvino'", next="pip install it")])
def test_openvino_that_is_not_installed_is_said(taken, subject, monkeypatch, lacking):
    """Where it is installed the law ``format.loads`` loads the model into it."""
    monkeypatch.setattr(elsewhere.errand, "missing", lambda *_: lacking)
    one = subject(taken([node("Relu", "x", "y")], [X], [Y]), target=KINDS["openvino-cpu"])
    found = list(elsewhere.look(one, view(one.proto)))
    said = [("note", "not checked: no module 'openvino'; pip install it")] if lacking else []
    assert [(note.severity, note.evidence) for note in found] == said


# ---------------------------------------------------------------- cost


def chain(length):
    """A product, and arithmetic on constants that has to be done again for every row unless it is folded."""
    side = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32) / 25
    nodes = [node("MatMul", "w w", "c0"), *(node("MatMul", f"c{i} w", f"c{i + 1}") for i in range(length))]
    nodes.append(node("MatMul", f"x c{length}", "y"))
    return nodes, [("x", "float32", [None, 512])], [("y", "float32", [None, 512])], {"w": side}


def test_constants_that_are_not_folded_cost_what_is_measured(taken, subject, monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.3)
    one = subject(taken(*chain(3)))
    (finding,) = cost.look(one, view(one.proto))
    assert (finding.law, finding.severity) == ("graph.fused", "warning")
    assert "4 nodes read constants only" in finding.evidence
    assert float(finding.evidence.split(" times")[0].rpartition(" ")[2]) > 2


def test_a_clean_graph_is_measured_and_no_warning(taken, subject, monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.3)
    one = subject(taken([node("MatMul", "x w", "y")], *chain(0)[1:]))
    (finding,) = cost.look(one, view(one.proto))
    assert (finding.law, finding.severity, finding.mend) == ("graph.fused", "note", "")
    assert " times (" in finding.evidence


def test_what_takes_too_long_is_not_measured(taken, subject, monkeypatch):
    monkeypatch.setattr(cost, "LONGEST_SECONDS", 0)
    one = subject(taken([node("Relu", "x", "y")], [X], [Y]))
    (finding,) = cost.look(one, view(one.proto))
    assert "is not measured: one call takes" in finding.evidence


def test_what_would_need_too_much_memory_is_not_measured(taken, subject, monkeypatch):
    monkeypatch.setattr(cost, "LARGEST_BYTES", 100)
    monkeypatch.setattr(cost, "caller", None)
    one = subject(taken([node("MatMul", "x w", "y")], *chain(0)[1:]))
    (finding,) = cost.look(one, view(one.proto))
    assert "is not measured: that would take 2 MB more" in finding.evidence


def test_rows_that_do_not_run_are_no_crash(taken, subject):
    nodes = [node("Reshape", "x s", "m"), node("Relu", "m", "y")]
    one = subject(taken(nodes, [X], [("y", "float32", None)], {"s": np.array([7, 7])}))
    (finding,) = cost.look(one, view(one.proto))
    assert (finding.severity, "is not measured" in finding.evidence) == ("note", True)


def test_the_rows_of_the_user_are_taken(taken, subject):
    nodes = [node("Gather", "t i", "y")]
    model = taken(
        nodes, [("i", "int64", [None])], [Y], {"t": np.ones((1, 2), np.float32)}
    )  # row 1, which is made up, is not there
    rows = Dataset("own", "", {"i": np.zeros(3, np.int64)})
    one = subject(model, data=rows)
    (finding,) = cost.look(one, view(one.proto))
    assert " times (" in finding.evidence


def test_the_interval_of_a_median():
    assert cost.median([3, 1, 2, 5, 4, 6]) == (3.5, 1, 6)
    middle, low, high = cost.median([float(i) for i in range(60)])
    assert (middle, low, high) == (29.5, 22, 37)


# ---------------------------------------------------------------- all


def test_an_ordinary_model_has_no_error_and_no_warning(digits):
    report = check.run(digits.model)
    assert [one for one in report.findings if one.law.startswith(("graph.", "signature.")) and one.severity == "error"] == []
