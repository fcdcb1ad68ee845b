"""Header blocks of requests: unpacked, checked, and remembered while they mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import hpack

from shipworthy.serve.calls import Status
from shipworthy.serve.http2.wire import Code, ConnectionFault

_REMEMBERED = 64
_REMEMBERED_BYTES = 256
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_FORBIDDEN = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
# An encoder has reason to change the table's size twice at most before a block (RFC 7541, 4.2).
_SIZE_CHANGES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_UNITS_NS = {"H": 3_600_000_000_000, "M": 60_000_000_000, "S": 1_000_000_000, "m": 1_000_000, "u": 1000, "n": 1}
_OURS = frozenset({"content-type", "te", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "content-length"})


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's headers say.

    ``malformed``: they break a rule of HTTP/2. ``http_status``: not gRPC, to be answered with this status; 0: it is.
    ``refused``: gRPC, to be answered with this status and text. ``timeout_ns`` 0: none. ``content_length`` -1: not said.
    Texts are latin-1; the values of binary metadata (``-bin``) stay in their base64 form.
    """

    path: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    timeout_ns: int = 0
    gzip: bool = False
    content_length: int = -1
    malformed: bool = False
    http_status: int = 0
    refused: tuple[Status, str] | None = None


class Heads:
    """The reading side of one connection's header compression.

    A block that leaves the table as it is means the same until another changes it, and clients send the same block for
    every call: it is unpacked once.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=limit_bytes)
        self.remembered: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """What a whole block says.

        Raises:
            ConnectionFault: the block cannot be unpacked, or unpacks to more than the limit; the table is lost.
        """
        known = self.remembered.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        entries = table.dynamic_entries
        size, count, first = table.maxsize, len(entries), entries[0] if entries else None
        head = parse(self._unpack(block))
        # A new entry is a new object in front; an entry that was dropped leaves the table shorter.
        if (table.maxsize, len(entries)) != (size, count) or (entries and entries[0] is not first):
            self.remembered.clear()
        elif len(block) <= _REMEMBERED_BYTES:
            if len(self.remembered) >= _REMEMBERED:
                self.remembered.clear()
            self.remembered[block] = head
        return head

    def skip(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block that is no request's, as trailers are; keeps the table right.

        Raises:
            ConnectionFault: as ``read``.
        """
        self.remembered.clear()
        return self._unpack(block)

    def _unpack(self, block: bytes) -> list[tuple[bytes, bytes]]:
        if _SIZE_CHANGES.match(block):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block changes the table's size more than twice")
        try:
            return list(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too large") from None
        except (hpack.HPACKError, IndexError, ValueError, OverflowError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"a header block cannot be unpacked: {error}") from None


def well_formed(fields: list[tuple[bytes, bytes]], pseudo: frozenset[bytes]) -> bool:
    """Whether the names, their order and values keep the rules of RFC 9113, 8.2 and 8.3."""
    seen: set[bytes] = set()
    ordinary = False
    for name, value in fields:
        if b"\0" in value or b"\r" in value or b"\n" in value or value[:1] in {b" ", b"\t"} or value[-1:] in {b" ", b"\t"}:
            return False
        if name[:1] == b":":
            if ordinary or name in seen or name not in pseudo:
                return False
            seen.add(name)
        else:
            ordinary = True
            if not _NAME.match(name) or name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
                return False
    return True


def parse(fields: list[tuple[bytes, bytes]]) -> Head:
    """What a request's fields say."""
    texts: dict[str, str] = {}
    for key, value in fields:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        texts[name] = f"{texts[name]},{text}" if name in texts else text
    length = texts.get("content-length", "")
    whole = all(texts.get(name) for name in (":method", ":scheme", ":path"))
    if not well_formed(fields, _PSEUDO) or not whole or (length and not re.match(r"[0-9]{1,18}\Z", length)):
        return Head(malformed=True)
    path = texts[":path"]
    kind = texts.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/grpc", "application/grpc+proto"}:
        return Head(path, http_status=415)
    if texts[":method"] != "POST":
        return Head(path, http_status=405)
    timeout_ns, refused = 0, None
    if "grpc-timeout" in texts:
        if found := _TIMEOUT.match(texts["grpc-timeout"]):
            timeout_ns = max(1, int(found[1]) * _UNITS_NS[found[2]])
        else:
            refused = (Status.INVALID_ARGUMENT, "grpc-timeout is not up to eight digits and one of H M S m u n")
    encoding = texts.get("grpc-encoding", "identity")
    if encoding not in {"identity", "gzip"}:
        refused = (Status.UNIMPLEMENTED, f"grpc-encoding {encoding[:50]!r} is not known; identity and gzip are")
    metadata = {name: text for name, text in texts.items() if name[0] != ":" and name not in _OURS}
    return Head(
        path,
        MappingProxyType(metadata),
        timeout_ns,
        encoding == "gzip",
        int(length) if length else -1,
        refused=refused,
    )
