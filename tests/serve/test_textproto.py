"""The text format is read as protobuf reads it, every field can be named, and no bytes do harm."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.serve import textproto
from shipworthy.serve.grpc import messages


def parse(text: str) -> textproto.Fields:
    return textproto.parse(text.encode(), "config.pbtxt")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("# only a comment\n", {}),
        ('name: "a" # b\nkind: KIND_CPU', {"name": ["a"], "kind": ["KIND_CPU"]}),
        ("name: 'it' \"s\\n\\x41\"", {"name": ["its\nA"]}),
        ("a: 1, b: -2.5e3; c: true", {"a": ["1"], "b": ["-2.5e3"], "c": ["true"]}),
        ("a { b: 1 } a: { b: 2 } a < c: 3 >", {"a": [{"b": ["1"]}, {"b": ["2"]}, {"c": ["3"]}]}),
        ("a: [1, 2] a: 3", {"a": ["1", "2", "3"]}),
        ("a [ { b: 1 }, { b: 2 } ]", {"a": [{"b": ["1"]}, {"b": ["2"]}]}),
        ("a: []", {"a": []}),
        ("a {}", {"a": [{}]}),
    ],
)
def test_fields_are_read(text, fields):
    assert parse(text) == fields


@pytest.mark.parametrize(
    "text",
    [
        *("a", "a: ", "a {", "a { b: 1", "a: }", "a: [1", "a: [1 2]", ": 1", "a: 'x", 'a: "\\q"', "a 1", "}", "a { b: 1 >"),
        *("a: {" * 200, "a { " * 5000, "[x.y]: 1", "a: \x00", "{", "a: 1 }"),
    ],
)
def test_what_is_no_text_of_fields_is_refused_with_its_place(text):
    with pytest.raises(Refused, match=r"config\.pbtxt cannot be read") as refused:
        parse(text)
    assert len(str(refused.value)) < 800


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(Refused, match="cannot be read"):
        textproto.parse(b'name: "\xff"', "config.pbtxt")


def test_a_file_is_bounded_and_one_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"#" * textproto.LARGEST_BYTES)
    assert textproto.read(path) == {}
    path.write_bytes(b"#" * (textproto.LARGEST_BYTES + 1))
    with pytest.raises(Refused, match="is too large"):
        textproto.read(path)
    with pytest.raises(Refused, match="cannot be read"):
        textproto.read(tmp_path / "no" / "such")


@given(st.binary(max_size=300) | st.text("ab{}<>[]:,;'\"\\# \n019.-_\x00é", max_size=300).map(str.encode))
def test_any_bytes_are_fields_or_are_refused(data):
    try:
        fields = textproto.parse(data, "config.pbtxt")
    except Refused:
        return
    assert all(isinstance(values, list) for values in fields.values())


@given(
    name=st.text(),
    rows=st.integers(0, 2**31 - 1),
    versions=st.lists(st.integers(0, 10**18 - 1), max_size=5),
    one_line=st.booleans(),
)
def test_what_protobuf_writes_is_read_back(name, rows, versions, one_line):
    message = messages.load()["inference.ModelConfig"]()
    message.name, message.max_batch_size = name, rows
    message.version_policy.specific.versions.extend(versions)
    fields = parse(text_format.MessageToString(message, as_one_line=one_line))
    assert textproto.last(fields, "name") == name
    assert (textproto.integer(fields, "max_batch_size") or 0) == rows
    specific = textproto.message(textproto.message(fields, "version_policy"), "specific")
    assert specific.get("versions", []) == [str(number) for number in versions]


def test_one_value_is_one_value():
    assert textproto.last(parse("a: 1"), "a") == "1"
    assert textproto.last({}, "a") == ""
    assert textproto.integer({}, "a") is None
    assert textproto.integer(parse("a: 007"), "a") == 7
    for text in ("a: 1 a: 2", "a { }"):
        with pytest.raises(Refused, match="'a' is not one value"):
            textproto.last(parse(text), "a")
    for text in ("a: -1", "a: x", "a: 1.5", "a: []", f"a: {10**18}"):
        with pytest.raises(Refused, match="'a' is not a whole number"):
            textproto.integer(parse(text), "a")
    with pytest.raises(Refused, match="'a' is not a message"):
        textproto.messages(parse("a {} a: 1"), "a")
    assert textproto.message(parse("a { b: 1 } a { b: 2 c: 3 }"), "a") == {"b": ["1", "2"], "c": ["3"]}
