"""The batcher: everybody gets exactly their own rows, whatever comes together."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.errors import Failed, Refused, ShipworthyError, Unavailable
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import admission
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.order import Job
from shipworthy.serve.statistics import Statistics


class Doubler:
    """y = 2 x; remembers its batches; refuses rows that hold 13; may be slow."""

    def __init__(self, shape: tuple[int | None, ...] = (None, 2), seconds: float = 0.0) -> None:
        self.signature = Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=shape),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=shape),),
        )
        self.batches: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self._seconds = seconds

    def run(self, inputs: Any) -> dict[str, Any]:
        self.batches.append(inputs["x"].shape)
        self.threads.add(threading.get_ident())
        time.sleep(self._seconds)
        if (inputs["x"] == 13).any():
            raise Failed("thirteen")
        return {"y": 2 * inputs["x"]}

    def close(self) -> None: ...


class Client:
    """Submits jobs and keeps what came back."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.answers: dict[int, list[Any]] = {}

    def ask(self, key: int, rows: np.ndarray, **options: int) -> Job:
        self.answers[key] = []

        def done(outputs: dict[str, Any] | None, error: ShipworthyError | None) -> None:
            self.answers[key].append(outputs["y"] if outputs else error)

        job = Job({"x": rows}, len(rows), done, **options)
        self.batcher.submit(job)
        return job

    async def all_answered(self, keys: set[int]) -> None:
        async with asyncio.timeout(10):
            while not all(self.answers[key] for key in keys):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 8),
)
@settings(max_examples=80, deadline=None)
def test_everybody_gets_exactly_their_own_rows(asked: list[tuple[int, int, bool]], threads: int, most: int) -> None:
    runner = Doubler((None, None))

    async def run() -> None:
        # However slow the machine is, nobody is refused here: this is about rows, not about waiting.
        client = Client(Batcher(runner, Plan(max_rows=most, threads=threads, max_wait_ms=0), Statistics()))
        sent = {}
        for key, (rows, width, pause) in enumerate(asked):
            sent[key] = np.random.default_rng(key).random((rows, width)).astype(np.float32)
            client.ask(key, sent[key])
            if pause:
                await asyncio.sleep(0)
        await client.all_answered(set(sent))
        for key, rows in sent.items():
            (answer,) = client.answers[key]
            np.testing.assert_array_equal(answer, 2 * rows, strict=True)
        assert client.batcher.waiting_rows == 0

    asyncio.run(run())
    assert all(rows <= most for rows, _ in runner.batches)
    assert sum(rows for rows, _ in runner.batches) == sum(rows for rows, _, _ in asked)


def together(
    *jobs: np.ndarray, plan: Plan, runner: Doubler, options: dict[int, dict[str, int]] | None = None
) -> tuple[Client, Statistics]:
    """Submit jobs in one turn of the loop and wait for all."""
    statistics = Statistics()

    async def run() -> Client:
        client = Client(Batcher(runner, plan, statistics))
        for key, rows in enumerate(jobs):
            client.ask(key, rows, **(options or {}).get(key, {}))
        await client.all_answered(set(client.answers))
        return client

    return asyncio.run(run()), statistics


def ones(rows: int) -> np.ndarray:
    return np.ones((rows, 2), np.float32)


def test_what_comes_in_one_turn_is_one_batch() -> None:
    runner = Doubler()
    _, statistics = together(*[ones(1)] * 20, plan=Plan(max_rows=64), runner=runner)
    assert runner.batches == [(20, 2)]
    assert (statistics.successes, statistics.rows, statistics.batches[20][0]) == (20, 20, 1)


def test_a_batch_grows_as_long_as_each_turn_brings_more_up_to_the_most_rows() -> None:
    runner = Doubler()

    async def run() -> None:
        client = Client(Batcher(runner, Plan(max_rows=4), Statistics()))
        for key in range(6):
            client.ask(key, ones(1))
            await asyncio.sleep(0)
        await client.all_answered(set(range(6)))

    asyncio.run(run())
    assert runner.batches == [(4, 2), (2, 2)]


def test_one_that_cannot_be_run_takes_no_other_with_it() -> None:
    bad = np.full((1, 2), 13, np.float32)
    client, statistics = together(ones(1), bad, ones(2), plan=Plan(), runner=Doubler())
    assert isinstance(client.answers[1][0], Failed)
    np.testing.assert_array_equal(client.answers[2][0], 2 * ones(2))
    assert (statistics.successes, statistics.failures) == (2, 1)


