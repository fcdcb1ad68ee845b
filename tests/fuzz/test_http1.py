"""The HTTP lane against raw bytes: however they are cut, whatever they pretend, each answer belongs to its request."""

# ruff: noqa: S311 - chance, not secrets
from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

# What a smuggled request would be answered with: a status, and this name.
SMUGGLED = b"GET /v2/models/smuggled HTTP/1.1\r\nHost: fuzz\r\n\r\n"
PLACE = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: fuzz\r\n"


@dataclass(frozen=True)
class Request:
    """Bytes of a request, and whether an answer is its own."""

    data: bytes
    fits: Callable[[object], bool]
    bodiless: bool = False


def doubled(value: int) -> Callable[[object], bool]:
    def fits(answer) -> bool:
        said = answer.json
        return answer.status == 200 and said["id"] == str(value) and said["outputs"][0]["data"] == [2 * value] * 3

    return fits


def fast(chance, tools):
    value = chance.randrange(10_000)
    more = chance.sample([b"Accept: */*", b"x-request-id:%d" % value, b"USER-AGENT:\t fuzz \t", b"Cookie: a=b"], 2)
    return Request(tools.post("/v2/models/two/infer", tools.pair(value), *more), doubled(value))


def versioned(chance, tools):
    value = chance.randrange(10_000)
    return Request(tools.post("/v2/models/two/versions/3/infer", tools.pair(value)), doubled(value))


def raw(chance, _tools):
    row = np.float32([chance.randrange(1000) for _ in range(3)])
    head = {"inputs": [{"name": n, "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}} for n in "ab"]}
    text = json.dumps(head | {"parameters": {"binary_data_output": True}}).encode()
    body = text + row.tobytes() * 2
    lines = b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(text), len(body))
    return Request(PLACE + lines + body, lambda answer: answer.status == 200 and answer.body.endswith((2 * row).tobytes()))


def rows(chance, tools):
    value = chance.randrange(1000)
    body = json.dumps({"instances": [{"a": [value, 0, 0], "b": [1, 1, 1]}]}).encode()
    return Request(
        tools.post("/v1/models/two:predict", body), lambda answer: answer.json == {"predictions": [[value + 1, 1, 1]]}
    )


def chunked(chance, tools):
    """A body in chunks, with extensions and trailers, after all sorts of heads."""
    value = chance.randrange(10_000)
    body, pieces = tools.pair(value), []
    while body:
        size = chance.choice([1, 2, 15, 16, 17, 100])
        size_line = (b"%X" if chance.random() < 0.5 else b"%04x") % min(size, len(body))
        pieces.append(size_line + chance.choice([b"", b"", b";a", b';a="b c"']) + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    trailers = chance.choice([b"", b"", b"X-Sum: 1\r\n", b"Host: other\r\nContent-Encoding: gzip\r\n"])
    head = (
        chance.choice([b"", b"Expect: 100-continue\r\n", b"Accept-Encoding: gzip;q=0\r\n"]) + b"Transfer-Encoding: chunked\r\n"
    )
    return Request(PLACE + head + b"\r\n" + b"".join(pieces) + b"0\r\n" + trailers + b"\r\n", doubled(value))


def expecting(chance, tools):
    value = chance.randrange(10_000)
    return Request(tools.post("/v2/models/two/infer", tools.pair(value), b"Expect: 100-Continue"), doubled(value))


def packed(chance, tools):
    value = chance.randrange(10_000)
    return Request(
        tools.post("/v2/models/two/infer", gzip.compress(tools.pair(value)), b"Content-Encoding: gzip"), doubled(value)
    )


def anything(_chance, _tools):
    return Request(b"OPTIONS * HTTP/1.1\r\nHost: fuzz\r\n\r\n", lambda answer: answer.status == 404)


def upgrading(chance, _tools):
    more = b"Upgrade: %b\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n" % chance.choice(
        [b"h2c", b"websocket"]
    )
    return Request(
        b"GET /v2/models/two HTTP/1.1\r\nHost: fuzz\r\n" + more + b"\r\n", lambda answer: answer.json["name"] == "two"
    )


def live(chance, _tools):
    line = chance.choice([b"/v2/health/live", b"/v2/health/live?a=/v2/models/two/infer", b"http://fuzz/v2/health/live"])
    return Request(b"GET %b HTTP/1.1\r\nHost: fuzz\r\n\r\n" % line, lambda answer: answer.json == {"live": True})


def spaced(chance, _tools):
    return Request(
        b"\r\n" * chance.randrange(1, 3) + b"GET /v2/models HTTP/1.1\r\nHost: fuzz\r\n\r\n", lambda a: "models" in a.json
    )


def metadata_head(_chance, _tools):
    return Request(b"HEAD /v2/models/two HTTP/1.1\r\nHost: fuzz\r\n\r\n", lambda answer: answer.status == 200, bodiless=True)


def unknown(chance, tools):
    name = f"none{chance.randrange(1000)}"
    return Request(
        tools.post(f"/v2/models/{name}/infer", b"{}"), lambda answer: answer.status == 404 and name in answer.json["error"]
    )


def wrong(chance, tools):
    name = f"input{chance.randrange(1000)}"
    body = tools.pair(1).replace(b'"a"', b'"%b"' % name.encode())
    return Request(
        tools.post("/v2/models/two/infer", body), lambda answer: answer.status == 400 and name in answer.json["error"]
    )


def not_json(chance, tools):
    body = b"{" + SMUGGLED * chance.randrange(3)
    return Request(tools.post("/v2/models/two/infer", body), lambda answer: answer.status == 400)


KINDS = [
    fast, fast, fast, versioned, raw, rows, chunked, chunked, expecting, packed, upgrading, anything, live, spaced,
    metadata_head, unknown, wrong, not_json,
]  # fmt: skip


def cuts(chance: random.Random, size: int) -> tuple[int, ...]:
    return tuple(chance.randrange(size + 1) for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 5])))


