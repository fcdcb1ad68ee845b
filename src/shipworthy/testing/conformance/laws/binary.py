"""The binary tensor data extension: bytes after the JSON, and a header that says where they begin."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace

from shipworthy.testing.conformance.case import Answer, Ask, Broken, Case, Group, NotOffered, Step
from shipworthy.testing.conformance.messages import (
    LENGTH_HEADER,
    OK,
    ask,
    explained,
    infer,
    inferred,
    is_refused,
    same,
    tensors,
    with_bytes,
)
from shipworthy.testing.conformance.subject import NotTried, Subject, to_blob

SPEC = "Triton, extension_binary_data.md"
EXTENSION = "binary_tensor_data"
ALL = {"binary_data_output": True}


def _plainly(subject: Subject) -> Ask:
    """The request that the others are compared with."""
    return infer(subject)


def _alike(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status != OK and EXTENSION not in subject.extensions:
        raise NotOffered(f"a binary input: {answers[1]}")
    same(tensors(answers[0]), tensors(answers[1]), "the answer is that to the JSON request")


def _asked_as_bytes(subject: Subject) -> list[Step]:
    wanted = [{"name": one.name, "parameters": {"binary_data": True}} for one in subject.outputs]
    return [_plainly(subject), infer(subject, ask(subject.values(), outputs=wanted))]


def _all_bytes(_subject: Subject, answers: Sequence[Answer]) -> None:
    said, found = inferred(answers[1])
    textual = [one.name for one in said.outputs if "binary_data_size" not in (one.parameters or {})]
    if textual:
        raise Broken("every output as bytes", f"in JSON: {', '.join(textual)}")
    same(tensors(answers[0]), found, "the answer in bytes is that in JSON")


def _one_as_json(subject: Subject) -> list[Step]:
    wanted = [{"name": one.name, "parameters": {"binary_data": one is not subject.outputs[0]}} for one in subject.outputs]
    return [_plainly(subject), infer(subject, ask(subject.values(), outputs=wanted, parameters=ALL))]


def _first_in_json(subject: Subject, answers: Sequence[Answer]) -> None:
    said, found = inferred(answers[1])
    by_name = {one.name: one for one in said.outputs}
    for one in subject.outputs:
        as_bytes = one.name in by_name and "binary_data_size" in (by_name[one.name].parameters or {})
        if as_bytes is (one is subject.outputs[0]):
            raise Broken(f"only {subject.outputs[0].name} in JSON", f"{one.name} {'as bytes' if as_bytes else 'in JSON'}")
    same(tensors(answers[0]), found, "the answer in bytes is that in JSON")


def _bytes_in(subject: Subject) -> list[Step]:
    if not subject.in_json:
        raise NotTried("the model takes or gives FP16, which has no form in JSON")
    return [with_bytes(subject, subject.values())]


def _no_header(_subject: Subject, answers: Sequence[Answer]) -> None:
    tensors(answers[0])
    said = answers[0].headers.get(LENGTH_HEADER.lower())
    kind = answers[0].headers.get("content-type", "")
    if said is not None or not kind.lower().startswith("application/json"):
        raise Broken(f"application/json and no header {LENGTH_HEADER}", f"{kind}, {LENGTH_HEADER}: {said}")


def _lower_case(subject: Subject) -> list[Step]:
    whole = with_bytes(subject, subject.values())
    return [_plainly(subject), replace(whole, headers={name.lower(): value for name, value in whole.headers.items()})]


def _untyped(subject: Subject) -> list[Step]:
    whole = with_bytes(subject, subject.values())
    return [_plainly(subject), replace(whole, headers={LENGTH_HEADER: whole.headers[LENGTH_HEADER]})]


def _mixed(subject: Subject) -> list[Step]:
    if len(subject.inputs) < 2:  # noqa: PLR2004
        raise NotTried("the model has one input")
    return [_plainly(subject), with_bytes(subject, subject.values(), as_bytes=[subject.inputs[-1].name])]


def _raw(subject: Subject) -> list[Step]:
    if len(subject.inputs) != 1 or sum(n < 0 for n in subject.inputs[0].shape[1:]):
        raise NotTried("a raw body needs one input whose only free dimension is that of the rows")
    (array,) = subject.values().values()
    body = str(array.ravel()[0]).encode() if array.dtype.kind == "O" else to_blob(array)
    if array.dtype.kind == "O" and array.size != 1:
        raise NotTried("a raw body of texts is one text")
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: "0"}
    return [_plainly(subject), Ask("POST", f"{subject.path}/infer", body, headers)]


def _raw_answer(subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status != OK:
        raise NotOffered(f"a raw body: {answers[1]}")
    _all_bytes(subject, answers)


def _gzipped(subject: Subject) -> list[Step]:
    whole = with_bytes(subject, subject.values())
    packed = gzip.compress(whole.body, mtime=0)
    return [_plainly(subject), replace(whole, body=packed, headers={**whole.headers, "Content-Encoding": "gzip"})]


def _gzip_answer(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[1].status in {*range(400, 500), 501}:
        raise NotOffered(f"a compressed request: {answers[1]}")
    same(tensors(answers[0]), tensors(answers[1]), "the length in the header is that before compression")


def _wrong(length: str | None = None, tail: bytes = b"") -> Callable[[Subject], Sequence[Step]]:
    return lambda subject: [with_bytes(subject, subject.values(), tail=tail, length=length)]


def _cut(subject: Subject) -> list[Step]:
    whole = with_bytes(subject, subject.values())
    return [replace(whole, body=whole.body[:-1])]


def _wrong_size(subject: Subject) -> list[Step]:
    """The bytes of two rows (or twice the bytes) for one."""
    first, *others = subject.values().items()
    whole = with_bytes(subject, {first[0]: first[1], **dict(others)})
    size = len(to_blob(first[1]))
    said = f'"binary_data_size": {size}'.encode()
    doubled = whole.body.replace(said, f'"binary_data_size": {2 * size}'.encode(), 1)
    at = int(whole.headers[LENGTH_HEADER]) + len(doubled) - len(whole.body)
    body = doubled[: at + size] + doubled[at : at + size] + doubled[at + size :]
    return [replace(whole, body=body, headers={**whole.headers, LENGTH_HEADER: str(at)})]


def _no_length(subject: Subject) -> list[Step]:
    whole = with_bytes(subject, subject.values())
    return [replace(whole, headers={"Content-Type": "application/octet-stream"})]


_REFUSALS: tuple[tuple[str, str, Callable[[Subject], Sequence[Step]]], ...] = (
    ("length-no-number", "a header that is no number", _wrong(length="many")),
    ("length-negative", "a header below zero", _wrong(length="-1")),
    ("length-too-large", "a header beyond the body", _wrong(length="99999999")),
    ("length-overflow", "a header beyond 64 bits", _wrong(length="9" * 40)),
    ("length-too-small", "a header that cuts the JSON", _wrong(length="5")),
    ("no-length", "bytes after the JSON without a header", _no_length),
    ("left-over", "bytes after the last tensor", _wrong(tail=b"\0\0\0\0")),
    ("cut-off", "a last tensor that is cut off", _cut),
    ("wrong-size", "more bytes than the tensor's shape has", _wrong_size),
)


def _every(subject: Subject) -> list[Step]:
    return [step for *_, steps in _REFUSALS for step in steps(subject)]


def _explained(_subject: Subject, answers: Sequence[Answer]) -> None:
    explained({one[0]: answer for one, answer in zip(_REFUSALS, answers, strict=True)})


GROUP = Group(
    "oip.binary",
    "Binary tensors over REST",
    (
        Case("oip.binary.input", "Inputs as bytes are answered as inputs in JSON are.", SPEC, "extension",
             lambda s: [_plainly(s), with_bytes(s, s.values())], _alike),
        Case("oip.binary.output", "Outputs asked for with binary_data come as bytes, in order, under the header.",
             SPEC, "extension", _asked_as_bytes, _all_bytes),
        Case("oip.binary.all-outputs", "binary_data_output asks for all outputs as bytes.",
             f"{SPEC}; tritonclient sends it when no outputs are named", "extension",
             lambda s: [_plainly(s), infer(s, ask(s.values(), parameters=ALL))], _all_bytes),
        Case("oip.binary.output-wins", "binary_data of an output wins over binary_data_output.", SPEC, "extension",
             _one_as_json, _first_in_json),
        Case("oip.binary.json-stays-json", "Binary inputs alone do not make binary outputs: the answer is JSON, no header.",
             SPEC, "extension", _bytes_in, _no_header),
        Case("oip.binary.header-case", "The name of the header may be in lower case.", "RFC 9110, 5.1; KServe's client does so",
             "extension", _lower_case, _alike),
        Case("oip.binary.no-content-type", "The header alone says that bytes follow: no Content-Type is needed.",
             "tritonclient.http sends none", "extension", _untyped, _alike),
        Case("oip.binary.mixed", "Inputs in JSON and inputs as bytes may stand together.", SPEC, "extension", _mixed, _alike),
        Case("oip.binary.gzip", "With compression, the header counts the JSON before it is compressed.",
             "tritonclient decompresses, then splits", "extension", _gzipped, _gzip_answer),
        Case("oip.binary.raw", "A body without JSON (header 0) is the only input; the outputs come as bytes.", f"{SPEC}: Raw",
             "extension", _raw, _raw_answer),
        *(
            Case(f"oip.binary.{key}", f"Refused: {what}.", SPEC, "extension",
                 steps, is_refused)
            for key, what, steps in _REFUSALS
        ),
        Case("oip.binary.body", 'Every refusal says why: {"error": a text}.',
             "OIP inference_rest.md: Inference Response JSON Error Object", "extension",
             _every, _explained),
    ),
)  # fmt: skip
