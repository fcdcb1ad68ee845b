"""What a worker loads, keeps and lets go."""

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from shipworthy.errors import NotFound, Refused, ShipworthyError
from shipworthy.protocols import Array
from shipworthy.records import Target
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.letters import Change
from shipworthy.serve.loader import Loaded, Loader
from shipworthy.serve.order import Job
from shipworthy.serve.plan import Cost
from shipworthy.serve.source import Offer, ServedModel
from shipworthy.settings import ServeSettings


class Shelf:
    """A loader over copies of test models in a folder."""

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        self.folder, self.models = folder, models
        self.catalog = Catalog()
        self.switched: list[str] = []
        self.loader = Loader(self.catalog, self.switched.append, ServeSettings(tune=False))

    def model(self, version: int, kind: str = "", **more: object) -> ServedModel:
        path = self.folder / f"{version}.onnx"
        if kind:
            shutil.copy(self.models[kind], path)
        return ServedModel("m", version, path, Target(), **more)

    def serve(self, *models: ServedModel, default: int = 0, **labels: int) -> Change:
        change = self.loader.prepare(Change((Offer(models, default or models[-1].version, labels),)))
        self.loader.commit(change)
        return change


@pytest.fixture
def shelf(tmp_path: Path, models: dict[str, Path]) -> Shelf:
    return Shelf(tmp_path, models)


def test_a_change_is_served_when_it_is_committed_not_before(shelf: Shelf) -> None:
    change = shelf.loader.prepare(Change((Offer((shelf.model(1, "two"), shelf.model(2, "linear")), 1, {"best": 2, "x": 9}),)))
    assert shelf.catalog.names() == []
    shelf.loader.commit(change)
    assert [live.version for live in shelf.catalog.versions("m")] == [1, 2]
    assert shelf.catalog.find("m").version == 1
    assert shelf.catalog.find("m", "best").version == 2
    assert shelf.catalog.labels("m") == {"best": 2}, "a label without its version stands for nothing"
    assert shelf.switched == ["m"]
    shelf.loader.commit(Change(gone=("m", "never there")))
    assert shelf.catalog.names() == []
    assert shelf.switched == ["m", "m", "never there"]
    with pytest.raises(NotFound):
        shelf.catalog.find("m")


def test_a_version_that_has_not_changed_is_kept_and_one_that_has_is_loaded(shelf: Shelf) -> None:
    one, two = shelf.model(1, "two"), shelf.model(2, "two")
    shelf.serve(one, two)
    before = shelf.catalog.versions("m")
    shelf.serve(one, two, default=1, best=1)
    assert [a is b for a, b in zip(before, shelf.catalog.versions("m"), strict=True)] == [True, True]
    assert (shelf.catalog.find("m").version, shelf.catalog.find("m", "best").version) == (1, 1)
    shelf.serve(one, shelf.model(2, "linear"))
    after = shelf.catalog.versions("m")
    assert (after[0] is before[0], after[1] is before[1]) == (True, False)
    (shelf.folder / "1.onnx.data").write_bytes(b"weights beside it")
    shelf.serve(one)
    assert shelf.catalog.find("m") is not before[0]
    assert [live.version for live in shelf.catalog.versions("m")] == [1]


def test_what_cannot_be_loaded_changes_nothing_and_its_reason_is_kept_until_it_can(shelf: Shelf) -> None:
    shelf.serve(shelf.model(1, "two"))
    before = shelf.catalog.find("m")
    (shelf.folder / "2.onnx").write_bytes(b"no model")
    bad = Change((Offer((shelf.model(1), shelf.model(2)), 2),))
    with pytest.raises(Refused, match=r"2\.onnx"):
        shelf.loader.prepare(bad)
    shelf.loader.abort({"m": "not a model"})
    assert shelf.catalog.find("m") is before
    assert shelf.catalog.failures == {"m": "not a model"}
    shelf.serve(shelf.model(1), shelf.model(2, "two"))
    assert shelf.catalog.failures == {}
    assert shelf.catalog.versions("m")[0] is before


def test_others_may_be_put_to_rest_between_the_two_steps(shelf: Shelf) -> None:
    shelf.serve(shelf.model(1, "two"))
    other = Offer((ServedModel("n", 1, shelf.folder / "1.onnx", Target()),), 1)
    change = shelf.loader.prepare(Change((other,)))
    shelf.loader.commit(Change(resting=(Offer((shelf.model(1),), 1),)))
    assert (shelf.catalog.names(), list(shelf.catalog.resting)) == ([], ["m"])
    shelf.loader.commit(change)
    assert (shelf.catalog.names(), list(shelf.catalog.resting)) == (["n"], ["m"])
    assert shelf.switched == ["m", "m", "n"]