def check(wire, requests: list[Request], seed: object) -> None:
    """The answers come in their order, each its request's own."""
    for number, request in enumerate(requests):
        answer = wire.answer(bodiless=request.bodiless)
        where = f"seed {seed}, request {number} of {len(requests)}: {request.data[:300]!r} got {answer}"
        assert answer is not None, where
        try:
            fits = request.fits(answer)
        except (ValueError, KeyError, TypeError):  # no JSON, or of another form
            fits = False
        assert fits, where


def test_pipelines_are_answered_in_order(victim, budget, tools):
    """Any mix of good requests, cut anywhere; then the connection still works, or closes if that was asked."""
    with victim.unharmed():
        for seed in budget.seeds(500):
            chance = random.Random(seed)
            requests = [chance.choice(KINDS)(chance, tools) for _ in range(chance.choice([1, 1, 2, 3, 8]))]
            last = chance.choice([b"", b"", b"close", b"keep-alive"])
            data = b"".join(request.data for request in requests)
            if last:
                data += b"GET /v2/health/live HTTP/1.%d\r\nHost: fuzz\r\nConnection: %b\r\n\r\n" % (chance.random() < 0.7, last)
                ends = last == b"close" or b"HTTP/1.0" in data
                requests.append(Request(b"", lambda answer, ends=ends: answer.closes == ends and answer.json == {"live": True}))
            with victim.wire() as wire:
                wire.send(data, cuts(chance, len(data)))
                check(wire, requests, seed)
                if last and ends:
                    assert wire.answer() is None
                else:
                    wire.send(tools.post("/v2/models/two/infer", tools.pair(seed % 1000)))
                    check(wire, [Request(b"after", doubled(seed % 1000))], seed)


def test_a_pipeline_may_be_cut_at_every_byte(victim, tools):
    chance = random.Random(1)
    requests = [kind(chance, tools) for kind in (fast, chunked, live, raw)]
    data = b"".join(request.data for request in requests)
    with victim.unharmed(), victim.wire() as wire:
        for at in range(1, len(data), 2):
            wire.send(data, (at,), pause=0.0002)
            check(wire, requests, at)
        wire.send(data, tuple(range(1, len(data))), pause=0)
        check(wire, requests, "every byte")


# Heads of which two readers might think differently, or that are no heads. Each must end the connection; in each, a request
# of its own hides where another reader would find one.
def with_body(*lines: bytes, body: bytes = SMUGGLED) -> bytes:
    return PLACE + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


