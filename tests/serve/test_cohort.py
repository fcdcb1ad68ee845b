"""Requests that wait together: each gets what it would get by itself, and counts as it would."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.errors import Failed
from shipworthy.serve.batcher import Plan
from shipworthy.serve.cohort import Cohort
from shipworthy.serve.fast import FastProtocol
from shipworthy.serve.statistics import EXPIRED

from .test_fast import Doubler, Server, bodies, message, post, settle

FAILS, NOTHING = -13, float("nan")


class Picky(Doubler):
    """Says so where it fails."""

    def run(self, inputs: Any) -> dict[str, Any]:
        if (inputs["x"] == FAILS).any():
            raise Failed("the model does not take it")
        return super().run(inputs)


class Held(Doubler):
    """Waits until it may go on; in a thread."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def run(self, inputs: Any) -> dict[str, Any]:
        assert self.goes_on.wait(3)
        return super().run(inputs)


def flat(data: str) -> bytes:
    return f'{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{data}}}]}}'.encode()


def wanting(output: str, value: float) -> bytes:
    return flat(f"[{value},1]")[:-1] + f',"outputs":[{{"name":"{output}"}}]}}'.encode()


def blob(value: float, rows: int = 1, *, answer: bool = True) -> bytes:
    wanted = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]} if answer else {}
    entry = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8 * rows}}
    head = json.dumps({"inputs": [entry]} | wanted).encode()
    data = np.full((rows, 2), value, np.float32).tobytes()
    return post(head + data, f"Inference-Header-Content-Length: {len(head)}")


ASKS: dict[str, Callable[[float], bytes]] = {
    "flat": lambda value: post(message(value)),
    "compact": lambda value: post(flat(f"[{value},1]")),
    "wanted": lambda value: post(wanting("y", value)),
    "wanted, not there": lambda value: post(wanting("q", value)),
    "rows": lambda value: post(message(value, 3)),
    "nested": lambda value: post(flat(f"[[{value}, 1]]")),
    "spaced": lambda value: post(flat(f"[ {value} ,\n 1 ]")),
    "blob": blob,
    "blob, json back": lambda value: blob(value, answer=False),
    "blob, rows": lambda value: blob(value, 2),
    "null": lambda _value: post(flat("[null, 1]")),
    "text": lambda _value: post(flat('["]", 1]')),
    "lends": lambda _value: post(flat("[1],[2]")),
    "nests": lambda _value: post(flat("[1,[2]]")),
    "short": lambda _value: post(flat("[1]")),
    "none": lambda _value: post(flat("[]")),
    "beyond": lambda _value: post(flat("[1e39, 1]")),
    "squeezed": lambda value: post(message(value), "Accept-Encoding: gzip"),
    "squeezed, large": lambda value: post(message(value, 300), "Accept-Encoding: gzip"),
    "id": lambda value: post(message(value)[:-1] + b',"id":"one"}'),
    "urgent": lambda value: post(message(value)[:-1] + b',"parameters":{"priority":1}}'),
}
VALUES = st.sampled_from([0.0, 1.5, -2.0, 7.25, FAILS, NOTHING])


def nothing_waits(server: Server) -> bool:
    batcher = server.live.batcher
    left = batcher.waiting, batcher.waiting_rows, batcher._waiting_bytes, batcher._urgent_rows
    return (server.live.statistics.in_flight, *left) == (0,) * 5


def said(protocol: FastProtocol) -> bytes:
    transport: Any = protocol.transport
    return transport.said  # type: ignore[no-any-return]


def clear(protocols: list[FastProtocol]) -> None:
    for protocol in protocols:
        protocol.transport.said = b""  # type: ignore[attr-defined]


