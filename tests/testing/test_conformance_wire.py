"""Protobuf by field numbers: against Google's own messages, and against bytes that are none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, struct_pb2, wrappers_pb2

from shipworthy.testing.conformance.case import Broken
from shipworthy.testing.conformance.wire import Message, entry, field, packed


def test_fields_are_those_of_protobuf() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b", "ü"], public_dependency=[0, 300, -1])
    data = file.SerializeToString()
    said = Message(data)
    assert (said.text(1), said.texts(3), said.numbers(10)) == ("a.proto", ["b", "ü"], [0, 300, -1])
    written = field(1, "a.proto") + field(3, "b") + field(3, "ü".encode()) + packed(10, [0, 300, -1])
    assert descriptor_pb2.FileDescriptorProto.FromString(written) == file
    assert (1 in said, 2 in said) == (True, False)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1 << 40, (1 << 63) - 1, -1, -(1 << 63)])
def test_whole_numbers_keep_their_sign(value: int) -> None:
    message = wrappers_pb2.Int64Value(value=value)
    assert Message(message.SerializeToString()).number(1) == value
    assert wrappers_pb2.Int64Value.FromString(field(1, value)) == message


def test_maps_and_messages() -> None:
    message = struct_pb2.Struct(fields={"a": struct_pb2.Value(string_value="x"), "b": struct_pb2.Value(bool_value=True)})
    said = Message(message.SerializeToString()).map(1)
    assert (said["a"].text(3), said["b"].number(4)) == ("x", 1)
    written = entry(1, "a", field(3, "x")) + entry(1, "b", field(4, True))
    assert struct_pb2.Struct.FromString(written) == message


def test_floats_packed_or_not() -> None:
    values = np.array([1.5, -2.0, np.inf], "<f4")
    one_by_one = b"".join(b"\x0d" + value.tobytes() for value in values)
    for data in (field(1, values.tobytes()), one_by_one):
        assert (Message(data).floats(1, "<f4") == values).all()
    assert Message(wrappers_pb2.DoubleValue(value=-0.5).SerializeToString()).floats(1, "<f8").tolist() == [-0.5]


def test_what_is_absent_is_empty() -> None:
    said = Message(b"")
    assert (said.text(1), said.number(1), said.numbers(1), said.blobs(1), said.map(1)) == ("", 0, [], [], {})
    assert said.floats(1, "<f4").size == 0
    assert said.message(1).text(1) == ""


@pytest.mark.parametrize(
    ("data", "ask"),
    [
        (b"\x0a\x05abc", Message),
        (b"\x0a", Message),
        (b"\x0d\x00\x00", Message),
        (b"\x0b\x00", Message),
        (b"\x08" + b"\xff" * 11, Message),
        (b"\x08\x80", Message),
        (b"\x08\x01", lambda data: Message(data).text(1)),
        (b"\x08\x01", lambda data: Message(data).messages(1)),
        (b"\x0a\x01\xff", lambda data: Message(data).text(1)),
        (b"\x0a\x01\xff", lambda data: Message(data).numbers(1)),
        (b"\x0a\x03abc", lambda data: Message(data).floats(1, "<f4")),
        (b"\x08\xff\xff\xff\xff\x7f", lambda data: Message(data).floats(1, "<f4")),
    ],
    ids=[
        "beyond-the-end", "no-length", "half-a-float", "a-group", "endless-number", "cut-number", "number-for-text",
        "number-for-message", "not-utf8", "cut-numbers", "no-floats", "number-for-float",
    ],
)  # fmt: skip
def test_what_is_no_message_is_a_broken_law(data: bytes, ask: Callable[[bytes], object]) -> None:
    with pytest.raises(Broken):
        ask(data)
