"""Text of others acts neither on a terminal nor on GitHub's runner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.text import inert, printable, printable_lines

ANY = st.text(st.characters())  # lone surrogates, too


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 [?, 3]", "plain é 漢 [?, 3]"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\n\tb\x7f", "a\\r\\n\\tb\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("a\u2028b\u200b", "a\\u2028b\\u200b"),
    ],
)
def test_what_does_not_print_is_written_out(text, shown):
    assert printable(text) == shown


@given(ANY)
def test_any_text_prints_on_one_line_in_every_encoding_of_unicode(text):
    assert printable(text).isprintable()
    printable(text).encode()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("  ::add-mask::x", "  : :add-mask::x"),
        ("a ::error::x", "a ::error::x"),
        ("a ##[error]x", "a ## [error]x"),
        ("std::vector", "std::vector"),
    ],
)
def test_a_line_is_no_command_of_a_runner(line, shown):
    assert inert(line) == shown


@given(st.lists(st.sampled_from([":", "::", "#", "##[", "[", " ", "x", "\n"])).map("".join))
def test_no_line_of_any_text_is_a_command(text):
    for line in printable_lines(text).split("\n"):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    assert len(printable_lines(text).split("\n")) == len(text.split("\n"))
