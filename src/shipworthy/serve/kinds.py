"""Requests that are alike but for their numbers: what stands around those, as bytes, and how several are read at once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.serve.oip import Request
from shipworthy.serve.runs import Share
from shipworthy.serve.texts import Frame, read_all


class Written(NamedTuple):
    """Bodies of answers that are alike but for their numbers.

    ``text`` has ``%b`` in the places of those, ``columns`` what stands there, one after the other, in all bodies.
    ``json_bytes``: where bytes follow JSON, how many of that there are.
    """

    text: bytes
    columns: list[list[bytes]]
    json_bytes: int | None

    def bodies(self) -> list[bytes]:
        """The bodies."""
        return [self.text % parts for parts in zip(*self.columns, strict=True)]

    def messages(self, start: bytes) -> list[bytes]:
        """The bodies, each behind the start of its head, the number of its bytes, and the end of its head."""
        if len(self.columns) > 1:
            return [b"%b%d\r\n\r\n%b" % (start, len(body), body) for body in self.bodies()]
        text = start.replace(b"%", b"%%") + b"%d\r\n\r\n" + self.text  # the common answer is put together in one step
        rest = len(self.text % b"")
        return [text % (rest + len(part), part) for part in self.columns[0]]


class Kind:
    """A request's body without its numbers: it begins with ``before`` and ends with ``tail``.

    ``rows`` and ``nbytes`` (of the arrays) are those of one request; ``write`` makes the answers to so many requests, which
    share what is given in equal parts, or gives ``None`` where each is to be written by itself. ``cohort`` is the one that
    gathers such requests now.
    """

    __slots__ = ("before", "cohort", "end", "nbytes", "request", "rows", "start", "tail", "write")

    def __init__(
        self, before: bytes, tail: bytes, request: Request, write: Callable[[Any, Share, int], Written | None]
    ) -> None:
        self.before = before
        self.tail = tail
        self.start, self.end = len(before), len(tail)
        self.request = request
        self.rows = request.rows
        self.nbytes = request.nbytes
        self.write = write
        self.cohort: Any = None

    def arrays(self, pieces: list[bytes]) -> dict[str, Array]:
        """The inputs of requests one after the other, from what stands between ``before`` and ``tail`` in each.

        Raises:
            Refused: at least one of them is not what it seemed; which, and why, is found when each is read by itself.
        """
        raise NotImplementedError


class Numbers(Kind):
    """A JSON request with one tensor; its brackets are outside of the pieces."""

    __slots__ = ("_frame", "_name")

    def __init__(
        self,
        before: bytes,
        tail: bytes,
        request: Request,
        write: Callable[[Any, Share, int], Written | None],
        name: str,
        frame: Frame,
    ) -> None:
        super().__init__(before, tail, request, write)
        self._name = name
        self._frame = frame

    def arrays(self, pieces: list[bytes]) -> dict[str, Array]:
        """See ``Kind``."""
        array = read_all(pieces, self._frame)
        if array is None:
            raise Refused("at least one of several requests cannot be read")
        return {self._name: array}


class Blobs(Kind):
    """A binary request, all of whose tensors come as bytes: JSON, then those."""

    __slots__ = ("_layout",)

    def __init__(
        self,
        before: bytes,
        request: Request,
        write: Callable[[Any, Share, int], Written | None],
        layout: Sequence[tuple[str, np.dtype[Any], tuple[int, ...], int]],
    ) -> None:
        """Store them; the layout has each tensor's name, dtype, shape and size in bytes."""
        super().__init__(before, b"", request, write)
        self._layout = layout

    def arrays(self, pieces: list[bytes]) -> dict[str, Array]:
        """See ``Kind``."""
        data = b"".join(pieces)
        if len(self._layout) == 1:
            ((name, dtype, shape, _),) = self._layout
            return {name: np.frombuffer(data, dtype).reshape(-1, *shape[1:])}
        table = np.frombuffer(data, np.uint8).reshape(len(pieces), -1)
        arrays, at = {}, 0
        for name, dtype, shape, size in self._layout:
            column = table[:, at : at + size].copy()  # it must lie where numbers of its dtype may
            arrays[name] = column.reshape(-1).view(dtype).reshape(-1, *shape[1:])
            at += size
        return arrays
