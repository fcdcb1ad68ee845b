from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from shipworthy.serve.calls import Status
from shipworthy.serve.grpc import fields, messages, tensorproto

from .conftest import Fake, Server, close, new
from .test_infer import IDENTITY, VALUES, same

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
SERVING = "tensorflow.serving."
NUMBERS = {  # of TensorFlow's types.proto
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "str": 7,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
ROWS = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")


def content(array):
    """An array as TensorFlow writes it: bytes, or texts one by one."""
    dtype = "str" if array.dtype == object else array.dtype.name
    proto = new("tensorflow.TensorProto", dtype=NUMBERS[dtype])
    for n in array.shape:
        proto.tensor_shape.dim.add(size=n)
    if dtype == "str":
        proto.string_val.extend(text.encode() for text in array.ravel())
    else:
        proto.tensor_content = array.tobytes()
    return proto


def typed(array, count=None):
    """An array as its first values one by one; the last stands for the rest."""
    proto = content(array)
    if array.dtype != object:
        proto.ClearField("tensor_content")
        flat = array.view("uint16") if array.dtype == "float16" else array
        getattr(proto, tensorproto.PLACES[array.dtype.name]).extend(flat.ravel().tolist()[:count])
    else:
        del proto.string_val[len(proto.string_val) if count is None else count :]
    return proto


def predict_request(model, protos, *, outputs=(), version=None, label="", signature=""):
    made = new(SERVING + "PredictRequest", output_filter=outputs)
    made.model_spec.name, made.model_spec.signature_name = model, signature
    if version is not None:
        made.model_spec.version.value = version
    if label:
        made.model_spec.version_label = label
    for name, proto in protos.items():
        made.inputs[name].CopyFrom(proto)
    return made


def predict(server, made):
    call = server.bytes(PREDICTION + "Predict", made.SerializeToString())
    assert call.status is Status.OK, call.text
    return new(SERVING + "PredictResponse").FromString(call.sent[0])


def arrays_of(answer):
    dtypes = {number: dtype for dtype, number in NUMBERS.items()}
    found = {}
    for name, proto in answer.outputs.items():
        shape = [dim.size for dim in proto.tensor_shape.dim]
        dtype = dtypes[proto.dtype]
        if dtype == "str":
            found[name] = np.array([text.decode() for text in proto.string_val], object).reshape(shape)
        else:
            found[name] = np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return found


@pytest.mark.parametrize("form", [content, typed])
def test_every_dtype_goes_both_ways(server, form):
    answer = predict(server, predict_request("identity", {name: form(array) for name, array in IDENTITY.items()}))
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("identity", 1)
    assert answer.model_spec.signature_name == "serving_default"
    found = arrays_of(answer)
    assert len(found) == len(IDENTITY)
    for name, array in IDENTITY.items():
        assert same(found[name.replace("in_", "out_")], array), name


@pytest.mark.parametrize("dtype", VALUES)
def test_the_last_value_stands_for_the_rest(dtype):
    array = IDENTITY[f"in_{dtype}"].copy()
    array[1] = array[0, 1]
    for count in (2, 3, 4):
        assert same(tensorproto.to_array("t", typed(array, count), dtype, (2, 2)), array)


def test_the_version_named_answers(server):
    x = np.ones((1, 3), "float32")
    two = {"a": content(x), "b": typed(x, 1)}
    for version, expected in ((None, 12), (0, 12), (3, 3), (1, 1)):
        answer = predict(server, predict_request("two", two, version=version, signature="serving_default"))
        assert answer.model_spec.version.value == expected
        assert (arrays_of(answer)["y"] == 2).all()


def test_a_filter_chooses_outputs(server):
    answer = predict(server, predict_request("linear", {"x": content(ROWS)}, outputs=["scores"]))
    assert list(answer.outputs) == ["scores"]


def test_an_output_that_does_not_exist_takes_no_run(fresh):
    made = predict_request("linear", {"x": content(ROWS)}, outputs=["z"])
    assert fresh.bytes(PREDICTION + "Predict", made.SerializeToString()).status is Status.INVALID_ARGUMENT
    assert fresh.catalog.find("linear").statistics.successes == 0


X = {"x": content(ROWS)}


def changed(**changes):
    proto = content(ROWS)
    for key, value in changes.items():
        if isinstance(value, list):
            getattr(proto, key).extend(value)
        else:
            setattr(proto, key, value)
    return {"x": proto}


def shaped(*sizes, values=(1.0,), unknown=False):
    proto = new("tensorflow.TensorProto", dtype=1, float_val=values)
    proto.tensor_shape.unknown_rank = unknown
    for n in sizes:
        proto.tensor_shape.dim.add(size=n)
    return {"x": proto}


BAD = {
    "model": (predict_request("nobody", X), Status.NOT_FOUND, "no model 'nobody'"),
    "no model": (predict_request("", X), Status.NOT_FOUND, "no model ''"),
    "version": (predict_request("linear", X, version=9), Status.NOT_FOUND, "no version '9'"),
    "label": (predict_request("linear", X, label="canary"), Status.NOT_FOUND, "no version 'canary'"),
    "signature": (predict_request("linear", X, signature="other"), Status.INVALID_ARGUMENT, "no signature 'other'"),
    "input": (predict_request("linear", {"z": X["x"]}), Status.INVALID_ARGUMENT, "found: z"),
    "output": (predict_request("linear", X, outputs=["z"]), Status.INVALID_ARGUMENT, "output 'z' does not exist"),
    "dtype": (
        predict_request("linear", {"x": content(ROWS.astype("float64"))}),
        Status.INVALID_ARGUMENT,
        "found: DT_DOUBLE [3, 16]; expected: DT_FLOAT [-1, 16]",
    ),
    "unknown dtype": (predict_request("linear", changed(dtype=14)), Status.INVALID_ARGUMENT, "found: data type 14 [3, 16]"),
    "shape": (predict_request("linear", {"x": content(ROWS[:, 1:])}), Status.INVALID_ARGUMENT, "DT_FLOAT [3, 15]"),
    "negative": (predict_request("linear", shaped(-1, 16)), Status.INVALID_ARGUMENT, "a dimension is negative"),
    "no shape": (predict_request("linear", shaped(unknown=True)), Status.INVALID_ARGUMENT, "'x' has no shape"),
    "no rows": (predict_request("linear", shaped(0, 16, values=())), Status.INVALID_ARGUMENT, "'x' has no rows"),
    "size": (predict_request("linear", changed(tensor_content=b"abc")), Status.INVALID_ARGUMENT, "found: 3 bytes"),
    "twice": (predict_request("linear", changed(float_val=[1])), Status.INVALID_ARGUMENT, "found: tensor_content, float_val"),
    "place": (
        predict_request("linear", changed(tensor_content=b"", double_val=[1])),
        Status.INVALID_ARGUMENT,
        "found: double_val; expected: its bytes in tensor_content, or its values in float_val",
    ),
    "no values": (predict_request("linear", shaped(1, 16, values=())), Status.INVALID_ARGUMENT, "found: 0 values in float_val"),
    "too many": (predict_request("linear", shaped(1, 16, values=[1] * 17)), Status.INVALID_ARGUMENT, "found: 17 values"),
    "bomb": (predict_request("linear", shaped(2**40, 16)), Status.INVALID_ARGUMENT, "'x' repeats a value too often"),
    "text as bytes": (
        predict_request(
            "text", {"x": new("tensorflow.TensorProto", dtype=7, tensor_content=b"a", tensor_shape={"dim": [{"size": 1}] * 2})}
        ),
        Status.INVALID_ARGUMENT,
        "found: tensor_content; expected: its values in string_val",
    ),
    "text": (
        predict_request(
            "text", {"x": new("tensorflow.TensorProto", dtype=7, string_val=[b"\xff"], tensor_shape={"dim": [{"size": 1}] * 2})}
        ),
        Status.INVALID_ARGUMENT,
        "element 0 is not UTF-8",
    ),
}


@pytest.mark.parametrize(("made", "status", "words"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(server, made, status, words):
    call = server.bytes(PREDICTION + "Predict", made.SerializeToString())
    assert call.status is status
    assert words in call.text


@pytest.mark.parametrize(("dtype", "value"), [("int8", 128), ("uint8", -1), ("uint16", 65536), ("float16", 65536)])
def test_a_number_beyond_the_dtype_is_refused(dtype, value):
    proto = new("tensorflow.TensorProto", dtype=NUMBERS[dtype])
    getattr(proto, tensorproto.PLACES[dtype]).append(value)
    with pytest.raises(tensorproto.Refused, match="'t': a value is out of the range of DT_"):
        tensorproto.to_array("t", proto, dtype, (1,))


def test_a_repeat_is_bounded_by_bytes():
    proto = new("tensorflow.TensorProto", dtype=1, float_val=[1])
    assert tensorproto.to_array("t", proto, "float32", (16_000_000,)).nbytes == 64_000_000
    with pytest.raises(tensorproto.Refused, match="too often"):
        tensorproto.to_array("t", proto, "float32", (16_000_001,))


def test_metadata_is_the_signature(server):
    answer = server.ask(
        PREDICTION + "GetModelMetadata",
        "GetModelMetadataRequest",
        "GetModelMetadataResponse",
        model_spec={"name": "linear"},
        metadata_field=["signature_def"],
    )
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("linear", 1)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    definition = new(SERVING + "SignatureDefMap").FromString(packed.value).signature_def["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"

    def plain(infos):
        return {name: (info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim]) for name, info in infos.items()}

    assert plain(definition.inputs) == {"x": ("x", 1, [-1, 16])}
    assert plain(definition.outputs) == {"label": ("label", 9, [-1]), "scores": ("scores", 1, [-1, 5])}


@pytest.mark.parametrize("wanted", [[], ["other"], ["signature_def", "other"]])
def test_other_metadata_is_refused(server, wanted):
    made = new(SERVING + "GetModelMetadataRequest", model_spec={"name": "linear"}, metadata_field=wanted)
    call = server.bytes(PREDICTION + "GetModelMetadata", made.SerializeToString())
    assert call.status is Status.INVALID_ARGUMENT
    assert "expected: signature_def" in call.text


def test_status(server):
    def status(**spec):
        answer = server.ask(MODEL + "GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse", model_spec=spec)
        assert {(one.state, one.status.error_code) for one in answer.model_version_status} == {(30, 0)}
        return [one.version for one in answer.model_version_status]

    assert status(name="two") == [12, 3, 1]
    assert status(name="two", version={"value": 3}) == [3]
    assert status(name="two", version={"value": 0}) == [12, 3, 1]
    for spec in ({"name": "nobody"}, {"name": "two", "version": {"value": 4}}):
        made = new(SERVING + "GetModelStatusRequest", model_spec=spec)
        assert server.bytes(MODEL + "GetModelStatus", made.SerializeToString()).status is Status.NOT_FOUND


def test_a_client_that_has_gone_takes_no_run(fresh):
    call = Fake()

    async def begin():
        fresh.services.unary[PREDICTION + "Predict"](call, predict_request("linear", X).SerializeToString())
        call.on_cancel()

    fresh.loop.run_until_complete(begin())
    predict(fresh, predict_request("linear", X))
    assert fresh.catalog.find("linear").statistics.cancelled == 1
    assert call.status is None


# ---------------------------------------------------------------- examples


def example(**features):
    """Features by name: floats, ints or bytes in a list."""
    made = new("tensorflow.Example")
    made.features.SetInParent()
    for name, values in features.items():
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(values[0])] if values else None
        feature = made.features.feature[name]
        if kind:
            getattr(feature, kind).value.extend(values)
    return made


@pytest.fixture(scope="module")
def special(tmp_path_factory):
    """'even': one float a row out of floats [., 2], ints and bools; 'named': scores with their texts beside them."""
    folder = tmp_path_factory.mktemp("special")

    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def save(name, nodes, inputs, outputs):
        graph = helper.make_graph(nodes, name, inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        (folder / name).write_bytes(model.SerializeToString())
        return folder / name

    even = save(
        "even",
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=1, noop_with_empty_axes=1),
            helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=1),
            helper.make_node("Cast", ["n"], ["nf"], to=1),
            helper.make_node("Cast", ["flag"], ["ff"], to=1),
            helper.make_node("Add", ["most", "nf"], ["a"]),
            helper.make_node("Add", ["a", "ff"], ["y"]),
        ],
        [value("x", "float32", [None, 2]), value("n", "int8", [None, 1]), value("flag", "bool", [None, 1])],
        [value("y", "float32", [None, 1])],
    )
    named = save(
        "named",
        [helper.make_node("Identity", ["s"], ["scores"]), helper.make_node("Identity", ["t"], ["classes"])],
        [value("s", "float64", [None, None]), value("t", "object", [None, 2])],
        [value("scores", "float64", [None, None]), value("classes", "object", [None, 2])],
    )
    made = Server({"even": even, "named": named})
    yield made
    close(made)


