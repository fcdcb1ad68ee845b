"""Text that is safe to put into HTML and SVG: everything is escaped unless this module made it."""

from __future__ import annotations

import re
from html import escape

# Neither XML nor UTF-8 has room for these; a name that holds one must not break the page.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """A string that is markup already. Only ``tag``, ``join`` and constants of this package make one."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element, its children and attributes escaped; XML and HTML alike.

    Args:
        name: the element's name.
        children: markup as it is; any other string is escaped.
        attributes: a trailing underscore is dropped, other underscores become hyphens (``class_``, ``text_anchor``);
            numbers get two decimals; ``None`` leaves the attribute out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else _number(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{_safe(text)}"')
    return Markup(f"<{' '.join(parts)}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """The children one after the other, escaped where they are not markup."""
    return Markup("".join(child if isinstance(child, Markup) else _safe(child) for child in children))


def _safe(text: str) -> str:
    return escape(_ILLEGAL.sub("\ufffd", text))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
