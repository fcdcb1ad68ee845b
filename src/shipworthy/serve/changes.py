"""How the models of all workers are changed together: tried by one, loaded by all, then switched, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shipworthy.errors import Failed, ShipworthyError
from shipworthy.serve.letters import Abort, Change, Commit, Count, Find, Prepare
from shipworthy.serve.rounds import Lost, Round, Steps
from shipworthy.serve.wording import sentence

# Weights may come over a network; a worker that takes longer has hung.
LOAD_SECONDS = 600.0
SWITCH_SECONDS = 30.0
COUNT_SECONDS = 2.0


def change(
    asker: Any, wanted: Change, others: Callable[[], tuple[Any, ...]], adopt: Callable[[Change, tuple[Any, ...]], None]
) -> Steps:
    """The steps of a change.

    One worker tries first: a model that does not load, or takes the whole process down, costs one worker a moment and
    the others nothing, and what its runs cost is measured once.

    Args:
        asker: the worker that tries first.
        wanted: the change.
        others: all workers that answer requests now.
        adopt: called, with the workers that have loaded it, when the change is decided: whoever starts later begins with it.

    Returns:
        ``None`` when it is done, else the error.
    """
    replies = yield Round((asker,), Prepare(wanted), LOAD_SECONDS)
    tried = replies[asker]
    if isinstance(tried, Lost):
        tried = Failed("the worker that tried to load it ended, or did not come to an end", next="see the server's log")
    if isinstance(tried, ShipworthyError):
        return (yield from _give_up(others(), wanted, tried))
    rest = tuple(worker for worker in others() if worker is not asker)
    replies = yield Round(rest, Prepare(tried), LOAD_SECONDS)
    for reply in replies.values():
        # Who has died is replaced by one that begins with the change; an error is another thing.
        if isinstance(reply, ShipworthyError) and not isinstance(reply, Lost):
            return (yield from _give_up(others(), wanted, reply))
    able = (asker, *(worker for worker in rest if not isinstance(replies[worker], Lost)))
    adopt(tried, able)
    yield Round(able, Commit(tried), SWITCH_SECONDS)
    return None


def reload(asker: Any, others: Callable[[], tuple[Any, ...]], adopt: Callable[[Change, tuple[Any, ...]], None]) -> Steps:
    """The steps of serving whatever there is to serve now; as ``change``, whose offers the asker finds."""
    replies = yield Round((asker,), Find(), LOAD_SECONDS)
    found = replies[asker]
    if isinstance(found, ShipworthyError):
        return found
    return (yield from change(asker, found, others, adopt))


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
    yield Round(workers, Abort({offer.name: sentence(error) for offer in wanted.offers}), SWITCH_SECONDS)
    return error
