"""Requests that are nearly right: bodies and headers of every REST route, damaged in one place or several."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

LENGTH = b"Inference-Header-Content-Length"
EXAMPLES = 100
SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
)


class Object(list):
    """A JSON object as a list of [name, value], so that a name may stand twice."""


class Entry(list):
    """A name and its value in an ``Object``."""


def plant(value: Any) -> Any:
    """Plain JSON as a tree whose leaves are their text."""
    if isinstance(value, dict):
        return Object(Entry([json.dumps(name).encode(), plant(one)]) for name, one in value.items())
    return [plant(one) for one in value] if isinstance(value, list) else json.dumps(value).encode()


def render(tree: Any) -> bytes:
    if isinstance(tree, Object):
        return b"{" + b",".join(name + b":" + render(value) for name, value in tree) + b"}"
    return b"[" + b",".join(map(render, tree)) + b"]" if isinstance(tree, list) else tree


def places(tree: Any) -> list[tuple[list[Any], int]]:
    """Where something can be changed: a list and an index in it."""
    if isinstance(tree, Object):
        own = [(entry, 1) for entry in tree] + [(tree, at) for at in range(len(tree))]
        return own + [place for _, value in tree for place in places(value)]
    if isinstance(tree, list):
        return [(tree, at) for at in range(len(tree))] + [place for value in tree for place in places(value)]
    return []


@dataclass(frozen=True)
class Ask:
    """A request that is right; ``tail`` follows the JSON, whose length is then announced."""

    path: str
    plain: Any = None
    tail: bytes = b""
    raw: bytes | None = None
    method: str = "POST"
    headers: tuple[bytes, ...] = field(default=())


def tensor(name: str, datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


PAIR = {"id": "a", "inputs": [tensor(name, "FP32", [2, 3], data=[1, 2, 3, 4, 5, 6]) for name in "ab"]}
NESTED = {
    "inputs": [tensor(name, "FP32", [2, 3], data=[[1, 2, 3], [4, 5, 6]]) for name in "ab"],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    "parameters": {"priority": 1, "timeout": 5_000_000},
}
BLOB = {
    "inputs": [tensor(name, "FP32", [2, 3], parameters={"binary_data_size": 24}) for name in "ab"],
    "parameters": {"binary_data_output": True},
}
MANY = {
    "inputs": [
        tensor("in_float32", "FP32", [1, 2], data=[1.5, None]),
        tensor("in_int64", "INT64", [1, 2], data=[-1, 9_007_199_254_740_993]),
        tensor("in_str", "BYTES", [1, 2], data=["ä", ""]),
        tensor("in_float16", "FP16", [1, 2], parameters={"binary_data_size": 4}),
    ],
    "parameters": {"binary_data_output": True},
}
TEXTS = {"inputs": [tensor("t", "BYTES", [2, 1], parameters={"binary_data_size": 10})]}
FREE = {"inputs": [tensor("x", "FP32", [2, 2], data=[[1, 2], [3, 4]])]}
ASKS = [
    Ask("/v2/models/two/infer", PAIR),
    Ask("/v2/models/two/versions/3/infer", NESTED),
    Ask("/v2/models/two/infer", BLOB, bytes(48)),
    Ask("/v2/models/many/infer", MANY, b"\0\x3c\0\xbc"),
    Ask("/v2/models/text/infer", TEXTS, b"\2\0\0\0ab\0\0\0\0"),
    Ask("/v2/models/free/infer", FREE),
    Ask("/v2/models/linear/infer", raw=bytes(32), headers=(LENGTH + b": 0",)),
    Ask("/v2/models/text/infer", raw="ähm".encode(), headers=(LENGTH + b": 0",)),
    Ask("/v1/models/two:predict", {"instances": [{"a": [1, 2, 3], "b": [4, 5, 6]}] * 2}),
    Ask("/v1/models/two/versions/3:predict", {"inputs": {"a": [[1, 2, 3]], "b": [[4, 5, 6]]}, "signature_name": ""}),
    Ask("/v1/models/text:predict", {"instances": [["a"], [{"b64": "YQ=="}]]}),
    Ask("/v1/models/linear:predict", {"instances": [[1, 2, 3, 4.5]], "signature_name": "serving_default"}),
    Ask("/v1/models/linear:classify", {"examples": [{"x": [1, 2, 3, 4]}, {"x": [0, 0, 0, 1e9]}]}),
    Ask("/v1/models/linear:regress", {"context": {"x": [1, 2, 3, 4]}, "examples": [{}]}),
    Ask("/v2/repository/index", {"ready": True}),
    Ask("/v2/repository/models/nobody/load", {"parameters": {"config": "{}"}}),
    Ask("/v2/repository/models/nobody/unload", {"parameters": {"unload_dependents": True}}),
    Ask("/v2/repository/models/spare/load", {"parameters": {"config": "{}"}}),
    Ask("/v2/models/two/versions/3/stats", method="GET"),
    Ask("/v2/models/stats", method="GET"),
    Ask("/v2/models/two/config", method="GET"),
    Ask("/v1/models/two/metadata", method="GET"),
]

JUNK = [
    b"null", b"true", b"-1", b"0", b"-0.0", b"1.5", b"1e999", b"-1e999", b"1e38", b"NaN", b"Infinity", b"-Infinity", b"7" * 400,
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"1e-400", b"0x10", b"1_0", b"-", b"+1", b"01",
    b'""', b'"\\ud800"', b'"\\u0000"', b'"\xff\xfe"', b'"\\x"', b'"' + b"x" * 5000 + b'"', b'"\n"', b"'a'", b"",
    b",", b"\0", b"\xef\xbb\xbf{}", b"[]", b"{}", b"[[]]", b"[null]", b"[1,[2]]", b'{"b64":"AAA"}', b'{"b64":"!!"}',
    b'{"b64":1}',
    b"[" * 3000, b"[" * 2000 + b"]" * 2000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[-1,3]", b"[0,3]", b"[3,0]", b"[2]",
    b"[4294967296,4294967296]", b"[9223372036854775807,2]", b"[2,3,1]", b"[" + b"1," * 40 + b"1]", b"[1e0,3]",
    b'"FP64"', b'"BYTES"', b'"BOOL"', b'"FP16"', b'"fp32"', b'"BF16"', b'"FP32\\u0000"',
]  # fmt: skip
LENGTHS = [b"0", b"1", b"48", b"-1", b"", b"1e3", b"9" * 18, b"9" * 5000, b"\xb2", b"0x1", b"3, 3"]
ENCODINGS = [b"gzip", b"deflate", b"br", b"identity", b"gzip, gzip", b"", b"\xff", b"x-gzip"]
ACCEPTED = [b"gzip;q=nan", b"*;q=0", b"gzip;q=1e9", b"identity;q=0", b";;;=,,,", b"\xe4" * 300]
KINDS = [b"text/html", b"application/json; charset=utf-7", b"", b"\xff/\xff", b"multipart/form-data"]
HEADERS = [
    *(LENGTH + b": " + value for value in LENGTHS),
    *(b"Content-Encoding: " + value for value in ENCODINGS),
    *(b"Accept-Encoding: " + value for value in ACCEPTED),
    *(b"Content-Type: " + value for value in KINDS),
    b"Expect: 100-continue", b"Expect: 200-ok", b"Accept: nothing/at-all", b"Range: bytes=0-1", b"X: " + b"x" * 8000,
    b"Cookie: \x80\x81", b"Traceparent: 00-zz-zz-zz", b"Host: \xff\xff", b"X-Forwarded-For: ::::", b"Origin: null",
]  # fmt: skip
NAMES = [
    "nobody", "", "%00", "%2e%2e", "..", "../two", "two%2f..", "%ff%fe", "tw%6f", "two%20", "ä".encode().decode("latin-1"),
    "{name}", "t" * 3000, "two;a=b", "two?a=b", "two#a", "%", "%zz", "*", "two/versions/99999999999999999999",
    "two/versions/-1",
    "two/versions/0", "two/versions/x", "two/labels/x", "two/versions/%33", "two/versions/3/versions/3",
]  # fmt: skip

leaf = st.one_of(
    st.sampled_from(JUNK),
    st.integers().map(lambda number: b"%d" % number),
    st.floats().map(lambda number: repr(number).encode()),
    st.text(max_size=8).map(lambda text: json.dumps(text).encode()),
)
deeds = st.lists(
    st.tuples(st.integers(0, 63), st.sampled_from(["put", "put", "drop", "twice", "nest", "key"]), leaf), max_size=3
)
body_deeds = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(["cut", "add", "flip", "gzip", "half gzip", "deflate", "bomb", "tail"]), st.integers(0, 4000)),
)


DAMAGE = (
    st.integers(0, len(ASKS) - 1),
    deeds,
    body_deeds,
    st.lists(st.sampled_from(HEADERS), max_size=2),
    st.one_of(st.none(), st.none(), st.none(), st.sampled_from(NAMES)),
    st.sampled_from([None] * 60 + ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PURGE"]),
)


def harm(tree: Any, done: list[tuple[int, str, bytes]]) -> None:
    """Do the deeds to a tree."""
    for number, deed, junk in done:
        found = places(tree)
        if not found:
            return
        where, at = found[number % len(found)]
        if deed == "put" and not isinstance(where, Object):
            where[at] = junk
        elif deed == "drop" and not isinstance(where, Entry):
            del where[at]
        elif deed == "twice" and isinstance(where, Object):
            where.append(Entry(where[at]))
        elif deed == "key" and isinstance(where, Object):
            name = junk if junk[:1] == b'"' else json.dumps(junk.decode("latin-1")).encode()
            where[at] = Entry([name, where[at][1]])
        elif deed == "nest" and not isinstance(where, Object):
            where[at] = [where[at]] * 2


def harm_body(body: bytes, deed: tuple[str, int] | None) -> tuple[bytes, list[bytes]]:
    """A body after a deed, and the headers that go with it."""
    what, number = deed or ("", 0)
    at = number % (len(body) + 1)
    if what == "cut":
        return body[:at], []
    if what == "add":
        return body + bytes(number), []
    if what == "tail":
        return body + b" \n{}"[: number % 5], []
    if what == "flip":
        return body[:at] + bytes((number % 256,)) + body[at + 1 :], []
    if what in {"gzip", "half gzip"}:
        packed = gzip.compress(body)
        return (packed if what == "gzip" else packed[: number % len(packed)]), [b"Content-Encoding: gzip"]
    if what == "deflate":
        return zlib.compress(body), [b"Content-Encoding: deflate"]
    if what == "bomb":
        return gzip.compress(bytes(300 * number), 9), [b"Content-Encoding: gzip"]
    return body, []


def damaged(ask: Ask, done: list[tuple[int, str, bytes]], deed: tuple[str, int] | None) -> tuple[bytes, list[bytes]]:
    """The body of a request after deeds, and the headers that go with it."""
    tree = plant(ask.plain)
    harm(tree, done)
    head = b"" if ask.plain is None else render(tree)
    own = [*ask.headers, *([LENGTH + b": %d" % len(head)] if ask.tail else [])]
    body, more = harm_body(head + ask.tail if ask.raw is None else ask.raw, deed)
    return body, own + more


def judge(answer: Any, body: bytes, method: str) -> None:
    """No damage costs more than an error that says what is wrong."""
    assert answer is not None, "closed without an answer"
    if answer.status == 503:
        assert b"timeout" in body, answer
    else:
        assert answer.status < 500, answer
    if method == "HEAD":
        assert not answer.body
    elif answer.status >= 400:
        assert list(answer.json) == ["error"]
        assert len(answer.json["error"]) > 3
    elif answer.headers["content-type"] == "application/json" and "content-encoding" not in answer.headers:
        json.loads(answer.body, parse_constant=None if b"/v1/" in body else lambda _token: 1 / 0)


def test_damaged_requests_cost_an_error(victim, budget, tools):
    """Each damaged request is followed on its connection by a good one: that is answered right, so no byte was misread."""
    wires = [victim.wire()]

    def send(method: str, path: str, body: bytes, headers: list[bytes]) -> None:
        head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode("latin-1"), b"Host: fuzz", *headers])
        wires[0].send(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = wires[0].answer(bodiless=method == "HEAD")
        judge(answer, path.encode("latin-1") + body, method)
        if answer.closes:
            assert wires[0].answer() is None
            wires.pop().socket.close()
            wires.append(victim.wire())
        wires[0].send(tools.post("/v2/models/two/infer", tools.pair(7)))
        good = wires[0].answer()
        assert good.status == 200
        assert good.json["outputs"][0]["data"] == [14] * 3

    def one(which, done, deed, more, name, method):
        ask = ASKS[which]
        body, own = damaged(ask, done, deed)
        path = ask.path
        if name is not None:
            # The one name here that means a model may be unloaded by it; the others of these requests are asked of that.
            free = "spar%65" if name == "tw%6f" else name
            path = path.replace("models/two", f"models/{name}").replace("nobody", free)
        send(method or ask.method, path, body, own + more)

    try:
        with victim.unharmed():
            for seed in budget.seeds(10, EXAMPLES):
                hypothesis.seed(seed)(SETTINGS(given(*DAMAGE)(one)))()
            wires[0].socket.close()
    finally:
        wires[0].socket.close()


@pytest.mark.parametrize(
    "junk", [b'"\xb7": 1', b'"x": "\xb7"', b'"x": ' + b"[" * 900 + b"]" * 900], ids=["name", "text", "depth"]
)
@pytest.mark.parametrize("plain", [PAIR, FREE, BLOB | {"id": None}], ids=["two", "one", "bytes"])
def test_junk_in_fields_that_nobody_reads_is_no_failure(victim, tools, plain, junk):
    """A request is read as far as it must be; where the next one like it would be recognized, more of it was read."""
    head = render(plant(plain))[:-1] + b"," + junk + b"}"
    path = "/v2/models/free/infer" if plain is FREE else "/v2/models/two/infer"
    body, own = (head + bytes(48), [LENGTH + b": %d" % len(head)]) if "parameters" in plain else (head, [])
    with victim.unharmed(), victim.wire() as wire:
        for _ in range(2):
            wire.send(tools.post(path, body, *own))
            judge(wire.answer(), body, "POST")
