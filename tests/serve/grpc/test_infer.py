from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.errors import ShipworthyError
from shipworthy.serve import tensors
from shipworthy.serve.batcher import Plan
from shipworthy.serve.calls import Status
from shipworthy.serve.grpc import asks, fields, messages
from shipworthy.serve.grpc.answers import Writer
from shipworthy.serve.grpc.asks import FIELDS, Ask, Reader

from .conftest import INFERENCE, Fake, Server, close, new

INFER = INFERENCE + "ModelInfer"
REQUEST = "inference.ModelInferRequest"
VALUES = {
    "bool": [True, False],
    "uint8": [0, 255],
    "uint16": [0, 65535],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "float16": [-0.5, 65504],
    "float32": [np.float32(0.1), np.nan],
    "float64": [0.1, np.inf],
    "str": ["é\0日", ""],
}
IDENTITY = {
    f"in_{dtype}": np.array([values, values[::-1]], dtype=object if dtype == "str" else dtype)
    for dtype, values in VALUES.items()
}


def request(model, arrays, *, raw=True, outputs=(), version="", id="", **parameters):  # noqa: A002
    made = new(REQUEST, model_name=model, model_version=version, id=id)
    for name, array in arrays.items():
        datatype = tensors.datatype_of(array)
        tensor = made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            made.raw_input_contents.append(tensors.to_blob(name, array))
        else:
            values = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
            getattr(tensor.contents, FIELDS[datatype]).extend(values)
    for name in outputs:
        made.outputs.add(name=name)
    for key, (kind, value) in parameters.items():
        setattr(made.parameters[key], kind, value)
    return made


def answered(server, made):
    call = server.bytes(INFER, made.SerializeToString())
    assert call.status is Status.OK, call.text
    return messages.load()["inference.ModelInferResponse"].FromString(call.sent[0])


def arrays_of(answer):
    """The outputs of an answer, read by this test's own means."""
    found = {}
    for at, tensor in enumerate(answer.outputs):
        dtype = tensors.DTYPES[tensor.datatype]
        if answer.raw_output_contents:
            assert not tensor.HasField("contents")
            blob = memoryview(answer.raw_output_contents[at])
            found[tensor.name] = tensors.from_blob(tensor.name, tensor.datatype, tuple(tensor.shape), blob)
            continue
        place, values = tensor.contents.ListFields()[0]
        assert place.name == FIELDS[tensor.datatype]
        values = [v.decode() if isinstance(v, bytes) else v for v in values]
        found[tensor.name] = np.array(values, dtype=object if dtype == "str" else dtype).reshape(tuple(tensor.shape))
    return found


def same(left, right):
    equal = np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return left.dtype == right.dtype and left.shape == right.shape and equal


