"""What clients do with HTTP itself: compression, chunks, kept connections."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from shipworthy.testing.conformance.case import Answer, Broken, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.messages import OK, ask, infer, is_refused, same, tensors
from shipworthy.testing.conformance.subject import Subject

TRITON = "Triton's HTTP compression (docs/protocol); tritonclient's request_compression_algorithm"


def _packed(kind: str, pack: Callable[[bytes], bytes]) -> Callable[[Subject], Sequence[Step]]:
    def steps(subject: Subject) -> list[Step]:
        whole = infer(subject)
        return [whole, replace(whole, body=pack(whole.body), headers={**whole.headers, "Content-Encoding": kind})]

    return steps


def _unpacked(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status in {*range(400, 500), 501}:
        raise NotOffered(f"a compressed request: {answers[1]}")
    same(tensors(answers[0]), tensors(answers[1]), "the compressed request is answered as the plain one")


def _asked_packed(kind: str) -> Callable[[Subject], Sequence[Step]]:
    def steps(subject: Subject) -> list[Step]:
        many = ask(subject.values(256) if subject.has_rows else subject.values())
        return [infer(subject, many), infer(subject, many, **{"Accept-Encoding": kind})]

    return steps


def _packed_answer(_subject: Subject, answers: Sequence[Answer]) -> None:
    same(tensors(answers[0]), tensors(answers[1]), "the compressed answer says what the plain one says")
    if answers[0].headers.get("content-encoding", "identity") != "identity":
        raise Broken("a plain answer where no Accept-Encoding was sent", answers[0].headers["content-encoding"])
    if "content-encoding" not in answers[1].headers:
        raise NotOffered("the answer came as it was")


def _broken_gzip(subject: Subject) -> list[Step]:
    whole = infer(subject)
    headers = {**whole.headers, "Content-Encoding": "gzip"}
    return [replace(whole, body=gzip.compress(whole.body, mtime=0)[:-12], headers=headers)]


def _all_same(_subject: Subject, answers: Sequence[Answer]) -> None:
    same(tensors(answers[0]), tensors(answers[1]), "the request in another form is answered as before")


def _chunked(subject: Subject) -> list[Step]:
    return [infer(subject), replace(infer(subject), chunked=True)]


def _after_an_error(subject: Subject) -> list[Step]:
    return [infer(subject), infer(subject, b"{"), infer(subject)]


def _still_answers(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status == OK:
        raise Broken("a refusal of half a JSON object", str(answers[1]))
    same(tensors(answers[0]), tensors(answers[2]), "the connection answers after an error as before")
    if answers[2].reopened:
        raise Broken("a connection that stays, or Connection: close", "closed without a word after the refusal")


GROUP = Group(
    "http",
    "HTTP as clients use it",
    (
        Case("http.after-error", "A connection that carried a refused request answers the next one.",
             "RFC 9112, 9.3; every client that keeps connections", "client", _after_an_error, _still_answers),
        Case("http.chunked", "A request whose body comes in chunks is read.", "RFC 9112, 7.1", "client", _chunked, _all_same),
        Case("http.expect", "A request that expects 100-continue is answered.", "RFC 9110, 10.1.1; curl sends it with 1 MB",
             "client", lambda s: [infer(s), infer(s, Expect="100-continue")], _all_same),
        Case("http.gzip-request", "A request in gzip is read.", TRITON, "extension",
             _packed("gzip", lambda body: gzip.compress(body, mtime=0)), _unpacked),
        Case("http.deflate-request", "A request in deflate is read.", TRITON, "extension",
             _packed("deflate", zlib.compress), _unpacked),
        Case("http.gzip-answer", "An answer comes in gzip when that is asked for.", TRITON, "extension",
             _asked_packed("gzip"), _packed_answer),
        Case("http.deflate-answer", "An answer comes in deflate when that is asked for.", TRITON, "extension",
             _asked_packed("deflate"), _packed_answer),
        Case("http.broken-gzip", "A gzip body that is cut off is refused.", "RFC 1952, 2.3.1", "client",
             _broken_gzip, is_refused),
    ),
)  # fmt: skip