async def together(asks: list[tuple[str, float]], *, joins: bool, plan: Plan) -> tuple[list[bytes], list[int]]:
    """What is answered to requests that come in one turn of the loop, all heads and kinds being known; and how they count."""
    server = Server(plan)
    server.live.batcher._runs._runner = Picky()
    protocols = [server.connect() for _ in asks]
    for data in [make(value) for make in ASKS.values() for value in (1.5, -2.0)]:
        protocol = server.connect()
        protocol.data_received(data)
        await settle(protocol, lambda protocol=protocol: said(protocol) != b"")
    before = list(server.live.statistics.requests)
    for protocol, (kind, value) in zip(protocols, asks, strict=True):
        protocol.joins = joins
        protocol.data_received(ASKS[kind](value))
    for protocol in protocols:
        await settle(protocol, lambda protocol=protocol: said(protocol) != b"")
    assert nothing_waits(server)
    return [said(protocol) for protocol in protocols], [
        after - then for after, then in zip(server.live.statistics.requests, before, strict=True)
    ]


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ASKS)), VALUES), min_size=1, max_size=12),
    st.sampled_from([Plan(), Plan(max_rows=3), Plan(max_rows=1), Plan(threads=1)]),
)
@settings(max_examples=200, deadline=None)
def test_who_waits_with_others_gets_what_it_would_get_alone(asks: list[tuple[str, float]], plan: Plan) -> None:
    answers, counts = asyncio.run(together(asks, joins=True, plan=plan))
    alone, counts_alone = asyncio.run(together(asks, joins=False, plan=plan))
    assert answers == alone
    assert counts == counts_alone


def story(play: Callable[[Server, list[FastProtocol]], Any], plan: Plan | None = None, callers: int = 8) -> None:
    """A server that knows the head and the kind of ``message``, and so many connections."""

    async def begin() -> None:
        server = Server(plan)
        protocols = [server.connect() for _ in range(callers)]
        for _ in range(2):
            protocols[0].data_received(post(message(1)))
            await settle(protocols[0], lambda: said(protocols[0]) != b"")
            clear(protocols)
        await play(server, protocols)

    asyncio.run(begin())


def ask(protocols: list[FastProtocol]) -> list[Cohort]:
    """Have each ask, all in one turn; the cohorts in which they wait."""
    for value, protocol in enumerate(protocols):
        protocol.data_received(post(message(value)))
    return list(dict.fromkeys(protocol.cycle for protocol in protocols))


async def turns(count: int = 8) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def numbers(protocol: FastProtocol) -> list[float]:
    return json.loads(next(bodies(said(protocol))))["outputs"][0]["data"]  # type: ignore[no-any-return]


def test_requests_of_one_turn_wait_as_one_order_and_those_of_the_next_as_another() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        runs = server.live.statistics.batches
        for _ in range(2):
            before = {rows: count for rows, (count, _) in runs.items()}
            (cohort,) = ask(protocols)
            assert isinstance(cohort, Cohort)
            assert (cohort.count, cohort.rows, server.live.batcher.waiting, server.live.batcher.waiting_rows) == (8, 8, 8, 8)
            assert server.live.statistics.in_flight == 8
            await turns()
            assert runs[8][0] == before.get(8, 0) + 1
            assert [numbers(protocol) for protocol in protocols] == [[2 * i, 2 * i + 2] for i in range(8)]
            assert cohort.kind.cohort is None, "what was asked is kept in memory by who may ask again"
            clear(protocols)

    story(play)


def test_a_cohort_is_no_larger_than_a_batch() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        cohorts = ask(protocols)
        assert [cohort.rows for cohort in cohorts] == [3, 3, 2]
        await turns()
        assert [numbers(protocol) for protocol in protocols] == [[2 * i, 2 * i + 2] for i in range(8)]

    story(play, Plan(max_rows=3))


@pytest.mark.parametrize("plan", [Plan(threads=1), Plan(max_rows=0)], ids=["in threads", "never with others"])
def test_there_is_none_where_requests_wait_for_long_or_are_run_alone(plan: Plan) -> None:
    async def play(_server: Server, protocols: list[FastProtocol]) -> None:
        assert not any(isinstance(cycle, Cohort) for cycle in ask(protocols))
        for protocol in protocols:
            await settle(protocol, lambda protocol=protocol: said(protocol) != b"")

    story(play, plan)