def test_every_dtype_goes_raw_both_ways(server):
    answer = answered(server, request("identity", IDENTITY, id="r-1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("identity", "1", "r-1")
    found = arrays_of(answer)
    assert list(found) == [name.replace("in_", "out_") for name in IDENTITY]
    for name, array in IDENTITY.items():
        assert same(found[name.replace("in_", "out_")], array), name


def test_texts_go_typed_both_ways(server):
    x = np.array([["é"], ["b"]], dtype=object)
    answer = answered(server, request("text", {"x": x}, raw=False, id="t"))
    assert answer.id == "t"
    assert not answer.raw_output_contents
    assert same(arrays_of(answer)["y"], x)


def test_fp16_comes_raw_only(server):
    made = request("half", {"x": np.ones((1, 3), "float16")})
    del made.raw_input_contents[:]
    made.inputs[0].contents.fp32_contents.extend([1, 1, 1])
    call = server.bytes(INFER, made.SerializeToString())
    assert call.status is Status.INVALID_ARGUMENT
    assert "'x': FP16 has no typed contents; expected: its bytes in raw_input_contents" in call.text


def test_typed_numbers_go_both_ways(server):
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    typed = arrays_of(answered(server, request("linear", {"x": rows}, raw=False)))
    raw = arrays_of(answered(server, request("linear", {"x": rows})))
    assert list(typed) == ["label", "scores"]
    assert all(same(typed[name], raw[name]) for name in raw)


@pytest.mark.parametrize("dtype", [dtype for dtype in VALUES if dtype not in ("float16", "str")])
def test_fields_read_and_write_every_dtype(dtype):
    array = IDENTITY[f"in_{dtype}"]
    contents, expected = new("inference.InferTensorContents"), new("inference.InferTensorContents")
    place = FIELDS[tensors.DATATYPES[dtype]]
    getattr(expected, place).extend(array.ravel().tolist())
    fields.write_numbers(contents, place, array)
    assert contents.SerializeToString() == expected.SerializeToString()
    read = fields.narrow("x", fields.numbers(contents, place), array.dtype, dtype)
    assert same(read, array.ravel())


def test_the_newest_version_answers_unless_one_is_named(server):
    arrays = {name: np.ones((1, 3), "float32") for name in "ab"}
    assert answered(server, request("two", arrays)).model_version == "12"
    assert answered(server, request("two", arrays, version="3")).model_version == "3"


def test_outputs_come_in_the_order_asked_for(server):
    rows = {"x": np.ones((2, 16), "float32")}
    whole = arrays_of(answered(server, request("linear", rows)))
    turned = arrays_of(answered(server, request("linear", rows, outputs=["scores", "label"])))
    assert list(turned) == ["scores", "label"]
    assert all(same(turned[name], whole[name]) for name in whole)
    assert list(arrays_of(answered(server, request("linear", rows, outputs=["label"])))) == ["label"]


X = {"x": np.ones((1, 16), "float32")}


def broken(change):
    made = request("linear", X)
    change(made)
    return made


BAD = {
    "model": (request("nobody", X), Status.NOT_FOUND, "no model 'nobody'"),
    "version": (request("linear", X, version="7"), Status.NOT_FOUND, "no version '7'"),
    "no input": (request("linear", {}), Status.INVALID_ARGUMENT, "found: none; expected: x: float32"),
    "wrong input": (request("linear", {"z": X["x"]}), Status.INVALID_ARGUMENT, "found: z"),
    "input twice": (broken(lambda m: m.inputs.add().CopyFrom(m.inputs[0])), Status.INVALID_ARGUMENT, "found: x, x"),
    "shape": (request("linear", {"x": np.ones((1, 15), "float32")}), Status.INVALID_ARGUMENT, "found: FP32 [1, 15]"),
    "rank": (request("linear", {"x": np.ones(16, "float32")}), Status.INVALID_ARGUMENT, "found: FP32 [16]"),
    "datatype": (request("linear", {"x": np.ones((1, 16))}), Status.INVALID_ARGUMENT, "found: FP64 [1, 16]"),
    "unknown datatype": (broken(lambda m: setattr(m.inputs[0], "datatype", "X")), Status.INVALID_ARGUMENT, "found: X [1, 16]"),
    "negative": (broken(lambda m: m.inputs[0].shape.__setitem__(0, -1)), Status.INVALID_ARGUMENT, "'x': a dimension is neg"),
    "no rows": (request("linear", {"x": np.ones((0, 16), "float32")}), Status.INVALID_ARGUMENT, "'x' has no rows"),
    "unequal rows": (
        request("two", {"a": np.ones((1, 3), "float32"), "b": np.ones((2, 3), "float32")}),
        Status.INVALID_ARGUMENT,
        "'a' 1, 'b' 2",
    ),
    "raw size": (broken(lambda m: m.raw_input_contents.__setitem__(0, b"abc")), Status.INVALID_ARGUMENT, "found: 3 bytes"),
    "raw count": (broken(lambda m: m.raw_input_contents.append(b"")), Status.INVALID_ARGUMENT, "2 raw tensors"),
    "raw and typed": (
        broken(lambda m: m.inputs[0].contents.fp32_contents.append(1)),
        Status.INVALID_ARGUMENT,
        "1 raw tensors, 1 with contents",
    ),
    "no data": (
        broken(lambda m: m.ClearField("raw_input_contents")),
        Status.INVALID_ARGUMENT,
        "found: 0 values in fp32_contents",
    ),
    "too few": (
        broken(lambda m: (m.ClearField("raw_input_contents"), m.inputs[0].contents.fp32_contents.append(1))),
        Status.INVALID_ARGUMENT,
        "found: 1 values in fp32_contents; expected: 16 values for [1, 16]",
    ),
    "wrong place": (
        broken(lambda m: (m.ClearField("raw_input_contents"), m.inputs[0].contents.fp64_contents.extend([1] * 16))),
        Status.INVALID_ARGUMENT,
        "found: fp64_contents; expected: fp32_contents",
    ),
    "huge": (
        broken(lambda m: m.inputs[0].shape.__setitem__(0, 2**62)),
        Status.INVALID_ARGUMENT,
        f"expected: {2**62 * 64} bytes",
    ),
    "output": (request("linear", X, outputs=["nothing"]), Status.INVALID_ARGUMENT, "output 'nothing' does not exist"),
    "output twice": (request("linear", X, outputs=["label"] * 2), Status.INVALID_ARGUMENT, "'label' is asked for twice"),
    "priority": (request("linear", X, priority=("int64_param", -1)), Status.INVALID_ARGUMENT, "priority is wrong; found: -1"),
    "timeout": (request("linear", X, timeout=("string_param", "1")), Status.INVALID_ARGUMENT, "timeout is wrong; found: 1"),
    "empty timeout": (broken(lambda m: m.parameters["timeout"].SetInParent()), Status.INVALID_ARGUMENT, "timeout is wrong"),
    "text": (
        broken(
            lambda m: (
                m.CopyFrom(request("text", {"x": np.array([["a"]], object)})),
                m.raw_input_contents.__setitem__(0, b"\1\0\0\0\xff"),
            )
        ),
        Status.INVALID_ARGUMENT,
        "element 0 is not UTF-8",
    ),
    "typed text": (
        broken(
            lambda m: (
                m.CopyFrom(request("text", {"x": np.array([["a"]], object)}, raw=False)),
                m.inputs[0].contents.bytes_contents.__setitem__(0, b"\xff"),
            )
        ),
        Status.INVALID_ARGUMENT,
        "'x': element 0 is not UTF-8",
    ),
    "shared memory": (
        broken(lambda m: m.inputs[0].parameters["shared_memory_region"].SetInParent()),
        Status.INVALID_ARGUMENT,
        "shared_memory_region is not supported",
    ),
    "classification": (
        broken(lambda m: m.outputs.add(name="scores").parameters["classification"].SetInParent()),
        Status.INVALID_ARGUMENT,
        "classification is not supported",
    ),
}


@pytest.mark.parametrize(("made", "status", "words"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(server, made, status, words):
    for _ in range(2):
        call = server.bytes(INFER, made.SerializeToString())
        assert call.status is status
        assert words in call.text
        assert call.sent == []


def test_what_is_no_message_is_refused(server):
    call = server.bytes(INFER, b"\xff\xff\xff")
    assert call.status is Status.INVALID_ARGUMENT
    assert "expected: a inference.ModelInferRequest" in call.text


def test_a_number_beyond_the_dtype_is_refused():
    for dtype, value in {"int8": 128, "uint8": 256, "int16": -(2**15) - 1, "uint16": 2**16}.items():
        contents = new("inference.InferTensorContents")
        place = FIELDS[tensors.DATATYPES[dtype]]
        getattr(contents, place).extend([0, value])
        with pytest.raises(ShipworthyError, match="'t': a value is out of the range"):
            asks._typed("t", tensors.DATATYPES[dtype], (2,), contents)


def test_fp16_is_answered_to_raw_requests_only(server):
    x = np.ones((1, 3), "float16")
    assert same(arrays_of(answered(server, request("half", {"x": x})))["y"], x)


def test_an_answer_of_fp16_to_a_typed_request_is_refused(server):
    live = server.catalog.find("half")
    with pytest.raises(ShipworthyError, match="output 'y' is FP16"):
        Writer().write(Ask(live, {}, 1, ("y",), raw=False), {"y": np.ones((1, 3), "float16")})


def test_a_reader_forgets_a_model_that_was_replaced(models, fresh):
    made = request("linear", X)
    old = fresh.catalog.find("linear")
    for _ in range(2):
        answered(fresh, made)
    assert old.statistics.successes == 2
    new_live = fresh.put("linear", 1, models["linear"])
    newer = fresh.put("linear", 2, models["linear"])
    assert answered(fresh, made).model_version == "2"
    assert answered(fresh, request("linear", X, version="1")).model_version == "1"
    assert (old.statistics.successes, new_live.statistics.successes, newer.statistics.successes) == (2, 1, 1)


def ask_of(reader, message):
    try:
        ask = reader.read(message)
    except ShipworthyError as error:
        return str(error)
    plain = [(name, array.dtype, array.shape, np.asarray(array).tobytes()) for name, array in ask.inputs.items()]
    return ask.live, plain, ask.rows, ask.outputs, ask.raw, ask.id, ask.timeout_us, ask.priority, ask.final


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_remembered_changes_no_meaning(server, data):
    """A reader that has seen requests reads the next one, whole or damaged, as one that has seen none."""
    seen = Reader(server.catalog)
    rows = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3), label="rows")
    parameters = data.draw(
        st.sampled_from([{}, {"priority": ("uint64_param", 1)}, {"timeout": ("int64_param", 9)}, {"x": ("bool_param", True)}])
    )
    known = []
    for count in rows:
        made = request("linear", {"x": np.full((count, 16), 0x3A, "float32")}, **parameters).SerializeToString()
        if data.draw(st.booleans(), label="fields in another order"):
            made = made + new(REQUEST, model_version="1").SerializeToString()
        known.append(made)
        seen.read(made)
    message = bytearray(data.draw(st.sampled_from(known)))
    for _ in range(data.draw(st.integers(0, 3), label="bytes changed")):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(-8, 8), label="cut or added")
    damaged = bytes(message[:cut] if cut < 0 else message + bytes(cut))
    for one in (*known, damaged, bytes(message)):
        assert ask_of(seen, one) == ask_of(Reader(server.catalog), one)


def test_an_id_is_given_back_every_time(server):
    reader = Reader(server.catalog)
    for name in ("first", "first", "", "first"):
        assert reader.read(request("linear", X, id=name).SerializeToString()).id == name


def test_bytes_after_those_remembered_are_read(server):
    """Two rows and a long id weigh as much as three rows, whose request is as long before the tensor."""
    reader = Reader(server.catalog)
    two, three = (request("linear", {"x": np.ones((n, 16), "float32")}).SerializeToString() for n in (2, 3))
    longer = two + new(REQUEST, id="i" * 62).SerializeToString()
    assert len(longer) == len(three)
    assert [reader.read(one).id for one in (two, three, longer)] == ["", "", "i" * 62]


def test_a_tensor_that_does_not_stand_last_is_not_remembered(server):
    """Behind it stands a field that nobody knows, which ends as if it were a tensor."""
    reader = Reader(server.catalog)
    first = request("linear", X).SerializeToString()
    disguise = b"\x7a\x42\x3a\x40"  # field 15 of 66 bytes, which begin as the field of a tensor of 64 bytes does
    for inside in (X["x"].tobytes(), bytes(64)):
        assert same(reader.read(first + disguise + inside).inputs["x"], X["x"])


def test_a_common_request_is_remembered(server):
    """The shortcut is taken: protobuf is not asked a second time."""
    reader = Reader(server.catalog)
    reader.read(request("linear", X).SerializeToString())
    reader._kind = None
    other = {"x": np.arange(16, dtype="float32").reshape(1, 16)}
    assert same(reader.read(request("linear", other).SerializeToString()).inputs["x"], other["x"])


def test_what_may_differ_with_every_request_is_not_remembered(server):
    reader = Reader(server.catalog)
    for made in (request("linear", X, id="a"), request("linear", X, trace=("string_param", "a"))):
        reader.read(made.SerializeToString())
    assert reader._heads == {}


def test_the_memory_of_a_reader_is_bounded(server, monkeypatch):
    monkeypatch.setattr(asks, "MOST_HEADS", 4)
    reader = Reader(server.catalog)
    for count in range(1, 20):
        reader.read(request("linear", {"x": np.ones((count, 16), "float32")}).SerializeToString())
        assert len(reader._heads) <= 4
        assert sum(map(len, reader._lengths.values())) <= 4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.text(max_size=200), st.lists(st.sampled_from(["label", "scores"]), unique=True, min_size=1))
