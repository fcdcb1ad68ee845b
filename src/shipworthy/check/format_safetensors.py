"""Area ``format``, of .safetensors files: the header describes exactly the bytes that follow it.

Source: the format as its own library defines it (safetensors 0.8): eight bytes of length, JSON, then the tensors without a gap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.check.words import first_line
from shipworthy.records import Finding
from shipworthy.text import plain

HEADER_BYTES = 100_000_000
METADATA = "__metadata__"
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
SHOWN = 5

HEADER = Law(
    name="format.safetensors",
    severity="error",
    holds="the header of a .safetensors file describes exactly the bytes that follow it",
    breaks="weights are refused, cut or taken from the wrong place",
    mend="write or copy the file again: safetensors.torch.save_file(model.state_dict(), PATH)",
)
LAWS = (HEADER,)


def look(origin: Origin) -> Iterator[Finding]:
    """The header against the size of the file; no weights are read."""
    size = origin.path.stat().st_size
    with origin.path.open("rb") as stream:
        header, start = _header(stream, size)
    if isinstance(header, str):
        yield HEADER.found(str(origin.named), header)
        return
    for number, (place, text) in enumerate(_troubles(header, size - start)):
        if number == SHOWN:
            yield HEADER.found(str(origin.named), "and more that is wrong with it")
            return
        yield HEADER.found(place, text)


def _header(stream: BinaryIO, size: int) -> tuple[dict[str, Any] | str, int]:
    """The header, or what is wrong with it; where the tensors begin."""
    length = int.from_bytes(stream.read(8), "little")
    if size < 8:  # noqa: PLR2004  the length itself
        return f"{size} bytes, and its first 8 are to be the length of its header", 0
    if length > HEADER_BYTES:
        return f"its first 8 bytes say that the header has {length} bytes; at most {HEADER_BYTES}", 0
    if length > size - 8:
        return f"its header is said to have {length} bytes, and the file ends after {size - 8}", 0
    try:
        header = json.loads(stream.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return f"its header cannot be read: {first_line(error)}", 0
    return header if isinstance(header, dict) else "its header is no JSON object", length + 8


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _troubles(header: dict[str, Any], size: int) -> Iterator[tuple[str, str]]:
    """Place and text; tensors must lie one after another, from the first byte behind the header to the last of the file."""
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == METADATA:
            if not (isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())):
                yield METADATA, "it is no table of texts"
            continue
        span = _span(entry)
        if isinstance(span, str):
            yield f"tensor {plain(name, 80)}", span
        else:
            spans.append((*span, name))
    at = 0
    for begin, end, name in sorted(spans):
        place = f"tensor {plain(name, 80)}"
        if end > size:
            yield place, f"it ends at byte {end}, and the file has {size} behind its header"
        elif begin < at:
            yield place, f"it begins at byte {begin}, within the tensor before it, which ends at {at}"
        elif begin > at:
            yield place, f"there are {begin - at} bytes before it that belong to no tensor"
        at = max(at, end)
    if len(spans) == len(header) - (METADATA in header) and at < size:
        yield "the end", f"{size - at} bytes behind the last tensor belong to none"


def _span(entry: Any) -> tuple[int, int] | str:
    """Where the tensor begins and ends, or what is wrong with its description."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        return "it has not dtype, shape and data_offsets"
    bits, shape, offsets = BITS.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if bits is None:
        return f"its dtype is none of the format: {plain(entry['dtype'], 40)}"
    if not _numbers(shape):
        return f"its shape is no list of sizes: {plain(shape, 80)}"
    if not _numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004  begin and end
        return f"its data_offsets are not begin and end: {plain(offsets, 80)}"
    needed = -(-math.prod(shape) * bits // 8)
    if offsets[1] - offsets[0] != needed:
        return f"it lies in {offsets[1] - offsets[0]} bytes, and {entry['dtype']} {plain(shape, 80)} takes {needed}"
    return offsets[0], offsets[1]


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
