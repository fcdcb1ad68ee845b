"""What of onnxruntime's arena becomes resident while calls go through it. Pure.

The arena (``BFCArena``, core/framework/bfc_arena.cc) takes regions from the system and gives chunks of them. A region is
twice as large as the one before, and doubled until what is asked for fits (``kNextPowerOfTwo``, the default). The smallest
free chunk that is large enough is taken, and split where the rest is worth it. Nothing goes back to the system. What was
never given out is not resident, however large the region.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

ROUNDED_BYTES = 256
FIRST_REGION_BYTES = 2**20
# A rest of this size is split off, even where it is less than half of the chunk.
DEAD_BYTES = 2**27


@dataclass(slots=True)
class Chunk:
    """A part of a region; ``before`` and ``after`` are its neighbours there."""

    region: int
    offset: int
    size: int
    free: bool = True
    before: Chunk | None = None
    after: Chunk | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Free chunks are searched by size, then by place."""
        return (self.size, self.region, self.offset)


@dataclass
class Arena:
    """The regions and chunks of one arena; ``touched`` is, by region, up to where its bytes were given out."""

    touched: list[int] = field(default_factory=list)
    _next: int = FIRST_REGION_BYTES
    _free: list[tuple[int, int, int]] = field(default_factory=list)
    _chunks: dict[tuple[int, int, int], Chunk] = field(default_factory=dict)

    @property
    def resident(self) -> int:
        """Bytes that were given out at least once."""
        return sum(self.touched)

    def take(self, size: int) -> Chunk | None:
        """A chunk for so many bytes; none for none."""
        if size <= 0:
            return None
        needed = -(-size // ROUNDED_BYTES) * ROUNDED_BYTES
        place = bisect_left(self._free, (needed, -1, -1))
        if place == len(self._free):
            self._extend(needed)
            place = bisect_left(self._free, (needed, -1, -1))
        chunk = self._chunks.pop(self._free.pop(place))
        if chunk.size >= 2 * needed or chunk.size - needed >= DEAD_BYTES:
            rest = Chunk(chunk.region, chunk.offset + needed, chunk.size - needed, before=chunk, after=chunk.after)
            if chunk.after:
                chunk.after.before = rest
            chunk.size, chunk.after = needed, rest
            self._keep(rest)
        chunk.free = False
        self.touched[chunk.region] = max(self.touched[chunk.region], chunk.offset + needed)
        return chunk

    def give_back(self, chunk: Chunk | None) -> None:
        """Free a chunk, and join it with the free ones beside it."""
        if chunk is None:
            return
        chunk.free = True
        for left, right in ((chunk, chunk.after), (chunk.before, chunk)):
            if left is None or right is None or not (left.free and right.free):
                continue
            for one in (left, right):
                self._forget(one)
            left.size += right.size
            left.after = right.after
            if right.after:
                right.after.before = left
            chunk = left
        self._keep(chunk)

    def _extend(self, needed: int) -> None:
        grown = self._next < needed
        while self._next < needed:
            self._next *= 2
        self._keep(Chunk(len(self.touched), 0, self._next))
        self.touched.append(0)
        if not grown:
            self._next *= 2

    def _keep(self, chunk: Chunk) -> None:
        insort(self._free, chunk.key)
        self._chunks[chunk.key] = chunk

    def _forget(self, chunk: Chunk) -> None:
        if self._chunks.pop(chunk.key, None):
            self._free.remove(chunk.key)
