"""What one worker asks of all: counts, loads, unloads, the index."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Failed, NotFound, Refused, Unavailable
from shipworthy.records import Target
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.fleet import Fleet, Wish
from shipworthy.serve.letters import Change, Count, Tally
from shipworthy.serve.source import Given, Offer, Policy, ServedModel
from shipworthy.serve.statistics import Statistics


class Supervisor:
    """Keeps what it is asked; answers counts as given."""

    def __init__(self, counts: Mapping[tuple[str, int], Statistics]) -> None:
        self.counts = counts
        self.asked: list[Any] = []

    async def ask(self, body: Any) -> Any:
        self.asked.append(body)
        return Tally(self.counts) if isinstance(body, Count) else None

    @property
    def change(self) -> tuple[dict[str, list[int]], tuple[str, ...]]:
        """The last change: versions by name, and what goes."""
        change = self.asked[-1]
        assert isinstance(change, Change)
        return {offer.name: [model.version for model in offer.versions] for offer in change.offers}, change.gone


@pytest.fixture
def supervisor() -> Supervisor:
    counted = Statistics()
    counted.succeeded([3], [2], 1, [0])
    return Supervisor({("m", 1): counted, ("m", 7): Statistics()})


@pytest.fixture
def catalog(models: dict[str, Path]) -> Catalog:
    made = Catalog()
    runner, statistics = OnnxRuntimeRunner(models["two"], Target()), Statistics()
    for name, versions in {"m": [1, 2], "n": [1]}.items():
        made.serve([Live(name, version, "", runner, Batcher(runner, Plan(), statistics), statistics) for version in versions])
    return made


@pytest.fixture
def fleet(supervisor: Supervisor, catalog: Catalog, models: dict[str, Path]) -> Fleet:
    there = {"m": [1, 2, 3], "o": [5]}
    given = Given(ServedModel(name, number, models["two"], Target()) for name, numbers in there.items() for number in numbers)
    return Fleet(supervisor.ask, given, catalog)


def test_counts_are_those_of_all_workers_for_what_is_served(fleet: Fleet) -> None:
    def counted(*which: str) -> list[tuple[str, int, int]]:
        found = asyncio.run(fleet.counted(*which))
        return [(name, version, statistics.successes) for name, version, statistics in found]

    assert counted() == [("m", 1, 1), ("m", 2, 0), ("n", 1, 0)]
    assert counted("m") == [("m", 1, 1), ("m", 2, 0)]
    assert counted("m", "1") == [("m", 1, 1)]
    for which in (("x",), ("m", "7")):
        with pytest.raises(NotFound):
            counted(*which)


def test_load_brings_what_the_source_has_now(fleet: Fleet, supervisor: Supervisor) -> None:
    asyncio.run(fleet.load("o"))
    assert supervisor.change == ({"o": [5]}, ())
    with pytest.raises(NotFound, match="'n'"):
        asyncio.run(fleet.load("n"))
    assert len(supervisor.asked) == 1


def test_unload_takes_what_is_served_and_leaves_what_is_not(fleet: Fleet, supervisor: Supervisor) -> None:
    asyncio.run(fleet.unload("n"))
    assert supervisor.change == ({}, ("n",))
    asyncio.run(fleet.unload("o"))
    assert len(supervisor.asked) == 1
    with pytest.raises(NotFound, match="'x'") as error:
        asyncio.run(fleet.unload("x"))
    assert error.value.expected == "one of: m, o"


def test_serving_a_list_takes_the_others_away(fleet: Fleet, supervisor: Supervisor) -> None:
    asyncio.run(fleet.serve([Wish("m", Policy(latest=2), {"stable": 2}), Wish("o")]))
    assert supervisor.change == ({"m": [2, 3], "o": [5]}, ("n",))
    assert supervisor.asked[-1].offers[0].labels == {"stable": 2}
    with pytest.raises(NotFound, match="label 'stable' of model 'm'") as error:
        asyncio.run(fleet.serve([Wish("m", Policy(latest=1), {"stable": 2})]))
    assert error.value.expected == "one of: 3"
    with pytest.raises(Refused, match="named twice"):
        asyncio.run(fleet.serve([Wish("o"), Wish("o")]))
    assert len(supervisor.asked) == 1


def test_a_source_that_cannot_be_looked_at_takes_nothing_from_the_index(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(name: str) -> list[int]:
        if name == "o":
            raise Failed("the tracking server does not answer")
        return [1, 2]

    monkeypatch.setattr(fleet._source, "numbers", numbers)
    *served, last = asyncio.run(fleet.index(ready=False))
    assert [one["state"] for one in served] == ["READY"] * 3
    assert last == {"name": "o", "version": "", "state": "UNAVAILABLE", "reason": "the tracking server does not answer"}


def test_the_index_has_what_is_served_and_what_could_be(fleet: Fleet, catalog: Catalog) -> None:
    catalog.failures["o"] = "no such opset"
    served = [("m", "1", "READY", ""), ("m", "2", "READY", ""), ("n", "1", "READY", "")]
    could = [("m", "3", "UNAVAILABLE", "unloaded"), ("o", "5", "UNAVAILABLE", "no such opset")]
    for ready, wanted in ((True, served), (False, served + could)):
        found = asyncio.run(fleet.index(ready=ready))
        assert [(one["name"], one["version"], one["state"], one["reason"]) for one in found] == wanted


def test_a_model_that_rests_can_be_unloaded_and_is_told_apart_in_the_index(
    fleet: Fleet, supervisor: Supervisor, catalog: Catalog, models: dict[str, Path]
) -> None:
    catalog.rest(Offer((ServedModel("o", 5, models["two"], Target()),), 5))
    *_, last = asyncio.run(fleet.index(ready=False))
    assert (last["name"], last["state"], last["reason"]) == ("o", "UNAVAILABLE", "loads when it is asked for")
    with pytest.raises(Unavailable, match="'o' is not loaded"):
        asyncio.run(fleet.counted("o"))
    asyncio.run(fleet.serve([Wish("m", Policy(latest=1))]))
    assert supervisor.change == ({"m": [3]}, ("n", "o"))
    asyncio.run(fleet.unload("o"))
    assert supervisor.change == ({}, ("o",))
