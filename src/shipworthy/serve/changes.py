"""How the models of all workers are changed together: tried by one, loaded by all, then switched, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shipworthy.errors import Failed, ShipworthyError, Unavailable
from shipworthy.serve.letters import Abort, Change, Commit, Count, Find, Prepare
from shipworthy.serve.rounds import Lost, Round, Steps
from shipworthy.serve.wording import sentence

# Weights may come over a network; a worker that takes longer has hung.
LOAD_SECONDS = 600.0
SWITCH_SECONDS = 30.0
COUNT_SECONDS = 2.0


Adopt = Callable[[Change, tuple[Any, ...]], None]
"""Called, with the workers that have loaded it, when a change is decided: whoever starts later begins with it."""

Room = Callable[[Change], Steps]
"""The steps of making room for a change; their result is what of it fits, or an error."""


def change(asker: Any, wanted: Change, others: Callable[[], tuple[Any, ...]], adopt: Adopt, room: Room) -> Steps:
    """The steps of a change.

    One worker tries first: a model that does not load, or takes the whole process down, costs one worker a moment and
    the others nothing, and what its runs cost is measured once.

    Args:
        asker: the worker that tries first.
        wanted: the change.
        others: all workers that answer requests now.
        adopt: called when the change is decided.
        room: makes room for the change, before it is loaded and when its size is known.

    Returns:
        ``None`` when it is done, else the error.
    """
    fit = yield from room(wanted)
    if isinstance(fit, ShipworthyError):
        return (yield from _give_up(others(), wanted, fit))
    replies = yield Round((asker,), Prepare(fit), LOAD_SECONDS)
    tried = replies[asker]
    if isinstance(tried, Lost):
        tried = Failed("the worker that tried to load it ended, or did not come to an end", next="see the server's log")
    elif not isinstance(tried, ShipworthyError):
        tried = yield from room(tried)
    if isinstance(tried, ShipworthyError):
        return (yield from _give_up(others(), wanted, tried))
    rest = tuple(worker for worker in others() if worker is not asker)
    replies = yield Round(rest, Prepare(tried), LOAD_SECONDS)
    for reply in replies.values():
        # Who has died is replaced by one that begins with the change; an error is another thing.
        if isinstance(reply, ShipworthyError) and not isinstance(reply, Lost):
            return (yield from _give_up(others(), wanted, reply))
    able = (asker, *(worker for worker in rest if not isinstance(replies[worker], Lost)))
    return (yield from switch(tried, able, adopt))


def switch(prepared: Change, workers: tuple[Any, ...], adopt: Adopt) -> Steps:
    """The steps of a change that these workers have loaded, or that brings nothing to load."""
    adopt(prepared, workers)
    yield Round(workers, Commit(prepared), SWITCH_SECONDS)


def reload(
    asker: Any, others: Callable[[], tuple[Any, ...]], adopt: Adopt, room: Room, sort: Callable[[Change], Change]
) -> Steps:
    """The steps of serving whatever there is to serve now; as ``change``.

    ``sort`` says what of that which the asker finds is loaded, and what rests.
    """
    replies = yield Round((asker,), Find(), LOAD_SECONDS)
    found = replies[asker]
    if isinstance(found, ShipworthyError):
        return found
    return (yield from change(asker, sort(found), others, adopt, room))


def count(workers: tuple[Any, ...], told: Callable[[Any, Any], None], known: Callable[[], Any]) -> Steps:
    """The steps of counting: what all workers have done, those included that are ending or have ended.

    What is said is remembered first, so that a later sum is never below this one, whoever dies in between.

    Args:
        workers: those that answer requests now.
        told: remembers what a worker has said; of one that does not reply its last word counts.
        known: all that was told, summed.
    """
    replies = yield Round(workers, Count(), COUNT_SECONDS)
    for worker, said in replies.items():
        if not isinstance(said, ShipworthyError):
            told(worker, said)
    return known()


def _give_up(workers: tuple[Any, ...], wanted: Change, error: ShipworthyError) -> Steps:
    """Forget what was prepared; what is only not possible now is no reason to remember."""
    reasons = {} if isinstance(error, Unavailable) else {offer.name: sentence(error) for offer in wanted.offers}
    yield Round(workers, Abort(reasons), SWITCH_SECONDS)
    return error
