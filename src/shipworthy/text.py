"""Text of others (names in a model, words of a library) made safe to show: nothing in it acts on who reads it.

Readers are terminals, which take escape sequences, and GitHub's runner, which takes commands from what a step prints:
``::COMMAND::`` at the beginning of a line, and ``##[COMMAND]`` of an older form anywhere (its ``ActionCommand.cs``).
"""

from __future__ import annotations

MOST = 160


def printable(text: str) -> str:
    r"""The text on one line: what does not print stands as Python writes it, as ``\x1b``.

    That is every control character, so every escape sequence and line end; marks that turn the direction of the text; and
    halves of surrogate pairs, which no encoding takes.
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def plain(said: object, most: int = MOST) -> str:
    """Text or bytes of a file as ``printable``, cut to about ``most`` characters."""
    text = said.decode("utf-8", errors="backslashreplace") if isinstance(said, bytes) else str(said)
    return printable(f"{text[: most - 3]}..." if len(text) > most else text)


def printable_lines(text: str) -> str:
    """As ``printable``, with its lines kept, none of which is a command."""
    return "\n".join(inert(printable(line)) for line in text.split("\n"))


def inert(line: str) -> str:
    """A line of a log that GitHub's runner takes for no command."""
    line = line.replace("##[", "## [")
    return line.replace("::", ": :", 1) if line.lstrip().startswith("::") else line
