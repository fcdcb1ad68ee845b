"""What every picture is made of: the frame with its style, lines and words."""

from __future__ import annotations

from shipworthy.measure.report import palette
from shipworthy.measure.report.markup import Markup, tag

_STYLE = """
.sw text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink)}
.sw text{font-variant-numeric:tabular-nums}
.sw .soft{fill:var(--soft)}
.sw .bold{font-weight:650;fill:var(--accent)}
.sw .gate{fill:var(--bad)}
.sw .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.sw .card{fill:var(--card)}
.sw .grid{stroke:var(--line)}
.sw .axis{stroke:var(--mute)}
.sw .limit{stroke:var(--bad);stroke-dasharray:5 4}
.sw .beyond{fill:var(--bad);fill-opacity:.07}
.sw .whisker{stroke:var(--soft);stroke-width:1.4}
.sw .tail{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:1 3}
.sw .leader{stroke:var(--mute);stroke-width:.8}
.sw .ships{fill:var(--accent);stroke:var(--card);stroke-width:1.5}
.sw .passed,.sw .unjudged{fill:var(--mute);stroke:var(--card);stroke-width:1.5}
.sw polyline{fill:none;stroke-width:1.8}
.sw .curve-ships{stroke:var(--accent)}
.sw .curve-passed{stroke:var(--mute)}
.sw .thin{stroke-opacity:.55}
.sw .part-own{fill:var(--mute);fill-opacity:.35}
.sw .part-weights{fill:var(--mute);fill-opacity:.8}
.sw .part-runtime{fill:var(--accent);fill-opacity:.3}
.sw .part-live{fill:var(--accent);fill-opacity:.85}
.sw .refused{fill:var(--card);stroke:var(--bad);stroke-width:1.6}
"""


def picture(key: str, title: str, told: str, size: tuple[float, float], body: Markup) -> Markup:
    """A picture of that size; ``key`` is its id on the page, ``told`` what it says to those who do not see it."""
    width, height = size
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", told, id=f"{key}-desc"),
        tag("style", Markup(palette.variables(".sw") + _STYLE)),
        tag("rect", class_="card", width=width, height=height, rx=10.0),
        body,
        xmlns="http://www.w3.org/2000/svg",
        class_="sw",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A line from one point to another."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(words: str, x: float, y: float, class_: str = "soft", anchor: str | None = None) -> Markup:
    """Words that begin, or are anchored otherwise, at a point."""
    return tag("text", words, x=x, y=y, class_=class_, text_anchor=anchor)
