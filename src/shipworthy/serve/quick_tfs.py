"""TensorFlow Serving's ``predict`` for one model: the messages of ``tfs``, with the decoder at hand."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from shipworthy.protocols import Arrays
from shipworthy.records import Signature
from shipworthy.serve import tfs, tfs_messages
from shipworthy.serve.statistics import TFS_REST


class QuickTfs:
    """Reads and answers ``predict`` for one model version."""

    wire = TFS_REST

    def __init__(self, signature: Signature) -> None:
        self._signature = signature

    def parse(self, body: bytes, _header_length: int | None) -> tfs.Request:
        """The request in a body; see ``tfs.parse_predict``."""
        try:
            ask = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return tfs.parse_predict(body, self._signature)
        return tfs.to_predict(ask, self._signature)

    def kind(self, _data: bytes, _at: int, _header_length: int | None) -> None:
        """Each request is read by itself."""

    def answer(self, request: tfs.Request, outputs: Arrays) -> tuple[bytes, None]:
        """The body that answers; see ``tfs.answer_predict``."""
        return tfs.answer_predict(request, outputs), None

    @functools.cached_property
    def _decode(self) -> Any:
        return tfs_messages.decoder_of_predict(self._signature).decode