def run(server, method, model, examples, context=None):
    made = new(SERVING + {"Classify": "ClassificationRequest", "Regress": "RegressionRequest"}[method])
    made.model_spec.name = model
    listed = made.input.example_list if context is None else made.input.example_list_with_context
    listed.SetInParent()
    listed.examples.extend(examples)
    if context is not None:
        listed.context.CopyFrom(context)
    call = server.bytes(PREDICTION + method, made.SerializeToString())
    if call.status is not Status.OK:
        assert call.status is Status.INVALID_ARGUMENT
        return call.text
    gives = {"Classify": "ClassificationResponse", "Regress": "RegressionResponse"}[method]
    answer = messages.load()[SERVING + gives].FromString(call.sent[0])
    assert (answer.model_spec.name, answer.model_spec.version.value) == (model, 1)
    return answer.result


def test_classify_gives_a_score_for_each_class(server):
    expected = arrays_of(predict(server, predict_request("linear", X)))["scores"]
    result = run(server, "Classify", "linear", [example(x=row.tolist()) for row in ROWS])
    assert [[one.score for one in row.classes] for row in result.classifications] == expected.tolist()
    assert {one.label for row in result.classifications for one in row.classes} == {""}


def test_classify_gives_the_texts_beside_the_scores(special):
    result = run(
        special, "Classify", "named", [example(s=[0.25, 0.5], t=["é".encode(), b"b"]), example(s=[1, 2], t=[b"c", b"d"])]
    )
    found = [[(one.label, one.score) for one in row.classes] for row in result.classifications]
    assert found == [[("é", 0.25), ("b", 0.5)], [("c", 1), ("d", 2)]]