def test_what_a_model_takes_is_measured_once_where_memory_is_bounded(shelf: Shelf) -> None:
    (offer,) = shelf.serve(shelf.model(1, "two")).offers
    assert offer.versions[0].memory_bytes == 0
    shelf.loader = Loader(shelf.catalog, shelf.switched.append, ServeSettings(tune=False, memory_mb=1000.0))
    (offer,) = shelf.serve(shelf.model(2, "slow")).offers
    took = offer.versions[0].memory_bytes
    assert took >= (shelf.folder / "2.onnx").stat().st_size > 1e6
    assert shelf.catalog.find("m").memory_bytes == took
    (offer,) = shelf.serve(shelf.model(2)).offers
    assert offer.versions[0].memory_bytes == took, "it is kept"
    (offer,) = shelf.serve(shelf.model(3, "two", memory_bytes=7)).offers
    assert offer.versions[0].memory_bytes == 7, "another worker has measured"


def test_what_was_prepared_and_not_wanted_is_let_go(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[object]] = []
    load = shelf.loader._load

    def watched(model: ServedModel) -> Loaded:
        made = load(model)
        loaded.append(weakref.ref(made.runner))
        return made

    monkeypatch.setattr(shelf.loader, "_load", watched)
    shelf.loader.prepare(Change((Offer((shelf.model(1, "two"),), 1),)))
    assert loaded[0]() is not None
    shelf.loader.abort({})
    assert loaded[0]() is None


def test_a_model_that_never_loaded_says_why_where_it_is_asked_for(shelf: Shelf) -> None:
    shelf.loader.abort({"m": "not a model"})
    with pytest.raises(NotFound) as error:
        shelf.catalog.find("m")
    assert error.value.found == "not a model"


def test_costs_make_the_plan_and_the_owner_bounds_it(shelf: Shelf) -> None:
    shelf.loader.cores, shelf.loader.alone = 2, True
    cost = Cost(row_ms=1.0, batched_rps=10_000.0)
    shelf.serve(
        shelf.model(1, "two", cost=cost),
        shelf.model(2, "two", cost=cost, most_rows=7),
        shelf.model(3, "two", most_rows=900),
        shelf.model(4, "two", most_rows=0),
    )
    plans = [live.batcher.plan for live in shelf.catalog.versions("m")]
    assert [plan.max_rows for plan in plans] == [50, 7, 64, 0]
    assert plans[0].threads == 2


def test_a_run_is_measured_once_where_its_cost_is_not_known(shelf: Shelf) -> None:
    shelf.loader = Loader(shelf.catalog, shelf.switched.append, ServeSettings())
    (offer,) = shelf.serve(shelf.model(1, "two")).offers
    cost = offer.versions[0].cost
    assert cost is not None
    assert 0 < cost.row_ms < 5
    (offer,) = shelf.loader.prepare(Change((Offer((shelf.model(1),), 1),))).offers
    assert offer.versions[0].cost is cost, "what is kept is not measured again"
    given = Cost(3.0, 4.0)
    (offer,) = shelf.serve(shelf.model(2, "two", cost=given)).offers
    assert offer.versions[0].cost is given


@pytest.mark.parametrize("threads", [0, 2])
def test_a_model_that_was_replaced_answers_who_holds_it_and_is_then_freed(shelf: Shelf, threads: int) -> None:
    """Without the garbage collector: memory comes back with the last request, not some time later."""
    shelf.loader.cores, shelf.loader.alone = 2, True
    cost = Cost(row_ms=100.0 if threads else 0.1, batched_rps=1.0)
    shelf.serve(shelf.model(1, "two", cost=cost))

    async def ask(live: Live, answers: list[dict[str, Array]]) -> None:
        def done(outputs: dict[str, Array] | None, error: ShipworthyError | None) -> None:
            assert error is None
            answers.append(outputs or {})

        rows = np.ones((1, 3), np.float32)
        live.submit(Job({"a": rows, "b": rows}, 1, done))
        while not answers:  # noqa: ASYNC110  a job is no coroutine
            await asyncio.sleep(0.001)

    async def change() -> None:
        held = shelf.catalog.find("m")
        assert held.batcher.plan.threads == threads
        gone, answers = weakref.ref(held.runner), []
        await ask(held, answers)
        shelf.serve(shelf.model(1, "linear"))
        assert held is not shelf.catalog.find("m")
        answers.clear()
        await ask(held, answers)
        assert answers[0]["y"].tolist() == [[2, 2, 2]]
        del held
        for _ in range(100):
            if gone() is None:
                break
            await asyncio.sleep(0.01)
        assert gone() is None, gc.get_referrers(gone())

    gc.disable()
    try:
        asyncio.run(change())
    finally:
        gc.enable()
