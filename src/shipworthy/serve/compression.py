"""Compressed bodies: gzip and deflate, both ways. Pure.

What a body expands to is bounded while it expands, so that a small one cannot fill the memory. A sender that names no
encoding, or ``identity``, sends the body as it is.
"""

from __future__ import annotations

import zlib

from shipworthy.errors import Refused

# Below this many bytes an answer fits one packet anyway: compressing it only costs time.
WORTH_BYTES = 1400
# The fastest level: on JSON of numbers the usual one (6) saves 6 % more bytes and takes six times as long.
LEVEL = 1

_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


class TooLarge(Refused):
    """The body is above the limit. HTTP 413."""

    http_status = 413


class Unsupported(Refused):
    """The body is in an encoding that we do not read. HTTP 415."""

    http_status = 415


def expand(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body that a sender compressed.

    Args:
        body: the bytes on the wire.
        encoding: the ``Content-Encoding``: ``gzip``, ``deflate`` (with or without zlib's header) or ``identity``.
        limit_bytes: the most that it may expand to.

    Raises:
        Unsupported: another encoding, or several on top of each other.
        TooLarge: it expands to more than the limit.
        Refused: it is broken, cut off, or bytes follow its end.
    """
    kind = encoding.strip().lower()
    if kind in {"", "identity"}:
        return body
    if kind not in _WINDOW:
        raise Unsupported(
            "the body is in an encoding that is not read", found=encoding[:100], expected="gzip, deflate or identity"
        )
    window = _RAW_DEFLATE if kind == "deflate" and not _has_zlib_header(body) else _WINDOW[kind]
    expander = zlib.decompressobj(window)
    try:
        plain = expander.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise Refused(f"the body is not {kind}", found=str(error)[:200]) from None
    if len(plain) > limit_bytes:
        raise TooLarge(
            f"the body expands to more than the limit of {limit_bytes / 1e6:g} MB",
            next="send fewer rows a request, or raise body_limit_mb in [serve]",
        )
    if not expander.eof:
        raise Refused(f"the {kind} body ends too early", found=f"{len(body)} bytes")
    if expander.unused_data:
        raise Refused(f"bytes follow the end of the {kind} body", found=f"{len(expander.unused_data)} bytes")
    return plain


def compress(body: bytes, accept: str) -> tuple[bytes, str]:
    """The body as its reader wants it, and its ``Content-Encoding`` (empty: as it was).

    Args:
        body: the plain bytes.
        accept: the request's ``Accept-Encoding``; empty: none was sent.
    """
    encoding = choose(accept) if accept and len(body) >= WORTH_BYTES else ""
    if not encoding:
        return body, ""
    squeezer = zlib.compressobj(LEVEL, wbits=_WINDOW[encoding])
    return squeezer.compress(body) + squeezer.flush(), encoding


def choose(accept: str) -> str:
    """The encoding of ours that an ``Accept-Encoding`` likes best (gzip at a tie); empty: as it is."""
    quality: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, rest = part.partition(";")
        quality[name.strip()] = _weight(rest)
    wanted = {name: quality.get(name, quality.get("*", 0.0)) for name in ("gzip", "deflate")}
    best = max(wanted, key=lambda name: wanted[name])
    return best if wanted[best] > 0 and wanted[best] >= quality.get("identity", 0.0) else ""


def _weight(parameters: str) -> float:
    """The ``q`` of one encoding, 0 to 1; 1 where none is given, 0 where it cannot be read."""
    key, _, value = parameters.partition("=")
    if key.strip() != "q":
        return 1.0
    digits = value.strip()
    readable = len(digits) < 6 and digits.isascii() and digits.replace(".", "", 1).isdigit()  # noqa: PLR2004
    return min(1.0, float(digits)) if readable else 0.0


def _has_zlib_header(body: bytes) -> bool:
    """Whether the first two bytes are zlib's (RFC 1950): some send ``deflate`` without."""
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0  # noqa: PLR2004
