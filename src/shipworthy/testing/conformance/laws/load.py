"""Many at once, and at the very end: is the server still there?"""

from __future__ import annotations

from collections.abc import Sequence

from shipworthy.testing.conformance.case import Answer, Broken, Case, Group, Step
from shipworthy.testing.conformance.messages import ask, get, infer, read, same, tensors, with_bytes
from shipworthy.testing.conformance.subject import Subject

CALLERS = 64
MOST_ROWS = 5


def _alone_then_together(subject: Subject) -> list[Step]:
    asks = [infer(subject, ask(subject.values(i % MOST_ROWS + 1, seed=i), id=f"caller {i}")) for i in range(CALLERS)]
    return [*asks, tuple(asks)]


def _own_rows(_subject: Subject, answers: Sequence[Answer]) -> None:
    for i, (alone, together) in enumerate(zip(answers[:CALLERS], answers[CALLERS:], strict=True)):
        same(tensors(alone), tensors(together), f"caller {i} gets its own rows")


def _own_ids(_subject: Subject, answers: Sequence[Answer]) -> None:
    for i, answer in enumerate(answers):
        said = read(answer, dict).get("id")
        if said != f"caller {i}":
            raise Broken(f"the id 'caller {i}'", str(said))


def _together(subject: Subject) -> list[Step]:
    return [tuple(infer(subject, ask(subject.values(), id=f"caller {i}")) for i in range(CALLERS))]


def _alive(subject: Subject) -> list[Step]:
    last = infer(subject) if subject.in_json else with_bytes(subject, subject.values(), parameters={"binary_data_output": True})
    return [get("/v2/health/live"), get("/v2/health/ready"), get(subject.path + "/ready"), last]


def _still_there(_subject: Subject, answers: Sequence[Answer]) -> None:
    for answer in answers[:-1]:
        if answer.status != 200:  # noqa: PLR2004
            raise Broken("status 200", str(answer))
    tensors(answers[-1])


GROUP = Group(
    "load",
    "Many at once, and the end",
    (
        Case("load.own-rows", "Of 64 callers at once, with 1 to 5 rows each, each gets the answers to its own rows.",
             "OIP inference_rest.md: Inference; batchers have mixed answers up (SeldonIO/MLServer#1306)", "specification",
             _alone_then_together, _own_rows),
        Case("load.own-ids", "Of 64 callers at once, each gets the id that it gave.",
             "OIP inference_rest.md: id", "specification", _together, _own_ids),
        Case("load.alive", "After all this the server is live and ready, and the model answers.",
             "OIP inference_rest.md: Server Live", "specification",
             _alive, _still_there),
    ),
)  # fmt: skip
