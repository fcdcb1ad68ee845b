"""The fast lane: it answers what the ordinary way answers, whatever came before and however the bytes are cut."""

from __future__ import annotations

import asyncio
import gzip
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from shipworthy.errors import Unavailable
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import oip
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Live
from shipworthy.serve.compression import WORTH_BYTES
from shipworthy.serve.fast import LARGE, FastProtocol
from shipworthy.serve.lane import MOST_HEADS, FastLane
from shipworthy.serve.statistics import Statistics

LIMIT = 100_000


class Doubler:
    """y = 2 x; fails for rows that hold -13."""

    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 2)),),
    )

    def run(self, inputs: Any) -> dict[str, Any]:
        if (inputs["x"] == -13).any():
            raise ZeroDivisionError
        return {"y": 2 * inputs["x"]}

    def close(self) -> None: ...


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.said = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.said += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _name: str) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Server:
    """A lane with one model, and an application that answers any body as the full reader does, or names the path."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.ordinary = 0
        self.lane = FastLane(LIMIT)
        self.config = uvicorn.Config(
            self.app, interface="asgi3", http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False
        )
        self.config.load()
        self.live = self.load(plan or Plan())
        self.lane.show("m", [self.live], self.live)

    @staticmethod
    def load(plan: Plan) -> Live:
        runner, statistics = Doubler(), Statistics()
        return Live("m", 1, "", runner, Batcher(runner, plan, statistics), statistics)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.ordinary += 1
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        if body:
            request = oip.parse(body, None, Doubler.signature)
            body, _ = oip.answer(request, "m", "1", Doubler().run(request.inputs))
        answer = body or scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]})
        await send({"type": "http.response.body", "body": answer})

    def connect(self) -> FastProtocol:
        protocol = FastProtocol(self.lane, self.config, ServerState(), asyncio.get_running_loop())
        protocol.connection_made(Transport())  # type: ignore[arg-type]
        return protocol


def message(value: float, rows: int = 1) -> bytes:
    data = [value + i for i in range(2 * rows)]
    return json.dumps({"inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data}]}).encode()


def post(body: bytes, *headers: str, path: str = "/v2/models/m/infer") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def bodies(said: bytes) -> Iterator[bytes]:
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK"), head + rest
        (length,) = (int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        yield rest[:length]
        said = rest[length:]


async def settle(protocol: FastProtocol, done: Callable[[], bool]) -> bytes:
    async with asyncio.timeout(3):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0)
    return protocol.transport.said  # type: ignore[attr-defined, no-any-return]


async def asked(protocol: FastProtocol, data: bytes) -> bytes:
    """What one request is answered."""
    transport: Any = protocol.transport
    transport.said = b""
    protocol.data_received(data)
    return await settle(protocol, lambda: transport.said != b"")


def run(story: Callable[[Server], Any], plan: Plan | None = None) -> None:
    async def begin() -> None:
        await story(Server(plan))

    asyncio.run(begin())


def test_a_head_that_is_known_is_answered_without_the_parser() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        first = await asked(protocol, post(message(1)))
        other = server.connect()
        other.parser = None  # type: ignore[assignment]
        assert await asked(other, post(message(1))) == first
        assert json.loads(next(bodies(await asked(other, post(message(5))))))["outputs"][0]["data"] == [10, 12]
        assert server.ordinary == 0

    run(story)


def test_a_head_is_known_whatever_trace_its_caller_is_in() -> None:
    trace, state = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e473{}-00f067aa0ba902b7-01", "Tracestate: a={}"

    async def story(server: Server) -> None:
        first = await asked(server.connect(), post(message(1), trace.format(1), state.format(1)))
        known = set(server.lane.heads)
        assert len(known) == 1
        other = server.connect()
        other.parser = None  # type: ignore[assignment]
        for headers in ([trace.format(2)], [state.format(3), trace.format(2)], []):
            assert await asked(other, post(message(1), *headers)) == first
        await asked(server.connect(), post(message(1), trace.format(1), trace.format(2)))
        await asked(server.connect(), post(message(1), "TRACEPARENT: 1"))
        assert set(server.lane.heads) == known
        assert server.ordinary == 0

    run(story)


def test_a_known_head_with_a_body_in_pieces_or_with_more_behind_it() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        transport: Any = protocol.transport
        for lines in (b"", b"\r\n", b"\r\n\r\n"):
            await asked(protocol, lines + post(message(1)))
        transport.said = b""
        both = post(message(3)) + post(message(4))
        cut = both.index(b"data")
        for start, end in ((0, cut), (cut, len(both))):
            protocol.data_received(both[start:end])
        said = await settle(protocol, lambda: transport.said.count(b"HTTP/1.1 200 OK") == 2)
        assert [json.loads(body)["outputs"][0]["data"] for body in bodies(said)] == [[6, 8], [8, 10]]
        transport.said = b""
        protocol.data_received(both)
        assert await settle(protocol, lambda: transport.said.count(b"HTTP/1.1 200 OK") == 2) == said
        assert all(text.lstrip().startswith(b"POST") for text in server.lane.heads)

    run(story)


def test_a_known_head_within_another_request_is_none() -> None:
    async def story(server: Server) -> None:
        await asked(server.connect(), post(message(1)))
        protocol = server.connect()
        protocol.data_received(b"POST /other HTTP/1.1\r\nX-Text: ")
        assert next(bodies(await asked(protocol, post(message(1)))))
        assert server.ordinary == 1

    run(story)


KINDS = {
    "json": lambda value: post(message(value)),
    "other length": lambda value: post(message(value, 3)),
    "header": lambda value: post(message(value), "X-Trace: 1"),
    "trace": lambda value: post(message(value), f"traceparent: {value}", "tracestate: a"),
    "ordinary": lambda value: chunked(message(value)),
    "get": lambda _value: b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n",
    "line before": lambda value: b"\r\n" + post(message(value)),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 9)), min_size=1, max_size=12),
    st.lists(st.integers(0, 4000), max_size=20),
    st.lists(st.booleans(), min_size=1, max_size=10),
)
@settings(max_examples=150, deadline=None)
def test_answers_are_right_and_in_order_however_the_bytes_are_cut(
    asks: list[tuple[str, int]], cuts: list[int], pauses: list[bool]
) -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        sent = [KINDS[kind](value) for kind, value in asks]
        data = b"".join(sent)
        at = [0]
        for part in sent[:-1]:  # requests that come alone, and pieces cut anywhere
            at.append(at[-1] + len(part))
        edges = sorted({edge for edge in [*at[:: 1 + len(cuts) % 3], *cuts, len(data)] if edge <= len(data)} - {0})
        for i, (start, end) in enumerate(zip([0, *edges], edges, strict=False)):
            protocol.data_received(data[start:end])
            for _ in range(6 if pauses[i % len(pauses)] else 0):
                await asyncio.sleep(0)
        transport: Any = protocol.transport
        said = await settle(protocol, lambda: transport.said.count(b"HTTP/1.1 200 OK") == len(asks))
        for (kind, value), body in zip(asks, bodies(said), strict=True):
            rows = 3 if kind == "other length" else 1
            expected = [2 * (value + i) for i in range(2 * rows)]
            assert body == b"/v2" if kind == "get" else json.loads(body)["outputs"][0]["data"] == expected

    run(story)


@pytest.mark.parametrize("plan", [Plan(max_rows=1, threads=2), Plan(max_rows=2)], ids=["threads", "small batches"])
def test_many_connections_each_get_their_own(plan: Plan) -> None:
    async def story(server: Server) -> None:
        protocols = [server.connect() for _ in range(20)]
        for value, protocol in enumerate(protocols):
            protocol.data_received(post(message(value)))
        for value, protocol in enumerate(protocols):
            transport: Any = protocol.transport
            said = await settle(protocol, lambda transport=transport: transport.said != b"")
            assert json.loads(next(bodies(said)))["outputs"][0]["data"] == [2 * value, 2 * value + 2]

    run(story, plan)


def test_what_is_shown_no_more_goes_the_ordinary_way_and_is_held_by_nobody() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        for _ in range(2):
            await asked(protocol, post(message(1)))
        old = weakref.ref(server.live)
        fresh = server.load(Plan())
        server.lane.show("other", [], None)
        server.lane.show("m", [fresh], None)
        del server.live
        assert old() is None, "an idle connection holds the model that it asked last"
        assert next(bodies(await asked(protocol, post(message(1)))))
        assert server.ordinary == 1
        assert next(bodies(await asked(protocol, post(message(1), path="/v2/models/m/versions/1/infer"))))
        assert server.ordinary == 1
        server.lane.show("m", [], None)
        assert next(bodies(await asked(protocol, post(message(1), path="/v2/models/m/versions/1/infer"))))
        assert server.ordinary == 2

    run(story)


@pytest.mark.parametrize(
    ("asked_for", "given_back"), [("gzip", True), ("deflate;q=0, gzip;q=0.5", True), ("identity", False), ("br", False)]
)
def test_a_large_answer_is_compressed_when_that_is_asked_for(asked_for: str, given_back: bool) -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        for _ in range(2):  # the second time by a head that is known
            said = await asked(protocol, post(message(1, WORTH_BYTES), f"Accept-Encoding: {asked_for}"))
            body = next(bodies(said))
            assert (b"content-encoding: gzip\r\n" in said) == given_back
            plain = gzip.decompress(body) if given_back else body
            assert len(json.loads(plain)["outputs"][0]["data"]) == 2 * WORTH_BYTES
            small = await asked(protocol, post(message(1), f"Accept-Encoding: {asked_for}"))
            assert b"content-encoding" not in small
        assert server.ordinary == 0

    run(story)


def test_errors_are_told_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        for _ in range(2):
            assert (await asked(protocol, post(b'{"inputs": []}'))).startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert (await asked(protocol, post(message(-13)))).startswith(b"HTTP/1.1 500 ")
            assert next(bodies(await asked(protocol, post(message(1)))))
        server.live.quick.parse = None  # type: ignore[assignment, method-assign]
        assert (await asked(protocol, post(b" " + message(1)))).startswith(b"HTTP/1.1 500 ")

    run(story)
    assert "could not be answered" in caplog.text


def test_who_goes_is_not_answered() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        transport: Any = protocol.transport
        protocol.data_received(post(message(1)))
        protocol.connection_lost(None)
        for _ in range(6):
            await asyncio.sleep(0)
        assert transport.said == b""
        assert server.live.statistics.cancelled == 1

    run(story)


def test_a_connection_that_is_to_be_closed_is_and_its_head_is_not_remembered() -> None:
    async def story(server: Server) -> None:
        for _ in range(2):
            protocol = server.connect()
            transport: Any = protocol.transport
            assert b"\r\nconnection: close\r\n" in await asked(protocol, post(message(1), "Connection: close"))
            assert transport.closed
        assert not server.lane.heads

    run(story)


def test_heads_are_remembered_within_bounds() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        for i in range(MOST_HEADS + 10):
            await asked(protocol, post(message(1), f"X-Trace: {i}"))
        assert 0 < len(server.lane.heads) <= MOST_HEADS
        await asked(protocol, post(message(1), f"X-Trace: {'a' * 4000}"))
        assert max(map(len, server.lane.heads)) < 200
        assert (await asked(protocol, post(b"x" * (LIMIT + 1)))).startswith(b"HTTP/1.1 ")
        assert server.ordinary == 1

    run(story)


@pytest.mark.parametrize(
    ("data", "has_body"),
    [
        (b"HEAD /\x7f HTTP/1.1\r\nhost: a\r\n\r\n", False),
        (b"GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n", True),
        (b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\nGET /\x7f HTTP/1.1\r\n\r\n", True),
    ],
    ids=["HEAD", "GET", "GET behind a HEAD"],
)
def test_what_is_wrong_with_a_head_request_is_told_without_a_body(data: bytes, has_body: bool) -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        protocol.data_received(data)
        transport: Any = protocol.transport
        said = await settle(protocol, lambda: b" 400 " in transport.said)
        head, _, body = said[said.index(b"HTTP/1.1 400 ") :].partition(b"\r\n\r\n")
        assert b"content-length: " in head
        assert bool(body) is has_body

    run(story)


def test_tensorflow_serving_is_answered_in_the_lane() -> None:
    async def story(server: Server) -> None:
        protocol = server.connect()
        for path in ("/v1/models/m:predict", "/v1/models/m/versions/1:predict"):
            for value in (1, 2):
                rows = json.dumps({"instances": [[value, 2], [3, 4]]}).encode()
                said = json.loads(next(bodies(await asked(protocol, post(rows, path=path)))))
                assert said == {"predictions": [[2 * value, 4], [6, 8]]}
                columns = json.dumps({"inputs": {"x": [[value, 2]]}}).encode()
                assert json.loads(next(bodies(await asked(protocol, post(columns, path=path))))) == {
                    "outputs": [[2 * value, 4]]
                }
            refused = await asked(protocol, post(b'{"instances": [[1, "a"]]}', path=path))
            assert refused.startswith(b"HTTP/1.1 400 ")
        assert server.ordinary == 0

    run(story)


def test_a_large_body_is_not_read_when_its_model_is_overloaded_unless_it_may_have_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(server: Server) -> None:
        parsed: list[int] = []
        parse = server.live.quick.parse

        def read(body: bytes, header_length: int | None) -> Any:
            parsed.append(len(body))
            return parse(body, header_length)

        monkeypatch.setattr(server.live.quick, "parse", read)
        busy = Unavailable("the answer would come too late", retry_after_seconds=3)
        monkeypatch.setattr(server.live.batcher, "overloaded", lambda _: busy)
        large, small = message(1, rows=LARGE // 4), message(1)
        urgent = large[:-1] + b', "parameters": {"priority": 1}}'
        protocol = server.connect()
        for _ in range(2):  # with the parser, and by the head that is known then
            said = await asked(protocol, post(large))
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 3\r\n" in said
            assert b"too late" in said
        assert parsed == []
        for body in (small, urgent):
            assert (await asked(protocol, post(body))).startswith(b"HTTP/1.1 200 ")
        assert parsed == [len(small), len(urgent)]

    run(story)