def test_a_request_larger_than_a_batch_is_run_in_parts() -> None:
    runner = Doubler()
    client, _ = together(ones(10), plan=Plan(max_rows=4), runner=runner)
    assert runner.batches == [(4, 2), (4, 2), (2, 2)]
    assert client.answers[0][0].shape == (10, 2)


def test_without_a_free_first_axis_nothing_is_merged() -> None:
    runner = Doubler((1, 2))
    together(ones(1), ones(1), plan=Plan(), runner=runner)
    assert runner.batches == [(1, 2), (1, 2)]


def test_where_requests_are_to_stay_as_they_are_nothing_is_merged_or_split() -> None:
    runner = Doubler()
    together(ones(1), ones(1), ones(100), plan=Plan(max_rows=0), runner=runner)
    assert runner.batches == [(1, 2), (1, 2), (100, 2)]


def test_the_urgent_come_first() -> None:
    runner = Doubler()
    jobs = [np.full((1, 2), key, np.float32) for key in range(3)]
    order: list[float] = []
    run = runner.run
    runner.run = lambda inputs: order.append(float(inputs["x"][0, 0])) or run(inputs)  # type: ignore[method-assign, func-returns-value]
    together(*jobs, plan=Plan(max_rows=1), runner=runner, options={1: {"priority": 2}, 2: {"priority": 1}})
    assert order == [2, 1, 0]


def test_a_timeout_that_passed_is_told_and_costs_no_run() -> None:
    runner = Doubler()
    client, statistics = together(ones(1), ones(1), plan=Plan(), runner=runner, options={0: {"deadline_ns": 1}})
    assert isinstance(client.answers[0][0], Unavailable)
    assert runner.batches == [(1, 2)]
    assert statistics.expired == 1


def test_who_has_gone_costs_no_run() -> None:
    runner, statistics = Doubler(), Statistics()

    async def run() -> None:
        client = Client(Batcher(runner, Plan(), statistics))
        client.ask(0, ones(3)).cancelled = True
        client.ask(1, ones(1))
        await client.all_answered({1})
        assert client.answers[0] == []
        assert client.batcher.waiting_rows == 0

    asyncio.run(run())
    assert runner.batches == [(1, 2)]
    assert statistics.cancelled == 1


def test_a_full_queue_refuses_at_once() -> None:
    client, statistics = together(*[ones(4)] * 3, plan=Plan(queue_rows=9), runner=Doubler())
    assert [type(client.answers[key][0]) for key in range(3)] == [np.ndarray, np.ndarray, Unavailable]
    assert statistics.rejected == 1


def test_long_runs_use_all_threads_and_leave_the_loop_free() -> None:
    runner = Doubler(seconds=0.1)

    async def run() -> float:
        client = Client(Batcher(runner, Plan(max_rows=1, threads=2), Statistics()))
        start = time.monotonic()
        for key in range(4):
            client.ask(key, ones(1))
        longest = 0.0
        while not all(client.answers.values()):
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)
        assert longest < 0.08
        return time.monotonic() - start

    assert asyncio.run(run()) < 0.35
    assert len(runner.threads) == 2


def test_a_run_that_takes_long_after_all_leaves_the_loop() -> None:
    runner = Doubler(seconds=0.03)

    async def run() -> None:
        client = Client(Batcher(runner, Plan(), Statistics()))
        for key in range(2):
            client.ask(key, ones(1))
            await client.all_answered({key})

    asyncio.run(run())
    assert len(runner.threads) == 2


def test_a_refusal_of_the_runner_is_passed_on() -> None:
    runner = Doubler()

    def refuse(_: Any) -> Any:
        raise Refused("no")

    runner.run = refuse  # type: ignore[method-assign]
    client, _ = together(ones(1), plan=Plan(), runner=runner)
    with pytest.raises(Refused):
        raise client.answers[0][0]


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1_000, 100_000_000)), min_size=1, max_size=60))
def test_limits_follow_the_pace_of_the_runs(runs: list[tuple[int, int]]) -> None:
    batcher = Batcher(Doubler(), Plan(), Statistics())
    for rows, took_ns in runs:
        batcher._pace_is(batcher._pace.after(rows, took_ns))
        assert batcher._pace.is_near(batcher._limited), "limits are in force that were made for another pace"
        longest_ns = admission.longest_ns(batcher._limited, None)
        assert batcher._longest_ns == longest_ns
        assert batcher._easy_rows == admission.easy_rows(batcher._limited, longest_ns, 1, Plan().queue_rows)
