"""What every method shares: messages read, our errors said, nothing else let out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.serve import calls
from shipworthy.serve.calls import Call, Status, Unary
from shipworthy.serve.grpc import messages
from shipworthy.serve.statistics import outcome_of

log = logging.getLogger(__name__)

_TASKS: set[asyncio.Task[None]] = set()


@contextmanager
def answered(say: Callable[[ShipworthyError], None]) -> Iterator[None]:
    """Whatever is raised inside is said to the caller; what nobody foresaw also goes to the log, with its traceback."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it was, the caller gets an answer
        say(_told(error))


def written(write: Callable[[], None], say: Callable[[ShipworthyError], None]) -> int | None:
    """Write an answer; one that cannot be written is said to the caller, and how the request has ended so is returned."""
    try:
        write()
    except Exception as error:  # noqa: BLE001  whatever it was, the caller gets an answer
        say(_told(error))
        return outcome_of(error)
    return None


def _told(error: Exception) -> ShipworthyError:
    if isinstance(error, ShipworthyError):
        return error
    log.error("a gRPC call failed", exc_info=error)
    return Failed("internal error: the server's log says more")


def simple(takes: str, method: Callable[[Any], Any]) -> Unary:
    """A method that answers at once: a message of the type named ``takes`` in, a message out."""
    kind = messages.load()[takes]

    def unary(call: Call, message: bytes) -> None:
        with answered(lambda error: calls.refuse(call, error)):
            call.finish(method(messages.read(kind, message)).SerializeToString())

    return unary


def waiting(takes: str, method: Callable[[Any], Awaitable[Any]]) -> Unary:
    """A method that answers later: a message of the type named ``takes`` in, a message out in the end."""
    kind = messages.load()[takes]

    def unary(call: Call, message: bytes) -> None:
        async def answer() -> None:
            with answered(lambda error: calls.refuse(call, error)):
                call.finish((await method(messages.read(kind, message))).SerializeToString())

        task = asyncio.get_running_loop().create_task(answer())
        _TASKS.add(task)  # the loop itself does not hold what it runs
        task.add_done_callback(_TASKS.discard)

    return unary


def unimplemented(text: str) -> Unary:
    """A method that clients know and we do not have."""

    def unary(call: Call, _message: bytes) -> None:
        call.finish(None, Status.UNIMPLEMENTED, text)

    return unary