def test_regress_gives_a_number_for_each_example(special):
    examples = [example(x=[1.5, 0.0], n=[2], flag=[1]), example(x=[-1, -3], n=[-128], flag=[0])]
    result = run(special, "Regress", "even", examples)
    assert [one.value for one in result.regressions] == [4.5, -129]


def test_a_feature_of_the_context_is_in_every_example(special):
    result = run(special, "Regress", "even", [example(x=[0.5, 0.0]), example(x=[1.0, 0.0])], example(n=[2], flag=[1]))
    assert [one.value for one in result.regressions] == [3.5, 4]


FINE = {"x": [1.0, 2.0], "n": [1], "flag": [1]}
WRONG = {
    "none": ([], None, "has no examples"),
    "missing": ([example(x=[1.0, 2.0], n=[1])], None, "example 0 lacks the feature 'flag'"),
    "missing later": ([example(**FINE), example(n=[1], flag=[1])], None, "example 1 lacks the feature 'x'"),
    "twice": ([example(**FINE)], example(n=[1]), "feature 'n' stands in the context and in an example"),
    "kind": ([example(**FINE | {"x": [b"a"]})], None, "feature 'x' is of the wrong kind; found: bytes_list"),
    "floats": (
        [example(**FINE | {"n": [1.0]})],
        None,
        "feature 'n' is of the wrong kind; found: float_list; expected: int64_list",
    ),
    "empty": ([example(**FINE | {"n": []})], None, "feature 'n' is of the wrong kind; found: no values"),
    "count": ([example(**FINE | {"x": [1.0]})], None, "feature 'x' does not fit the model; found: 1 values"),
    "range": ([example(**FINE | {"n": [200]})], None, "'n': a value is out of the range of int8"),
    "flag": ([example(**FINE | {"flag": [2]})], None, "'flag': a bool is neither 0 nor 1"),
}