def test_who_goes_is_not_run_and_the_others_get_theirs() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        ask(protocols)
        for gone in (2, 5):
            protocols[gone].connection_lost(None)
        assert server.live.batcher.waiting_rows == server.live.batcher.waiting == 6
        await turns()
        assert server.live.statistics.batches[6][0] == 1
        assert server.live.statistics.cancelled == 2
        for i, protocol in enumerate(protocols):
            if i in {2, 5}:
                assert said(protocol) == b""
            else:
                assert numbers(protocol) == [2 * i, 2 * i + 2]
        assert server.live.statistics.in_flight == 0

    story(play)


def test_when_all_have_gone_nothing_is_run() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        runs = sum(count for count, _ in server.live.statistics.batches.values())
        ask(protocols)
        for protocol in protocols:
            protocol.connection_lost(None)
        await turns()
        assert sum(count for count, _ in server.live.statistics.batches.values()) == runs
        assert server.live.statistics.cancelled == 8
        assert server.live.statistics.in_flight == server.live.batcher.waiting_rows == server.live.batcher.waiting == 0
        assert (await_one := protocols[0].cycle) is not None
        assert await_one.count == 0

    story(play)


def test_where_too_much_waits_each_is_refused_by_itself() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        ask(protocols)
        await turns()
        answers = [said(protocol) for protocol in protocols]
        refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
        assert len(refused) == 3
        assert all(b"the queue is full" in answer for answer in refused)
        assert server.live.statistics.rejected == 3
        assert server.live.statistics.successes == 2 + 5
        assert server.live.statistics.in_flight == 0

    story(play, Plan(queue_rows=5))


def test_all_are_told_when_they_have_waited_too_long() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        ask(protocols)
        server.live.batcher._longest_ns = -1
        server.live.batcher._clear(10**18)
        await turns()
        for protocol in protocols:
            assert said(protocol).startswith(b"HTTP/1.1 503 ")
            assert b"passed while it waited" in said(protocol)
            assert protocol.cycle is None
        assert server.live.statistics.count(EXPIRED) == 8
        assert server.live.statistics.in_flight == server.live.batcher.waiting_rows == 0

    story(play)


def test_a_server_that_leaves_closes_with_the_answer() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        ask(protocols)
        server.lane.leave()
        for protocol in protocols:
            protocol.leave()
        await turns()
        for i, protocol in enumerate(protocols):
            assert numbers(protocol) == [2 * i, 2 * i + 2]
            assert b"\r\nconnection: close\r\n" in said(protocol)
            assert protocol.transport.is_closing()

    story(play)


def test_large_answers_of_a_cohort_are_compressed_where_that_is_asked_for() -> None:
    async def play(_server: Server, protocols: list[FastProtocol]) -> None:
        for headers in ((), ("Accept-Encoding: gzip",)):
            for _ in range(2):
                protocols[0].data_received(post(message(1, 300), *headers))
                await turns()
        clear(protocols)
        protocols[0].data_received(post(message(1, 300)))
        protocols[1].data_received(post(message(1, 300), "Accept-Encoding: gzip"))
        assert protocols[0].cycle is protocols[1].cycle
        await turns()
        plain, squeezed = (next(bodies(said(protocol))) for protocol in protocols[:2])
        assert gzip.decompress(squeezed) == plain

    story(play, Plan(max_rows=1000))


def test_what_comes_behind_a_request_that_waits_is_answered_after_it() -> None:
    async def play(_server: Server, protocols: list[FastProtocol]) -> None:
        ask(protocols)
        protocols[3].data_received(post(message(40)))
        await turns(20)
        first, second = bodies(said(protocols[3]))
        assert [json.loads(one)["outputs"][0]["data"] for one in (first, second)] == [[6, 8], [80, 82]]

    story(play)


def test_who_comes_while_a_thread_runs_the_others_waits_for_the_next_batch() -> None:
    async def play(server: Server, protocols: list[FastProtocol]) -> None:
        server.live.batcher._runs._runner = held = Held()
        ask(protocols[:4])
        server.live.batcher._leave_the_loop()  # a run took too long
        await turns()
        assert server.live.batcher.waiting == 0
        ask(protocols[4:])
        held.goes_on.set()
        for i, protocol in enumerate(protocols):
            await settle(protocol, lambda protocol=protocol: said(protocol) != b"")
            assert numbers(protocol) == [2 * (i % 4), 2 * (i % 4) + 2]

    story(play)