def test_a_written_answer_means_what_protobuf_writes(server, rows, name, names):
    outputs = {"label": np.arange(rows), "scores": np.random.default_rng(rows).random((rows, 5), "float32")}
    expected = new("inference.ModelInferResponse", model_name="linear", model_version="1", id=name)
    for one in names:
        datatype = {"label": "INT64", "scores": "FP32"}[one]
        expected.outputs.add(name=one, datatype=datatype, shape=outputs[one].shape)
        expected.raw_output_contents.append(outputs[one].tobytes())
    writer = Writer()
    ask = Ask(server.catalog.find("linear"), {}, rows, tuple(names), raw=True, id=name)
    for _ in range(2):
        written = writer.write(ask, outputs)
        assert new("inference.ModelInferResponse").FromString(written) == expected
        assert len(written) == expected.ByteSize()


def test_a_request_without_an_id_is_answered_in_protobuf_s_own_bytes(server):
    answer = server.bytes(INFER, request("linear", X).SerializeToString()).sent[0]
    assert new("inference.ModelInferResponse").FromString(answer).SerializeToString() == answer


def test_a_client_that_has_gone_takes_no_run(fresh):
    call = Fake()

    async def begin():
        fresh.services.unary[INFER](call, request("linear", X).SerializeToString())
        call.on_cancel()

    fresh.loop.run_until_complete(begin())
    answered(fresh, request("linear", X))
    statistics = fresh.catalog.find("linear").statistics
    assert (statistics.cancelled, statistics.successes) == (1, 1)
    assert call.status is None