TEN = b"Content-Length: 10"
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n" + SMUGGLED
REFUSED = {
    "length and chunked": with_body(TEN, CHUNKED, body=LAST),
    "chunked and length": with_body(CHUNKED, TEN, body=LAST),
    "chunked and length 0": with_body(CHUNKED, b"Content-Length: 0", body=LAST),
    "two lengths": with_body(TEN, b"Content-Length: 0"),
    "the same length twice": with_body(b"Content-Length: 2", b"Content-Length: 2", body=b"{}" + SMUGGLED),
    "two lengths in one": with_body(b"Content-Length: 0, 0"),
    "length with plus": with_body(b"Content-Length: +0"),
    "length with minus": with_body(b"Content-Length: -0"),
    "length in hex": with_body(b"Content-Length: 0x0"),
    "length with underscore": with_body(b"Content-Length: 0_0"),
    "length with space inside": with_body(b"Content-Length: 0 0"),
    "length of no digits": with_body(b"Content-Length: "),
    "length in other digits": with_body(b"Content-Length: \xd9\xa0"),
    "length beyond 64 bits": with_body(b"Content-Length: 18446744073709551616"),
    "length of many nines": with_body(b"Content-Length: " + b"9" * 5000),
    "length that is a fraction": with_body(b"Content-Length: 0.0"),
    "space before the colon": with_body(b"Content-Length : 0"),
    "tab before the colon": with_body(b"Content-Length\t: 0"),
    "chunked with space before the colon": with_body(b"Transfer-Encoding : chunked", b"Content-Length: 5", body=LAST),
    "folded length": with_body(b"Content-Length:", b" 0"),
    "folded chunked": with_body(b"Transfer-Encoding:", b" chunked", body=LAST),
    "folded value": with_body(b"X: a", b" Content-Length: 9", b"Content-Length: 0"),
    "unknown coding": with_body(b"Transfer-Encoding: cow", body=LAST),
    "chunked, then another": with_body(b"Transfer-Encoding: chunked, identity", body=LAST),
    "identity and length": with_body(b"Transfer-Encoding: identity", b"Content-Length: 0"),
    "xchunked": with_body(b"Transfer-Encoding: xchunked", body=LAST),
    "chunked with vertical tab": with_body(b"Transfer-Encoding: \x0bchunked", body=LAST),
    "quoted chunked": with_body(b'Transfer-Encoding: "chunked"', body=LAST),
    "chunked twice": with_body(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=LAST),
    "no colon": with_body(b"Content-Length 0"),
    "empty name": with_body(b": x", b"Content-Length: 0"),
    "space in a name": with_body(b"Content Length: 0"),
    "NUL in a name": with_body(b"Content-Length\0: 0"),
    "NUL in a value": with_body(b"X: a\0b", b"Content-Length: 0"),
    "CR in a value": with_body(b"X: a\rContent-Length: 9", b"Content-Length: 0"),
    "CR before the colon": with_body(b"Content-Length\r: 0"),
    "LF in a value": PLACE + b"X: a\nContent-Length: 9\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "LF only": PLACE.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + SMUGGLED,
    "LF at the end of the head": PLACE + b"Content-Length: 0\r\n\n" + SMUGGLED,
    "CR only": PLACE + b"Content-Length: 0\r\r" + SMUGGLED,
    "space before the first field": PLACE + b" Content-Length: 0\r\n\r\n" + SMUGGLED,
    "chunk with minus": with_body(CHUNKED, body=b"-1\r\n" + LAST),
    "chunk with plus": with_body(CHUNKED, body=b"+0\r\n" + LAST),
    "chunk in hex with 0x": with_body(CHUNKED, body=b"0x1\r\na\r\n" + LAST),
    "chunk beyond 64 bits": with_body(CHUNKED, body=b"1" + b"0" * 16 + b"\r\na\r\n" + LAST),
    "chunk without a size": with_body(CHUNKED, body=b"\r\n" + LAST),
    "chunk longer than it says": with_body(CHUNKED, body=b"1\r\nab\r\n" + LAST),
    "chunk that ends with LF": with_body(CHUNKED, body=b"1\r\na\n" + LAST),
    "chunk size that ends with LF": with_body(CHUNKED, body=b"1\na\r\n" + LAST),
    "extension that ends with LF": with_body(CHUNKED, body=b"1;\na\r\n" + LAST),
    "extension with CR": with_body(CHUNKED, body=b"1;a\rb\r\na\r\n" + LAST),
    "last chunk with LF": with_body(CHUNKED, body=b"0\n\n" + SMUGGLED),
    "trailer without a colon": with_body(CHUNKED, body=b"0\r\nno colon\r\n\r\n" + SMUGGLED),
    "method with a space": b"PO ST /v2 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "method in small letters": b"get /v2 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "unknown method": b"FROB /v2 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "path with a space": b"GET /v2 /x HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "path with a tab": b"GET /v2\t/x HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "path with NUL": b"GET /v2\0 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "path with CR": b"GET /v2\rX HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "path that is not ASCII": "GET /v2/ä HTTP/1.1\r\nHost: fuzz\r\n\r\n".encode() + SMUGGLED,
    "path without a slash": b"GET v2 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "no path": b"GET HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "URL without a path": b"GET http://fuzz HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "upgrade with a body": with_body(b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: %d" % len(SMUGGLED)),
    "upgrade with chunks": with_body(b"Upgrade: h2c", b"Connection: upgrade", CHUNKED, body=LAST),
    "CONNECT": b"CONNECT fuzz:80 HTTP/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "HTTP/1.2": b"GET /v2 HTTP/1.2\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "HTTP/2.0": b"GET /v2 HTTP/2.0\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "HTTP/11": b"GET /v2 HTTP/11\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "http/1.1": b"GET /v2 http/1.1\r\nHost: fuzz\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /v2\r\n\r\n" + SMUGGLED,
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + SMUGGLED,
    "hello of TLS": bytes.fromhex("16030102000100") + bytes(300) + SMUGGLED,
    "zeros": bytes(100) + SMUGGLED,
}


