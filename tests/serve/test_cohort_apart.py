"""Requests that waited together, of which one is wrong, or goes, or is not answered: the others do not feel it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.serve.batcher import Plan
from shipworthy.serve.cohort import Cohort
from shipworthy.serve.fast import FastProtocol
from shipworthy.serve.statistics import REFUSED

from .test_cohort import ASKS, NOTHING, VALUES, Held, Picky, ask, blob, clear, numbers, said, story, turns
from .test_fast import Doubler, Server, bodies, message, post, settle


def bad() -> bytes:
    """As long as ``message(1)``, and of its kind, but for one number that is none."""
    return message(1).replace(b'"data": [1, 2]', b'"data": [1, x]')


def test_one_that_cannot_be_read_does_not_harm_the_others() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        for protocol, body in zip(protocols, (message(1), bad(), message(3)), strict=False):
            protocol.data_received(post(body))
        assert protocols[0].cycle is protocols[1].cycle is protocols[2].cycle
        await turns()
        assert [said(protocol)[9:12] for protocol in protocols[:3]] == [b"200", b"400", b"200"]
        assert b"not a message" in said(protocols[1])
        assert (server.live.statistics.count(REFUSED), server.live.statistics.in_flight) == (1, 0)

    story(play)


def test_who_comes_after_all_others_have_gone_is_answered() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        for sweeps in (False, True):
            gone = server.connect()
            gone.data_received(post(message(0)))
            gone.connection_lost(None)
            if sweeps:
                server.live.batcher._clear(time.monotonic_ns())
            protocols[sweeps].data_received(post(message(4)))
            await turns()
            assert numbers(protocols[sweeps]) == [8, 10]
            assert (
                server.live.statistics.in_flight == server.live.batcher.waiting_rows == server.live.batcher._waiting_bytes == 0
            )
        assert server.live.statistics.cancelled == 2

    story(play)


@pytest.mark.parametrize("behind", ["slow", "in pieces"])
def test_who_has_asked_for_more_behind_a_request_that_goes_its_own_way_is_answered_in_order(behind: str) -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        goes_on, answer = asyncio.Event(), server.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                await goes_on.wait()
            await answer(scope, receive, send)

        first, second = protocols[:2]
        first.app = app
        first.data_received(post(message(1)))
        second.data_received(post(bad()))
        assert first.cycle is second.cycle
        more = post(message(7))
        cut = len(more) if behind == "slow" else len(more) - 10
        first.data_received(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" if behind == "slow" else more[:cut])
        await turns(30)
        first.data_received(more[cut:] or more)
        await turns(30)
        goes_on.set()
        await turns(60)
        answers = [body if body == b"/slow" else json.loads(body)["outputs"][0]["data"] for body in bodies(said(first))]
        assert answers == [[2, 4], *([b"/slow"] if behind == "slow" else []), [14, 16]]

    story(play)


@pytest.mark.parametrize("kind", ["bad neighbour", "no number"])
def test_a_server_that_leaves_closes_also_with_answers_that_go_their_own_way(kind: str) -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        for _ in range(2):
            protocols[0].data_received(blob(1, answer=False))
            await turns()
        clear(protocols)
        asks = [post(message(1)), post(bad())] if kind == "bad neighbour" else [blob(one, answer=False) for one in (1, NOTHING)]
        for protocol, data in zip(protocols, asks, strict=False):
            protocol.data_received(data)
        assert protocols[0].cycle is protocols[1].cycle
        server.lane.leave()
        for protocol in protocols:
            protocol.leave()
        await turns(20)
        for protocol, status in zip(protocols, (b"200", b"400"), strict=False):
            assert said(protocol)[9:12] == status
            assert b"\r\nconnection: close\r\n" in said(protocol)
            assert protocol.transport.is_closing()

    story(play)


class Few(Doubler):
    """Gives one row, whatever it is given."""

    def run(self, inputs: Any) -> dict[str, Any]:
        return {"y": inputs["x"][:1]}


class More(Doubler):
    """Gives a row too many."""

    def run(self, inputs: Any) -> dict[str, Any]:
        return {"y": np.concatenate([inputs["x"], inputs["x"][:1]])}


class Other(Doubler):
    """Gives what nobody asked for."""

    def run(self, inputs: Any) -> dict[str, Any]:
        return {"z": inputs["x"]}


class Breaks(Doubler):
    """Raises what is none of our errors."""

    runs = 0

    def run(self, _inputs: Any) -> dict[str, Any]:
        self.runs += 1
        raise ZeroDivisionError


@pytest.mark.parametrize("runner", [Few, More, Other, Breaks])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_a_model_that_gives_something_else_leaves_nobody_without_an_answer(runner: type[Doubler], beside: bool) -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        server.live.batcher._runs._runner = broken = runner()
        (cohort, *_) = ask(protocols[:4])
        assert isinstance(cohort, Cohort)
        if beside:
            protocols[4].data_received(post(message(1, 2)))
        await turns(30)
        assert all(said(protocol).startswith(b"HTTP/1.1 ") for protocol in protocols[: 5 if beside else 4])
        assert server.live.statistics.in_flight == server.live.batcher.waiting_rows == 0
        if isinstance(broken, Breaks):
            assert broken.runs == 1, "what ends so would end so again"
            assert server.live.statistics.failures == (5 if beside else 4)

    story(play)


def test_whose_callers_go_while_they_wait_for_a_thread_are_not_run() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        server.live.batcher._runs._runner = held = Held()
        ask(protocols)
        server.live.batcher._leave_the_loop()
        await turns()
        assert server.live.batcher.waiting == 4, "one batch is run, one is ahead"
        for protocol in protocols[4:]:
            protocol.connection_lost(None)
        assert server.live.batcher.waiting == 0
        held.goes_on.set()
        await settle(protocols[3], lambda: said(protocols[3]) != b"")
        await turns()
        assert server.live.statistics.cancelled == 4
        assert server.live.statistics.in_flight == server.live.batcher.waiting_rows == 0

    story(play, Plan(max_rows=2))


STEP = st.sampled_from(["ask", "ask", "ask", "ask", "go", "sweep", "turn"])
STEPS = st.lists(st.tuples(STEP, st.integers(0, 7), st.sampled_from(sorted(ASKS)), VALUES), max_size=50)
PLANS = [Plan(), Plan(max_rows=3), Plan(max_rows=1), Plan(queue_rows=6), Plan(max_rows=4, queue_rows=9), Plan(queue_bytes=60)]


@given(STEPS, st.sampled_from(PLANS), st.sampled_from([1000, 2]))
@settings(max_examples=250, deadline=None)
def test_whatever_comes_and_goes_everybody_is_answered_once_and_counted_once(
    steps: list[tuple[str, int, str, float]], plan: Plan, memory_rows: int
) -> None:
    class Small(Picky):
        def run(self, inputs: Any) -> dict[str, Any]:
            if len(inputs["x"]) > memory_rows:
                raise MemoryError
            return super().run(inputs)

    async def play() -> None:
        server = Server(plan)
        for data in [make(value) for make in ASKS.values() for value in (1.5, -2.0)]:
            warm = server.connect()
            warm.data_received(data)
            await settle(warm, lambda: said(warm) != b"")  # noqa: B023
        batcher, statistics = server.live.batcher, server.live.statistics
        batcher._runs._runner = Small()
        before, sent = statistics.ended, 0
        protocols = [server.connect() for _ in range(8)]
        asked: dict[FastProtocol, int] = dict.fromkeys(protocols, 0)
        for step, which, kind, value in steps:
            protocol = protocols[which]
            if step == "ask" and protocol.cycle is None and protocol in asked:
                sent += 1
                asked[protocol] += 1
                protocol.data_received(ASKS[kind](value))
            elif step == "go" and protocol in asked:
                del asked[protocol]
                protocol.transport.close()
                protocol.connection_lost(None)
            elif step == "sweep":
                batcher._clear(time.monotonic_ns())
            elif step == "turn":
                await asyncio.sleep(0)
        await turns(30)
        assert (
            statistics.in_flight
            == batcher.waiting
            == batcher.waiting_rows
            == batcher._waiting_bytes
            == batcher._urgent_rows
            == 0
        )
        assert statistics.ended - before == sent
        for protocol, count in asked.items():
            assert said(protocol).count(b"HTTP/1.1 ") == count

    asyncio.run(play())


def test_one_whose_answer_is_no_number_is_told_so_and_the_others_get_theirs() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        for _ in range(2):
            protocols[0].data_received(blob(1, answer=False))
            await turns()
        clear(protocols)
        for protocol, value in zip(protocols, (1, NOTHING, 3), strict=False):
            protocol.data_received(blob(value, answer=False))
        assert protocols[0].cycle is protocols[2].cycle
        await turns()
        assert [said(protocol)[9:12] for protocol in protocols[:3]] == [b"200", b"400", b"200"]
        assert [numbers(protocols[0]), numbers(protocols[2])] == [[2, 2], [6, 6]]
        assert (server.live.statistics.count(REFUSED), server.live.statistics.in_flight) == (1, 0)

    story(play)
