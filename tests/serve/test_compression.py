from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.serve import compression

BODY = b'{"inputs": []}' * 200
RAW = zlib.compress(BODY, wbits=-15)
LIMIT = 10**6


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        (" GZip ", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW),
    ],
)
def test_a_body_is_what_was_compressed(encoding: str, sent: bytes) -> None:
    assert compression.expand(sent, encoding, LIMIT) == BODY


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "*", "é"])
def test_another_encoding_is_415(encoding: str) -> None:
    with pytest.raises(compression.Unsupported) as refused:
        compression.expand(b"", encoding, LIMIT)
    assert refused.value.http_status == 415


@pytest.mark.parametrize(
    ("encoding", "sent", "said"),
    [
        ("gzip", b"", "too early"),
        ("gzip", b"plain", "not gzip"),
        ("gzip", zlib.compress(BODY), "not gzip"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1], "too early"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-5] + b"\0" * 5, "not gzip"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"x", "bytes follow"),
        ("gzip", gzip.compress(b"", mtime=0) * 2, "bytes follow"),
        ("deflate", RAW[:-1], "too early"),
        ("deflate", b"\xff", "not deflate"),
    ],
)
def test_a_broken_body_is_400(encoding: str, sent: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        compression.expand(sent, encoding, LIMIT)
    assert refused.value.http_status == 400


def test_what_expands_beyond_the_limit_is_413_and_never_made() -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    assert len(bomb) < 100_000
    with pytest.raises(compression.TooLarge, match=r"limit of 0\.1 MB") as refused:
        compression.expand(bomb, "gzip", 100_000)
    assert refused.value.http_status == 413
    assert compression.expand(gzip.compress(bytes(100), mtime=0), "gzip", 100) == bytes(100)
    with pytest.raises(compression.TooLarge):
        compression.expand(gzip.compress(bytes(101), mtime=0), "gzip", 100)


ACCEPTED = {
    "": "",
    "gzip": "gzip",
    "deflate": "deflate",
    "gzip, deflate": "gzip",
    "deflate, gzip, br, zstd": "gzip",
    "gzip;q=0.5, deflate;q=0.8": "deflate",
    "GZIP ; Q=0.3": "gzip",
    "*": "gzip",
    "gzip;q=0, *;q=0.1": "deflate",
    "gzip;q=0": "",
    "br": "",
    "identity": "",
    "identity, gzip;q=0.5": "",
    "identity;q=0, gzip;q=0.1": "gzip",
    "gzip;q=x": "",
    "gzip;q=1, deflate;q=9": "gzip",
    "gzip;level=1": "gzip",
    ",;,=": "",
}


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_reader_chooses(accept: str) -> None:
    assert compression.choose(accept) == ACCEPTED[accept]
    body, encoding = compression.compress(BODY, accept)
    assert encoding == ACCEPTED[accept]
    assert compression.expand(body, encoding, LIMIT) == BODY
    assert (len(body) < len(BODY)) == bool(encoding)


def test_a_body_of_one_packet_stays_as_it_is() -> None:
    assert compression.compress(BODY[:1399], "gzip") == (BODY[:1399], "")
    assert compression.compress(BODY[:1400], "gzip")[1] == "gzip"


@given(st.text(max_size=30))
def test_any_header_is_read(header: str) -> None:
    assert compression.choose(header) in {"", "gzip", "deflate"}


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]), st.booleans())
def test_any_body_expands_or_is_refused(body: bytes, encoding: str, whole: bool) -> None:
    sent = zlib.compress(body, wbits=31 if encoding == "gzip" else 15) if whole else body
    try:
        plain = compression.expand(sent, encoding, 40)
    except compression.TooLarge:
        assert not whole or len(body) > 40
    except Refused:
        assert not whole
    else:
        assert not whole or plain == body
