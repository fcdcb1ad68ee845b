"""The table of docs/gpu.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shipworthy.records import Figure

FIRST, LAST = "<!-- figures: written by benchmarks/gpu.py -->", "<!-- end of figures -->"
TO_MEET = 2.3
HEAD = ("model", "images a call", "run by", "ms a call", "images/s", "times its own FP32", "GPU memory MB", "off by")


@dataclass(frozen=True)
class Line:
    """One way to run one model with one batch.

    ``latency`` is in ms; ``ratio`` is the FP32 of the same runtime over it, in the same rounds. ``off`` is the largest
    difference to onnxruntime's FP32, as a share of its largest answer. ``error``: why there are no figures.
    """

    model: str
    batch: int
    way: str
    latency: Figure | None = None
    ratio: Figure | None = None
    memory_mb: float | None = None
    off: float | None = None
    error: str = ""


def table(lines: Sequence[Line]) -> str:
    """In Markdown."""
    rows = [f"| {' | '.join(HEAD)} |", "|---|---:|---|" + "---:|" * 5]
    for one in lines:
        cells = [one.model, str(one.batch), one.way, *_figures(one)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _figures(one: Line) -> list[str]:
    if one.latency is None:
        return [f"none: {one.error}", "", "", "", ""]
    latency, ratio = one.latency, one.ratio
    return [
        f"{latency.median:.3g} ({latency.low:.3g} to {latency.high:.3g})",
        f"{1000 * one.batch / latency.median:,.0f}",
        "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        "" if one.memory_mb is None else f"{one.memory_mb:,.0f}",
        "" if one.off is None else f"{one.off:.1e}",
    ]


def verdict(lines: Sequence[Line]) -> str:
    """Whether FP16 meets the practitioners' figure: the best of each runtime on ResNet-50, where it is measured."""
    best: dict[str, Line] = {}
    for one in lines:
        if one.model == "resnet50" and "fp16" in one.way and one.ratio is not None:
            runtime = one.way.split()[0]
            before = best.get(runtime)
            if before is None or before.ratio is None or one.ratio.median > before.ratio.median:
                best[runtime] = one
    said = []
    for runtime, one in best.items():
        assert one.ratio is not None  # noqa: S101
        met = one.ratio.low >= TO_MEET, one.ratio.high >= TO_MEET
        word = "meets" if all(met) else "may meet" if any(met) else "misses"
        said.append(
            f"{runtime}'s FP16 is {one.ratio.median:.2f} times its FP32 at {one.batch} images a call, and {word} {TO_MEET}"
        )
    return (
        "; ".join(said) + "." if said else f"FP16 of ResNet-50 was not measured, so nothing is said of the {TO_MEET} to meet."
    )


def section(lines: Sequence[Line], about: Mapping[str, str], date: str) -> str:
    """Everything between the marks of the page."""
    told = ", ".join(f"{key} {value}" for key, value in about.items())
    return f"{date}; {told}.\n\n{verdict(lines)}\n\n{table(lines)}"


def filled(page: str, content: str) -> str:
    """The page with its figures.

    Raises:
        ValueError: the page has not both marks, in order.
    """
    before, first, rest = page.partition(FIRST)
    _, last, after = rest.partition(LAST)
    if not first or not last:
        raise ValueError(f"the page has no place for figures: between {FIRST} and {LAST}")
    return f"{before}{FIRST}\n\n{content}\n\n{LAST}{after}"
