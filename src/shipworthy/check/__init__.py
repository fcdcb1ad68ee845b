"""check: what came in, and what would break in production. One area of laws a file; a law is what can be silenced.

``inspect`` looks at a file before anything loads it, ``run`` at the model that it became; ``apart`` does both in a
process of its own, which a crash or an endless loop in a library does not outlive.
"""

from __future__ import annotations

from shipworthy.check import apart, areas, silence
from shipworthy.check.areas import inspect, run
from shipworthy.check.intake import reference, take_in, unread
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin

LAWS: tuple[Law, ...] = (*apart.LAWS, *areas.LAWS, *silence.LAWS)

__all__ = ["LAWS", "Origin", "apart", "inspect", "reference", "run", "silence", "take_in", "unread"]
