"""Which variants nobody else beats: the Pareto front over accuracy, latency, memory and size. Pure."""

from __future__ import annotations

from shipworthy.records import Evidence

# Less is better in all of them.
COSTS = ("latency_ratio", "memory_mb", "gpu_memory_mb", "size_mb", "compressed_mb")
# Another must cost so much less in one of them, and be as good in all: less is within the spread of a short look.
SLACK = 0.1


def beaten_by(one: Evidence, others: tuple[Evidence, ...]) -> Evidence | None:
    """The first of the others that is as good in every figure that both have, and clearly better in one; or ``None``."""
    return next((other for other in others if _beats(other, one)), None)


def _beats(other: Evidence, one: Evidence) -> bool:
    theirs, ours = other.quality, one.quality
    # Both answered the same rows: a row more is a row more. Costs are noisy.
    if theirs and ours and (theirs.median < ours.median if one.metric.more else theirs.median > ours.median):
        return False
    clearly = False
    for name in COSTS:
        theirs, ours = other.figure(name), one.figure(name)
        if theirs is None or ours is None:
            continue
        if theirs.median > ours.median:
            return False
        clearly = clearly or ours.median > theirs.median * (1 + SLACK)
    return clearly
