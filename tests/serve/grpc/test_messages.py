from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.serve.grpc import messages

# As an encoder of another make writes it: linear, version 2, id "é", one FP32 input x of [1, 2] in raw form.
GOLDEN = bytes.fromhex("0a066c696e656172 120132 1a02c3a9 2a0d 0a0178 120446503332 1a020102 3a08 0000803f 00000040")

TABLE = {
    "a.proto": "package one.two\nInner: text=1 string\nenum Kind: NONE=0, SOME=3",
    "b.proto": (
        "package three\n"
        "Outer: inner=1 one.two.Inner, kind=2 *one.two.Kind, by_name=3 map<string,Part>, flag=4 bool|choice,\n"
        " number=5 int64|choice\n"
        "Outer.Part: size=1 int32\n"
        "Part: other=1 double\n"
        "service Talk: Say Outer Outer, Chat *Outer *Outer"
    ),
}


def test_a_golden_request():
    request = messages.load()["inference.ModelInferRequest"].FromString(GOLDEN)
    assert (request.model_name, request.model_version, request.id) == ("linear", "2", "é")
    assert (request.inputs[0].name, request.inputs[0].datatype, list(request.inputs[0].shape)) == ("x", "FP32", [1, 2])
    assert request.raw_input_contents == [GOLDEN[-8:]]
    assert request.SerializeToString() == GOLDEN


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (
            "inference.InferTensorContents",
            (
                "bool_contents 1 int_contents 2 int64_contents 3 uint_contents 4 uint64_contents 5 fp32_contents 6 "
                "fp64_contents 7 bytes_contents 8"
            ),
        ),
        ("inference.InferParameter", "bool_param 1 int64_param 2 string_param 3 double_param 4 uint64_param 5"),
        (
            "inference.ModelInferRequest",
            "model_name 1 model_version 2 id 3 parameters 4 inputs 5 outputs 6 raw_input_contents 7",
        ),
        (
            "inference.ModelInferResponse",
            "model_name 1 model_version 2 id 3 parameters 4 outputs 5 raw_output_contents 6",
        ),
        ("inference.ModelMetadataResponse", "name 1 versions 2 platform 3 inputs 4 outputs 5"),
        (
            "tensorflow.TensorProto",
            (
                "dtype 1 tensor_shape 2 version_number 3 tensor_content 4 half_val 13 float_val 5 double_val 6 int_val 7 "
                "string_val 8 int64_val 10 bool_val 11 uint32_val 16 uint64_val 17"
            ),
        ),
        ("tensorflow.serving.ModelSpec", "name 1 version 2 version_label 4 signature_name 3"),
    ],
)
def test_the_numbers_are_those_of_the_protocol(message, numbers):
    words = numbers.split()
    found = {field.name: field.number for field in messages.load()[message].DESCRIPTOR.fields}
    assert found == dict(zip(words[::2], map(int, words[1::2]), strict=True))


def test_a_table_says_what_it_means():
    made = messages.build(TABLE)
    outer = made["three.Outer"](inner={"text": "a"}, kind=["SOME", 0], number=-1)
    outer.by_name["k"].size = 7
    assert outer.WhichOneof("choice") == "number"
    outer.flag = True
    assert outer.WhichOneof("choice") == "flag"
    assert outer.by_name["k"].DESCRIPTOR.full_name == "three.Outer.Part"  # the innermost of that name
    assert outer.SerializeToString() == bytes.fromhex("0a03 0a0161 1202 0300 1a07 0a016b 12020807 2001")
    assert list(made.files["b.proto"].dependency) == ["a.proto"]
    assert made.services == ("three.Talk",)
    say, chat = made.files["b.proto"].service[0].method
    assert (say.client_streaming, say.server_streaming) == (False, False)
    assert (chat.client_streaming, chat.server_streaming) == (True, True)
    assert made.symbols["three.Talk"] == "b.proto"
    assert made.symbols["one.two.Kind"] == "a.proto"


def test_nothing_enters_the_default_pool():
    code = (
        "from google.protobuf import descriptor_pool\n"
        "from shipworthy.serve.grpc import messages\n"
        "for name in messages.load().files:\n"
        "    try: descriptor_pool.Default().FindFileByName(name)\n"
        "    except KeyError: continue\n"
        "    raise SystemExit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


@pytest.mark.parametrize("message", [b"\x0a\x05ab", b"\x0a\x01\xff", b"\xff" * 20])
def test_what_is_no_message_is_refused(message):
    with pytest.raises(Refused, match="cannot be read") as caught:
        messages.read(messages.load()["inference.ModelInferRequest"], message)
    assert "inference.ModelInferRequest" in caught.value.expected


@given(st.integers(0, 2**31 - 1))
def test_a_varint_is_that_of_protobuf(number):
    part = messages.load()["inference.ModelStatistics"](inference_count=number).SerializeToString()
    assert part == (b"\x20" + messages.varint(number) if number else b"")
