"""Models that rest: who asks for one has it loaded, who looks does not, and who may not use it learns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import NotFound, Unavailable
from shipworthy.records import Target
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.guard import Shown
from shipworthy.serve.keys import Forbidden, Rights
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.serve.statistics import Statistics

OFFER = Offer((ServedModel("m", 1, Path("m"), Target()), ServedModel("m", 4, Path("m"), Target())), 4, {"stable": 1})


@pytest.fixture
def wanted() -> list[str]:
    return []


@pytest.fixture
def catalog(wanted: list[str]) -> Catalog:
    made = Catalog(wanted.append)
    made.rest(OFFER)
    return made


@pytest.mark.parametrize("version", ["", "1", "4", "stable"])
def test_asking_for_a_version_wakes_its_model(catalog: Catalog, wanted: list[str], version: str) -> None:
    with pytest.raises(Unavailable, match="'m' is not loaded") as error:
        catalog.find("m", version)
    assert error.value.retry_after_seconds == 1
    assert wanted == ["m"]


def test_looking_wakes_nobody(catalog: Catalog, wanted: list[str]) -> None:
    assert catalog.at_rest("m") == [1, 4]
    assert catalog.at_rest("m", "stable") == [1]
    assert catalog.at_rest("x") == []
    for look in (catalog.versions, catalog.labels):
        with pytest.raises(Unavailable):
            look("m")
    for version in ("7", "best"):
        with pytest.raises(NotFound) as error:
            catalog.find("m", version)
        assert error.value.expected == "one of: stable, 1, 4"
    assert (catalog.names(), wanted) == ([], [])


def test_a_load_that_failed_is_told_until_one_succeeds(catalog: Catalog, models: dict[str, Path]) -> None:
    catalog.failures["m"] = "the disk"
    with pytest.raises(Unavailable) as error:
        catalog.find("m")
    assert error.value.found == "the disk"
    runner, statistics = OnnxRuntimeRunner(models["two"], Target()), Statistics()
    catalog.serve([Live("m", 1, "", runner, Batcher(runner, Plan(), statistics), statistics)])
    assert catalog.find("m").version == 1
    assert (dict(catalog.resting), catalog.failures) == ({}, {})
    catalog.rest(OFFER)
    assert catalog.names() == []
    catalog.drop("m")
    with pytest.raises(NotFound):
        catalog.find("m")


def test_a_key_wakes_what_it_may_use_and_learns_nothing_of_the_rest(catalog: Catalog, wanted: list[str]) -> None:
    other = Shown(catalog, Rights(frozenset({"x"}), operate=False))
    assert dict(other.resting) == {}
    for look in (other.find, other.at_rest, other.versions):
        with pytest.raises(Forbidden):
            look("m")
    with pytest.raises(NotFound) as error:
        other.find("x")
    assert error.value.expected == "one of: none"
    assert wanted == []
    own = Shown(catalog, Rights(frozenset({"m"}), operate=False))
    assert own.at_rest("m") == [1, 4]
    with pytest.raises(Unavailable):
        own.find("m")
    assert wanted == ["m"]