@pytest.mark.parametrize("before", [0, 2], ids=["alone", "after others"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_two_readers_may_read_differently_is_refused(victim, tools, name, before):
    """The answer is an error and the connection ends: what is hidden behind is never answered, however it is cut."""
    data = REFUSED[name]
    chance = random.Random(name)
    good = [fast(chance, tools), live(chance, tools)][:before]
    for some in ((), (len(data) // 2,), (data.index(SMUGGLED),), cuts(chance, len(data))):
        with victim.wire() as wire:
            for request in good:
                wire.send(request.data)
            check(wire, good, name)
            wire.send(data, some)
            answer = wire.answer()
            assert answer is not None
            assert 400 <= answer.status < 500, answer
            assert answer.closes
            assert b"smuggled" not in answer.body
            assert wire.rest() == b""
            assert list(answer.json) == ["error"]


def test_what_is_refused_leaves_the_server_unharmed(victim):
    with victim.unharmed():
        for data in REFUSED.values():
            for end in (len(data), len(data) // 2):
                with victim.wire() as wire:
                    wire.send(data[:end])


def test_an_error_does_not_overtake_the_answers_before_it(victim, tools):
    """Requests that were whole are answered first, even when what follows them in the same packet is malformed."""
    chance = random.Random(3)
    for kinds in ([fast], [live], [fast, live], [live, fast, chunked], [wrong, fast]):
        requests = [kind(chance, tools) for kind in kinds]
        with victim.wire() as wire:
            wire.send(b"".join(request.data for request in requests) + REFUSED["two lengths"])
            check(wire, requests, kinds)
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 400
            assert wire.rest() == b""


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Some bytes are changed, lost, doubled or swapped for what matters in HTTP."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at, size = chance.randrange(len(out) + 1), chance.choice([1, 1, 2, 10, 100])
        deed = chance.randrange(4)
        if deed == 0:
            out[at : at + 1] = bytes((chance.randrange(256),))
        elif deed == 1:
            del out[at : at + size]
        elif deed == 2:
            out[at:at] = out[at : at + size]
        else:
            out[at : at + 2] = chance.choice(
                [b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"\0", b"\r\n\r\n", b",", b"0", b";", b"\xff"]
            )
    return bytes(out)


def test_mutated_bytes_cost_an_error(victim, budget, tools):
    """Whatever the bytes have become: whole answers, none of them our fault, and an end once the client has ended."""
    with victim.unharmed():
        for seed in budget.seeds(800):
            chance = random.Random(seed)
            data = mutated(chance, b"".join(chance.choice(KINDS)(chance, tools).data for _ in range(chance.choice([1, 2, 3]))))
            with victim.wire() as wire:
                wire.send(data, cuts(chance, len(data)))
                with contextlib.suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_WR)
                said = wire.rest()
            for status in said.split(b"HTTP/1.1 ")[1:]:
                assert status[:1] in b"124", f"seed {seed}: {data!r} got {said!r}"


def test_callers_that_go_early_cost_nothing(victim, tools):
    """After any number of bytes, with a farewell or without."""
    chance = random.Random(5)
    data = b"".join(kind(chance, tools).data for kind in (fast, chunked, expecting, live))
    with victim.unharmed():
        for end in range(0, len(data), 3):
            for abrupt in (False, True):
                with victim.wire() as wire:
                    wire.send(data[:end])
                    if abrupt:
                        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_caller_that_ends_its_half_is_answered_or_left(victim, tools):
    """The end of its half is read as its end: what was asked before it may be answered, in whole or not at all."""
    chance = random.Random(7)
    with victim.unharmed():
        for _ in range(100):
            requests = [chance.choice(KINDS)(chance, tools) for _ in range(3)]
            data = b"".join(request.data for request in requests)
            with victim.wire() as wire:
                wire.send(data[: chance.choice([len(data), len(data) // 2])])
                with contextlib.suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_WR)
                for request in requests:
                    answer = wire.answer(bodiless=request.bodiless)
                    if answer is None:
                        break
                    assert request.fits(answer)
                assert wire.rest() == b""


def endless_field():
    yield b"GET /v2 HTTP/1.1\r\nHost: fuzz\r\nX: "
    while True:
        yield b"x" * 65536


def endless_fields():
    yield b"GET /v2 HTTP/1.1\r\nHost: fuzz\r\n"
    while True:
        yield b"X: y\r\n" * 8000


def endless_path():
    yield b"GET /v2"
    while True:
        yield b"/x" * 32000


def endless_trailers():
    yield PLACE + CHUNKED + b"\r\n\r\n0\r\n"
    while True:
        yield b"X: y\r\n" * 8000


def endless_extension():
    yield PLACE + CHUNKED + b"\r\n\r\n1;"
    while True:
        yield b"x" * 65536


def endless_chunks():
    yield PLACE + CHUNKED + b"\r\n\r\n"
    while True:
        yield b"1\r\nx\r\n" * 10000


@pytest.mark.parametrize(
    "make", [endless_field, endless_fields, endless_path, endless_trailers, endless_extension, endless_chunks]
)
def test_what_never_ends_is_ended(victim, make):
    """No part of a request may go on for ever: the server hangs up soon, and it kept little of it."""
    with victim.unharmed(growth_mb=24), victim.wire() as wire:
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for part in make():
                wire.socket.sendall(part)
                assert time.monotonic() - began < 5, "it goes on and on"


def test_a_heap_of_large_heads_is_refused(victim, tools):
    for size, refused in ((4_000, False), (400_000, True)):
        with victim.wire() as wire:
            wire.send(tools.post("/v2/models/two/infer", tools.pair(4), b"X: " + b"x" * size))
            answer = wire.answer()
            assert answer is not None
            assert answer.status == (431 if refused else 200)
            assert answer.closes == refused


def test_slow_bytes_are_answered(victim, tools):
    chance = random.Random(9)
    with victim.unharmed():
        for kind in (fast, chunked, live):
            request = kind(chance, tools)
            with victim.wire() as wire:
                wire.send(request.data, tuple(range(0, len(request.data), 7)), pause=0.005)
                check(wire, [request], kind)


def test_a_head_is_remembered_only_with_its_own_body(victim, tools):
    """Heads are known again by their bytes, in all connections: nobody can make one mean another's request.

    A request that is refused at once, and in the same packet the head of another whose body is so long that both together
    look like the first head with that body.
    """
    bad = tools.post("/v2/models/two/infer", b"{")
    head, _, _ = bad.rpartition(b"{")
    good = tools.post("/v2/models/two/infer", tools.pair(8))
    length = 5000
    start = b"POST /v1/models/two:predict HTTP/1.1\r\nHost: fuzz\r\nContent-Length: %d\r\n\r\n" % length
    poison = bad + start + b" " * (length - len(b"{") - len(start))
    # What an innocent caller sends: the same head, then other requests, in one packet of that very size.
    filler = b"GET /v2/health/live HTTP/1.1\r\nHost: fuzz\r\nX: %b\r\n\r\n"
    innocent = b"{" + good
    innocent += filler % (b"x" * (length - len(innocent) - len(filler) + 2))
    assert len(innocent) == length
    for _ in range(4):  # whichever worker it is
        with victim.wire() as wire:
            wire.send(poison)
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 400
    for _ in range(4):
        with victim.wire() as wire:
            wire.send(head + innocent)
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 400
            check(wire, [Request(good, doubled(8)), Request(b"live", lambda a: a.json == {"live": True})], "innocent")
