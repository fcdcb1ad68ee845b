"""The accuracy guard: INT8 that misses a limit on the accuracy keeps its worst nodes in float, as few as will do.

The noise that each node adds by itself gives the order (``damage``); the limit itself, on the evaluation rows, decides.
First the worst, then the two, four, eight worst stay float until the limit holds; then those go back, one by one, that were not
needed for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from shipworthy.optimize.damage import Found
from shipworthy.optimize.int8 import Int8Static
from shipworthy.protocols import Sink
from shipworthy.records import Made, Progress, Variant

# Where more than this share of what multiplies would stay float, INT8 is not what helps this model.
MOST_FLOAT = 0.5
MOST_BACK = 8

Try = Callable[[Int8Static], tuple[Made, str, bool]]
"""Makes a variant: what came of it, why it is not kept, and whether that is for its accuracy."""


def repair(step: Int8Static, damage: Found, attempt: Try, until: float, sink: Sink) -> tuple[Made, str]:
    """The variant with the fewest nodes in float that keeps the accuracy, and why it is not kept (empty: it is).

    Args:
        step: the pass that missed the limit, with the ranges that are known.
        damage: what INT8 does to each node.
        attempt: makes and judges a variant.
        until: no other is tried after this moment (``time.monotonic``).
        sink: told how far it is.
    """
    order = list(damage.snr_db)
    most = int(MOST_FLOAT * len(order))
    count, tried = 1, 0
    best: tuple[Made, list[str]] | None = None
    while count <= most and time.monotonic() < until:
        sink.emit(
            Progress(stage="optimize", text=f"accuracy guard: {count} of {len(order)} nodes in float", done=tried, total=0)
        )
        tried += 1
        made, reason, inaccurate = attempt(_with(step, order[:count], damage))
        if made.variant is None or (reason and not inaccurate):
            return made, reason or made.reason
        if not inaccurate:
            best = made, order[:count]
            break
        count *= 2
    if best is None:
        how = f"with the {count // 2} worst of {len(order)} nodes in float" if tried else "in the time that was left"
        return Made(reason=f"the accuracy guard did not reach the limit {how}"), ""
    made, kept = _fewer(step, damage, attempt, best, until, sink)
    return Made(variant=_told(made.variant, kept, damage)), ""


def _fewer(
    step: Int8Static, damage: Found, attempt: Try, best: tuple[Made, list[str]], until: float, sink: Sink
) -> tuple[Made, list[str]]:
    """Let nodes go back to INT8, the least damaged first, while the limit holds."""
    made, kept = best
    for tried, name in enumerate(list(reversed(kept))[:MOST_BACK] if len(kept) > 1 else []):
        if time.monotonic() > until or len(kept) == 1:
            break
        sink.emit(Progress(stage="optimize", text=f"accuracy guard: is {name} needed in float?", done=tried, total=MOST_BACK))
        fewer = [one for one in kept if one != name]
        other, reason, _ = attempt(_with(step, fewer, damage))
        if other.variant is not None and not reason:
            made, kept = other, fewer
    return made, kept


def _with(step: Int8Static, names: Sequence[str], damage: Found) -> Int8Static:
    nodes = sorted({node for name in names for node in damage.groups[name]})
    return replace(step, float_nodes=tuple(nodes))


def _told(variant: Variant | None, kept: Sequence[str], damage: Found) -> Variant | None:
    if variant is None:
        return None
    said = ", ".join(f"{name} ({damage.snr_db[name]:.1f} dB)" for name in kept)
    return msgspec.structs.replace(variant, notes=(f"stays float for the accuracy, by the noise that INT8 adds: {said}",))