@pytest.mark.parametrize(
    ("deadline_ns", "parameters"),
    [
        (1, {}),
        (0, {"timeout": ("int64_param", 1)}),
        (1, {"timeout": ("uint64_param", 10**9)}),
        (2**62, {"timeout": ("int64_param", 1)}),
    ],
)
def test_patience_ends(fresh, deadline_ns, parameters):
    call = Fake(deadline_ns)

    async def begin():
        fresh.services.unary[INFER](call, request("linear", X, **parameters).SerializeToString())
        time.sleep(0.001)  # noqa: ASYNC251  the loop is busy with something else

    fresh.loop.run_until_complete(begin())
    fresh.run(call)
    assert call.status is Status.UNAVAILABLE
    assert "timeout passed" in call.text


def test_priority_1_goes_first(models):
    server = Server({"linear": models["linear"]}, Plan(max_rows=1))
    order = []

    async def begin():
        for name, priority in (("last", 0), ("third", 9), ("first", 1), ("second", 2)):
            call = Fake()
            call.finish = lambda *_, name=name: order.append(name)
            server.services.unary[INFER](call, request("linear", X, priority=("uint64_param", priority)).SerializeToString())

    server.loop.run_until_complete(begin())
    server.run(server.bytes(INFER, request("linear", X).SerializeToString()))
    assert order == ["first", "second", "third", "last"]
    close(server)


def test_what_nobody_foresaw_is_an_internal_error(fresh, monkeypatch, caplog):
    monkeypatch.setattr(Writer, "write", lambda *_: 1 / 0)
    call = fresh.bytes(INFER, request("linear", X).SerializeToString())
    assert (call.status, call.text) == (Status.INTERNAL, "internal error: the server's log says more")
    assert "ZeroDivisionError" in caplog.text
