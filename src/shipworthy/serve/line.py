"""A worker's end of what it and the supervisor say to each other."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from shipworthy.errors import Failed, ShipworthyError, Unavailable
from shipworthy.serve import letters
from shipworthy.serve.letters import ASK, REPLY, Letter

log = logging.getLogger(__name__)


class Line:
    """Asks the supervisor, answers it, and takes the connections that it hands over; all in the loop's thread."""

    def __init__(
        self,
        control: socket.socket,
        take: Callable[[bytes, int], None],
        reply: Callable[[Any], Awaitable[Any]],
        told: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        """Store what is to be done.

        Args:
            control: the socket to the supervisor, not blocking.
            take: gets the lane and the descriptor of a connection.
            reply: answers a question of the supervisor, or raises one of our errors.
            told: hears of the kind of a letter that wants no answer.
            ended: called when the supervisor has gone.
        """
        self._control = control
        self._take = take
        self._answer = reply
        self._told = told
        self._ended = ended
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Hear from now on."""
        asyncio.get_running_loop().add_reader(self._control, self._hear)

    def tell(self, kind: bytes, number: int = 0, body: Any = None) -> bool:
        """Send a letter that needs no answer; whether it could be sent."""
        try:
            letters.post(self._control, kind, number, body)
        except OSError:
            return False
        return True

    async def ask(self, body: Any) -> Any:
        """What the supervisor answers.

        Raises:
            Unavailable: it cannot be asked now.
            ShipworthyError: its answer is an error.
        """
        number = next(self._numbers)
        question = self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            if not self.tell(ASK, number, body):
                raise Unavailable("the server's processes cannot be asked now", next="try again")
            return await question
        finally:
            del self._questions[number]

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; the loop itself does not hold what it runs."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hear(self) -> None:
        """Take all that has come: libuv looks at a socket no more once the other end was closed in a hurry."""
        while self._hear_one():
            pass

    def _hear_one(self) -> bool:
        """Take one letter or connection; whether there may be more."""
        try:
            message, descriptors = letters.receive(self._control)
        except BlockingIOError:
            return False
        if not message:
            asyncio.get_running_loop().remove_reader(self._control)
            self._ended()
            return False
        if len(message) == 1:
            self._take(message, descriptors[0])
        else:
            self._heard(letters.read(message, descriptors))
        return True

    def _heard(self, letter: Letter) -> None:
        question = self._questions.get(letter.number)
        if letter.kind == ASK:
            self.begin(self._reply(letter.number, letter.body))
        elif letter.kind != REPLY:
            self._told(letter.kind)
        elif question and not question.done():
            if isinstance(letter.body, ShipworthyError):
                question.set_exception(letter.body)
            else:
                question.set_result(letter.body)

    async def _reply(self, number: int, body: Any) -> None:
        try:
            answer = await self._answer(body)
        except ShipworthyError as error:
            answer = error
        except Exception:
            log.exception("what the supervisor asked could not be done")
            answer = Failed("internal error: the server's log says more")
        self.tell(REPLY, number, answer)
