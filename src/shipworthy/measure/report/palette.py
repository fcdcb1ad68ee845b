"""The colours of the report, in light and in dark, as CSS variables; page and plots use no others."""

from __future__ import annotations

_LIGHT = {
    "ground": "#f6f7f8",
    "card": "#ffffff",
    "ink": "#16202a",
    "soft": "#566370",
    "line": "#dfe4e8",
    "accent": "#0a6b7c",
    "wash": "#e6f2f4",
    "good": "#16703c",
    "bad": "#b3261e",
    "bad-wash": "#fbeceb",
    "warn": "#8a5a00",
    "mute": "#8695a3",
}
_DARK = {
    "ground": "#0e1318",
    "card": "#161d24",
    "ink": "#e7ecf0",
    "soft": "#9dabb8",
    "line": "#2b353f",
    "accent": "#4fc3d6",
    "wash": "#12303a",
    "good": "#5fce8f",
    "bad": "#ff8f85",
    "bad-wash": "#37201f",
    "warn": "#e2b04a",
    "mute": "#75838f",
}


def variables(selector: str) -> str:
    """CSS that sets the colours on ``selector``: light by itself and on paper, dark where the reader wants that."""
    light = f"{selector}{{{_rules(_LIGHT)}}}"
    return f"{light}@media screen and (prefers-color-scheme:dark){{{selector}{{{_rules(_DARK)}}}}}"


def _rules(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())
