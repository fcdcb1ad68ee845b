"""What a caller may ask of a connection of HTTP/1.1: how long a head may be, and how long sending and reading may take."""

from __future__ import annotations

from typing import Any

from shipworthy.errors import Refused
from shipworthy.serve.orderly import Orderly

# Bytes of a head, and of anything else that is no body.
MOST_HEAD_BYTES = 65_536
# From the first byte of a head to its end; and without a byte of a body, or of an answer that is read.
HEAD_SECONDS = 10
STALL_SECONDS = 30


class TooSlow(Refused):
    """The request does not come to its end. HTTP 408."""

    http_status = 408


class HeadTooLarge(Refused):
    """The URL and the headers are too long. HTTP 431."""

    http_status = 431


class Bounded(Orderly):
    """The protocol with bounds. Whoever builds on it calls ``_begin_head`` and ``_end_head`` where heads do so."""

    __slots__ = ("_bodiless", "_came", "_fault", "_framing", "_moved", "_unread", "_unsent", "_waited")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._bodiless = False  # the message that has begun is a HEAD: no answer to it has a body, an error neither
        self._came = 0  # bytes of this read
        self._framing = 0  # bytes that have come of this head, or since the last of the body
        self._moved = False  # this read had some of the body
        self._waited = 0  # seconds for which a head has been coming, or nothing of a body
        self._fault: Refused | None = None
        self._unsent = 0  # bytes that the caller had not read a second ago
        self._unread = 0  # seconds for which it has read none of them

    def look(self) -> None:
        """Once a second: hang up on who takes too long to send or to read."""
        cycle = self.cycle
        ours = self._heading and not (cycle is None or cycle.response_complete)  # the answer before it is not written yet
        if self._within and not ours and not self.flow.read_paused:
            self._waited += 1
            if self._waited > (HEAD_SECONDS if self._heading else STALL_SECONDS):
                self._hang_up(TooSlow("the request did not come to its end", next="send it without pauses"))
        unsent = self.transport.get_write_buffer_size()
        self._unread = self._unread + 1 if unsent and unsent >= self._unsent else 0
        self._unsent = unsent
        if self._unread > STALL_SECONDS:
            self.transport.abort()

    def resume_writing(self) -> None:
        """The caller reads again: so do we, but where requests wait already."""
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser does not take, with our reason where we stopped it."""
        self._hang_up(self._fault or Refused("this is not a request of HTTP/1.1", found=msg))

    def _feed(self, data: bytes) -> None:
        """Let the parser read; bytes that bring no body along may be so many and no more."""
        self._came = len(data)
        if not self._within:
            self._bodiless = data.startswith(b"HEAD ")
        super().data_received(data)
        if not self._within:
            return
        self._framing = 0 if self._moved else self._framing + len(data)
        self._moved = False
        if self._framing > MOST_HEAD_BYTES:
            self._hang_up(_too_large())

    def _begin_head(self) -> None:
        self._within = self._heading = True
        self._framing = self._waited = 0

    def _end_head(self) -> None:
        """The head is whole; one that is too large stops the parser, and uvicorn asks for the answer to what is no request."""
        if self._framing + self._came > MOST_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
            if size > MOST_HEAD_BYTES:
                self._fault = _too_large()
                raise self._fault
        if fault := self._unfit():
            self._fault = fault
            raise fault
        self._heading = False
        self._framing = self._waited = 0

    def _hang_up(self, error: Refused) -> None:
        """Say why, where no answer has begun, and close."""
        if self.transport.is_closing() or self._waits(error):
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.say(error)
        self.transport.close()


def _too_large() -> HeadTooLarge:
    return HeadTooLarge("the URL and the headers are too long", expected=f"at most {MOST_HEAD_BYTES} bytes")
