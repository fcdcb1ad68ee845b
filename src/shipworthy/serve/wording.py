"""Our errors as HTTP says them: one sentence in JSON, and when to come back."""

from __future__ import annotations

import msgspec

from shipworthy.errors import ShipworthyError, Unavailable

LABELS = {"error": "", "found": "found: ", "expected": "expected: ", "next": "do next: "}


def sentence(error: ShipworthyError) -> str:
    """All that the error says, in one line."""
    return "; ".join(LABELS[key] + part for key, part in error.as_dict().items())


def error_body(error: ShipworthyError) -> bytes:
    """``{"error": …}``, the body that clients of every protocol of ours read."""
    return msgspec.json.encode({"error": sentence(error)})


def error_headers(error: ShipworthyError) -> bytes:
    """Header lines that go with the error."""
    return b"retry-after: %d\r\n" % error.retry_after_seconds if isinstance(error, Unavailable) else b""
