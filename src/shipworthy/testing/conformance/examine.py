"""A server examined: the model found, every law asked and judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from shipworthy.errors import Refused
from shipworthy.testing.conformance.case import Answer, Ask, Broken, Case, Group, Level, State, Step, Verdict, judge
from shipworthy.testing.conformance.laws import GROUPS
from shipworthy.testing.conformance.laws.extensions import ModelIndex
from shipworthy.testing.conformance.laws.rest import ModelMetadata, ServerMetadata
from shipworthy.testing.conformance.messages import JSON, get, read
from shipworthy.testing.conformance.subject import DTYPES, NotTried, Subject
from shipworthy.testing.conformance.transport import Server

LONGEST_ASKED = 400
GONE = "nobody answers since"


@dataclass(frozen=True)
class Result:
    """One law, what became of it, and the requests that showed it (cut)."""

    id: str
    group: str
    law: str
    source: str
    level: Level
    state: State
    expected: str = ""
    found: str = ""
    asked: str = ""


@dataclass(frozen=True)
class Examination:
    """All results of one server with one model, in the order of the laws."""

    server: str
    version: str
    model: str
    results: tuple[Result, ...]

    @property
    def taken_down_by(self) -> str:
        """The law after whose requests nobody answered any more; empty: the server lives."""
        return next((one.found.removeprefix(GONE).strip() for one in self.results if one.found.startswith(GONE)), "")

    @property
    def conforms(self) -> bool:
        """Whether every law that a specification requires and that was tried is held."""
        return not any(one.state == "broken" and one.level == "specification" for one in self.results)


def examine(
    server: Server,
    *,
    model: str = "",
    version: str = "",
    groups: Sequence[str] = (),
    skip: Collection[str] = (),
    unload: bool = False,
    seen: Callable[[Result], None] = lambda _: None,
) -> Examination:
    """Ask a server everything, and judge what it answers.

    Args:
        server: where it is; laws of gRPC are asked where it has an address for that.
        model: the model to ask; by default the first that the server names.
        version: its version; by default the last that its metadata names.
        groups: keys of groups, or beginnings of them (``oip``); by default all.
        skip: ids of laws not to try.
        unload: whether the model may be unloaded for a moment, and loaded again.
        seen: told of every result as it comes.

    Raises:
        Refused: nobody is there, no group or law is so called, or the metadata of no model can be read.
    """
    wanted = choose(groups)
    if unknown := set(skip) - {case.id for group in wanted for case in group.cases}:
        raise Refused(f"there is no law '{min(unknown)}' to skip", expected="the id of a law that is tried")
    server.connect()
    try:
        said = _server(server)
        subject = replace(_subject(server, model or _first(server), version), unload=unload)
        subject = replace(subject, extensions=tuple(said.extensions))
        results = _all(server, wanted, subject, skip, seen)
    finally:
        server.close()
    return Examination(said.name, said.version, subject.name, tuple(results))


def choose(keys: Sequence[str]) -> tuple[Group, ...]:
    """The groups with these keys, or whose keys begin so; all without any.

    Raises:
        Refused: there is none for a key.
    """
    for key in keys:
        if not any(_is_of(group, key) for group in GROUPS):
            raise Refused(f"there is no group '{key}'", expected=", ".join(group.key for group in GROUPS))
    return tuple(group for group in GROUPS if not keys or any(_is_of(group, key) for key in keys))


def _is_of(group: Group, key: str) -> bool:
    return group.key == key or group.key.startswith(key + ".")


def _all(
    server: Server, groups: Sequence[Group], subject: Subject, skip: Collection[str], seen: Callable[[Result], None]
) -> list[Result]:
    results: list[Result] = []
    gone = ""
    for group in groups:
        absent = ""
        for case in group.cases:
            reason = gone or ("to be skipped" if case.id in skip else "")
            if group.grpc and not server.grpc:
                reason = "no address of gRPC was given"
            if reason:
                result = _result(case, group, Verdict("not tried", found=reason))
            elif absent:
                result = _result(case, group, Verdict("not offered", found=absent))
            else:
                result = _one(server, group, case, subject)
                if result.state == "not offered" and case is group.cases[0]:
                    absent = result.found
                elif result.state == "broken" and not server.is_there():
                    gone = f"{GONE} {case.id}"
            results.append(result)
            seen(result)
    return results


def _one(server: Server, group: Group, case: Case, subject: Subject) -> Result:
    try:
        steps = case.steps(subject)
    except NotTried as reason:
        return _result(case, group, Verdict("not tried", found=str(reason)))
    return _result(case, group, judge(case, subject, server.ask(steps)), steps)


def _result(case: Case, group: Group, verdict: Verdict, steps: Sequence[Step] = ()) -> Result:
    asked = "; ".join(str(step[0] if isinstance(step, tuple) else step) for step in steps[-2:])[:LONGEST_ASKED]
    return Result(case.id, group.key, case.law, case.source, case.level, verdict.state, verdict.expected, verdict.found, asked)


# ---------------------------------------------------------------- the model


def _answer(server: Server, ask: Ask) -> Answer:
    return server.ask([ask])[0]


def _server(server: Server) -> ServerMetadata:
    """What the server says of itself; unknown where it says nothing that can be read."""
    try:
        return read(_answer(server, get("/v2")), ServerMetadata)
    except Broken:
        return ServerMetadata("unknown", "", [])


def _first(server: Server) -> str:
    """The first model that is ready, by the index or by the list of models."""
    try:
        lines = read(_answer(server, Ask("POST", "/v2/repository/index", b"{}", JSON)), list[ModelIndex])
        ready = [line.name for line in lines if line.state in {"READY", ""}]
    except Broken:
        try:
            ready = read(_answer(server, get("/v2/models")), dict[str, list[str]]).get("models", [])
        except Broken:
            ready = []
    if not ready:
        raise Refused(f"the server at {server.url} names no model that is ready", next="name one: --model NAME")
    return ready[0]


def _subject(server: Server, name: str, version: str) -> Subject:
    asked = Subject(name, (), version=version)
    try:
        said = read(_answer(server, get(asked.versioned if version else asked.path)), ModelMetadata)
    except Broken as broken:
        raise Refused(
            f"the metadata of the model '{name}' cannot be read",
            found=broken.found,
            expected=broken.expected,
            next="name a model that the server has: --model NAME",
        ) from None
    if not said.inputs or any(one.datatype not in DTYPES for one in (*said.inputs, *said.outputs)):
        raise Refused(
            f"the metadata of the model '{name}' does not say how to ask it",
            found=", ".join(f"{one.name} {one.datatype}" for one in said.inputs) or "no inputs",
            expected=f"inputs of {', '.join(DTYPES)}",
            next="give the model its metadata, or name another: --model NAME",
        )
    return Subject(name, tuple(said.inputs), tuple(said.outputs), version or (said.versions or [""])[-1])