@pytest.mark.parametrize(("examples", "context", "words"), WRONG.values(), ids=WRONG)
def test_wrong_examples_are_refused(special, examples, context, words):
    assert words in run(special, "Regress", "even", examples, context)


def test_examples_of_different_lengths_are_refused(special):
    examples = [example(s=[1.0, 2.0], t=[b"a", b"b"]), example(s=[1.0], t=[b"a", b"b"])]
    assert "the examples differ in the values of feature 's'" in run(special, "Classify", "named", examples)


def test_a_model_that_cannot_is_named(server, special):
    assert "one number a row" in run(server, "Regress", "linear", [example(x=[1.0] * 16)])
    assert "one output of floats [rows, classes]" in run(server, "Classify", "text", [example(x=[b"a"])])


def test_a_float_too_large_for_half_is_refused(server):
    assert "'x': a value is too large for float16" in run(server, "Classify", "half", [example(x=[1.0, 1e6, 0.0])])


def test_numbers_are_read_without_a_list():
    values = new("tensorflow.FloatList", value=[0.5, float("nan"), -1])
    assert np.array_equal(fields.numbers(values, "value"), np.array([0.5, np.nan, -1], "float32"), equal_nan=True)
    assert fields.numbers(new("tensorflow.FloatList"), "value").shape == (0,)
