"""The common request in one pass: the same messages as ``oip``, for one model, with everything known beforehand.

A reader is made once for a model version. Clients send the same text again and again but for the numbers in it: what
stands around those is remembered, as bytes, and then only the numbers are read. Whatever is not common (parameters in
JSON, wrong names…) ``oip`` reads in full, or says what is wrong with it: what is refused, and how, stands there alone.
A property test holds the two together.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import fit, oip, tensors
from shipworthy.serve.admission import size_bytes
from shipworthy.serve.kinds import Blobs, Kind, Numbers, Written
from shipworthy.serve.parts import Raw, may_wait
from shipworthy.serve.runs import Share
from shipworthy.serve.statistics import V2_REST
from shipworthy.serve.texts import Frame, read

# Texts that are remembered, and the longest of them.
MOST_TEXTS = 256
LONGEST_TEXT = 2048
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Shapes = tuple[tuple[int, ...], ...]
Layout = list[tuple[str, np.dtype[Any], tuple[int, ...], int, int, bool]]
"""Binary tensors: name, dtype, shape, where they begin and end in the body, and whether they wait as bytes."""
_DATA = b'"data":'
# How deep the first data lies: flat, or nested as the tensor.
_OPENING = re.compile(rb'"data"\s*:\s*(\[[\[\s]*)')


class Form:
    """How a request wants its answer: these outputs, all as JSON or all as bytes; texts are remembered by the shapes."""

    __slots__ = ("binary", "names", "texts")

    def __init__(self, names: tuple[str, ...], *, binary: bool) -> None:
        self.names = names
        self.binary = binary
        self.texts: dict[Shapes, tuple[bytes, int | None]] = {}


class Ask(oip.Request, frozen=True):
    """A common request: its answer has a form."""

    form: Form | None = None


class Around:
    """What stands around the list of numbers of a JSON request with one tensor; ``kind``: where several are read as one."""

    __slots__ = ("_decode", "_dtype", "_frame", "_shape", "ask", "before", "kind", "name", "tail")

    def __init__(self, before: bytes, tail: bytes, spec: TensorSpec, shape: tuple[int, ...], depth: int, ask: Ask) -> None:
        self.before = before
        self.tail = tail
        self._decode = msgspec.json.Decoder(_lists(spec.dtype, depth)).decode
        self.name = spec.name
        self._dtype = spec.dtype
        self._shape = shape
        self._frame: Any = Frame.of(spec.dtype, shape, depth)
        self.ask = ask
        self.kind: Kind | None = None

    def kind_of(self, spec: TensorSpec, write: Callable[[Any, Share, int], Written | None]) -> Kind | None:
        """The kind of such requests; ``None`` where they may differ in more than their rows, or their lists may be ragged."""
        frame = self._frame
        if frame is None or None in spec.shape[1:] or self.ask.form is None:
            return None
        return Numbers(self.before + frame.opening, frame.closing + self.tail, self.ask, write, self.name, frame)

    def read(self, text: bytes) -> Array | None:
        """The numbers of a text; ``None`` when something is wrong with them."""
        if self._frame is not None:
            return read(text, self._frame)
        try:
            values = self._decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return tensors.from_lists(values, self._dtype, self._shape)


class Known(msgspec.Struct):
    """What the JSON of a binary request says; ``size``: of the whole body; ``kind``: where several are read as one."""

    layout: Layout
    size: int
    ask: Ask
    kind: Kind | None


class Quick:
    """Reads and answers the requests of one model version."""

    wire = V2_REST

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        self._name = name
        self._version = version
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}
        self._heads: dict[bytes, Known] = {}
        self._arounds: dict[bytes, Around] = {}
        self._last: Around | None = None
        self._forms: dict[tuple[tuple[str, ...], bool], Form | None] = {}

    def parse(self, body: bytes, header_length: int | None) -> oip.Request:
        """The request in a body; see ``oip.parse``."""
        if header_length is None:
            return self._parse_again(body) or self._parse_json(body) or oip.parse(body, None, self._signature)
        head = body[:header_length]
        known = self._heads.get(head)
        if known is None or len(body) != known.size:
            request = oip.parse(body, header_length, self._signature)
            self._remember_head(head, body, request)
            return request
        inputs: dict[str, Any] = {}
        for name, dtype, shape, at, end, waits in known.layout:
            if waits:
                inputs[name] = Raw(body[at:end], dtype, shape)
            else:
                array = np.frombuffer(body, dtype, (end - at) // dtype.itemsize, at)
                inputs[name] = (array if array.flags.aligned else array.copy()).reshape(shape)
        ask = known.ask
        return Ask(inputs, ask.outputs, None, ask.rows, 0, 0, ask.nbytes, ask.form)

    def kind(self, data: bytes, at: int, header_length: int | None) -> Kind | None:
        """The kind of the request whose body begins in ``data`` at ``at``, if such a one has been read before."""
        if header_length is None:
            around = self._arounds.get(data[at : data.find(b"[", data.find(_DATA, at))])
            return None if around is None else around.kind
        known = self._heads.get(data[at : at + header_length])
        return known.kind if known is not None and len(data) - at == known.size else None

    def answer(self, request: oip.Request, outputs: Share) -> tuple[bytes, int | None]:
        """The body that answers; see ``oip.answer``."""
        made = self._write(request, outputs, 1) if type(request) is Ask and request.form and request.id is None else None
        if made is None:
            return oip.answer(request, self._name, self._version, outputs)
        return made.bodies()[0], made.json_bytes

    def _write(self, request: Any, outputs: Share, count: int) -> Written | None:
        """The answers to so many such requests, whose form is known and which have no id; see ``kinds.Kind``."""
        form = request.form
        columns, shapes = [], []
        for name in form.names:
            parts = outputs.raws(name, count) if form.binary else outputs.texts(name, count)
            if parts is None:
                return None
            columns.append(parts)
            shape = outputs.batch.outputs[name].shape
            shapes.append(outputs[name].shape if count == 1 else (request.rows, *shape[1:]))
        known = form.texts.get(tuple(shapes))
        if known is None:
            known = self._text(request, form, tuple(shapes), outputs if count == 1 else outputs.part(0, request.rows))
        return Written(known[0], columns, known[1])

    def _text(self, request: Ask, form: Form, shapes: Shapes, outputs: Arrays) -> tuple[bytes, int | None]:
        """The body but for its numbers, ``%b`` in the place of each output's; and the length of its JSON before bytes."""
        if form.binary:
            body, length = oip.answer(request, self._name, self._version, outputs)
            text = body[:length].replace(b"%", b"%%") + b"%b" * len(shapes)
        else:
            text, before = b"", b'{"outputs":[{"name":'
            for name, shape in zip(form.names, shapes, strict=True):
                datatype = tensors.DATATYPES[self._outputs[name].dtype].encode()
                quoted, sizes = msgspec.json.encode(name).replace(b"%", b"%%"), ",".join(map(str, shape)).encode()
                text += b'%b%b,"shape":[%b],"datatype":"%b","data":[%%b' % (before, quoted, sizes, datatype)
                before = b']},{"name":'
            said = msgspec.json.encode({"model_name": self._name, "model_version": self._version})
            text, length = text + b"]}]," + said[1:].replace(b"%", b"%%"), None
        _keep(form.texts, shapes, (text, length))
        return text, length

    def _parse_again(self, body: bytes) -> Ask | None:
        """A request whose text around its numbers is known. Saves 5 µs a request of 64 numbers."""
        around = self._last  # mostly the same client again
        if around is None or not body.startswith(around.before):
            start = body.find(b"[", body.find(_DATA))
            around = self._last = self._arounds.get(body[:start]) if 0 < start <= LONGEST_TEXT else None
        if around is None or not body.endswith(around.tail):
            return None
        numbers = around.read(body[len(around.before) : len(body) - len(around.tail)])
        if numbers is None:
            return None
        ask = around.ask
        return Ask({around.name: numbers}, ask.outputs, None, ask.rows, 0, 0, ask.nbytes, ask.form)

    def _parse_json(self, body: bytes) -> Ask | None:
        opening = _OPENING.search(body)
        depth = opening[1].count(b"[") if opening else 0
        decoder = self._decoders.get(depth)
        if decoder is None:
            return None
        try:
            ask = decoder.decode(body)
        except _UNREADABLE:
            return None
        if ask.parameters is not None or len(ask.inputs) != len(self._specs):
            return None
        wanted = self._wanted(ask.outputs)
        if wanted is None:
            return None
        inputs: dict[str, Array] = {}
        rows = None
        for entry in ask.inputs:
            spec = self._specs.get(entry.name)
            if spec is None or entry.parameters is not None or entry.datatype != tensors.DATATYPES[spec.dtype]:
                return None
            if not fit.fits(entry.shape, spec) or min(entry.shape, default=0) < 0:
                return None
            array = tensors.from_lists(entry.data, spec.dtype, entry.shape)
            if array is None:
                return None
            inputs[entry.name] = array
            if spec.shape and spec.shape[0] is None:
                if entry.shape[0] == 0 or (rows is not None and rows != entry.shape[0]):
                    return None
                rows = entry.shape[0]
        if len(inputs) != len(self._specs):
            return None
        request = Ask(inputs, wanted, ask.id, 1 if rows is None else rows, form=self._form(wanted))
        if len(inputs) == 1 and ask.id is None:
            self._remember_around(body, ask.inputs[0], depth, request)
        return request

    def _wanted(self, outputs: list[Any] | None) -> dict[str, bool] | None:
        """The outputs asked for as JSON; ``None`` when there is more to it."""
        if not outputs:
            return dict.fromkeys(self._outputs, False)
        wanted = {one.name: False for one in outputs if one.parameters is None and one.name in self._outputs}
        return wanted if len(wanted) == len(outputs) else None

    def _form(self, wanted: dict[str, bool]) -> Form | None:
        """The form of an answer; ``None`` when some outputs go as JSON and some as bytes, or one is no plain number."""
        names, binary = tuple(wanted), any(wanted.values())
        if binary and not all(wanted.values()):
            return None
        if (names, binary) not in self._forms:
            dtypes = {self._outputs[name].dtype for name in names}
            plain = not dtypes & ({"str"} if binary else {"str", "float16"})
            _keep(self._forms, (names, binary), Form(names, binary=binary) if plain else None)
        return self._forms[names, binary]

    def _remember_around(self, body: bytes, entry: Any, depth: int, request: Ask) -> None:
        """Keep what stands around the numbers of a request that was read, so that the next one is read at a glance.

        That its data stands there, and nowhere else, is tried with another value in its place.
        """
        start = body.find(b"[", body.find(_DATA))
        end = body.find(b"]" * depth, start) + depth
        before, tail = body[:start], body[end:]
        if max(len(before), len(tail)) > LONGEST_TEXT:
            return
        try:
            if msgspec.json.decode(before + b"null" + tail)["inputs"][0]["data"] is not None:
                return
        except (*_UNREADABLE, LookupError, TypeError):
            return
        spec = self._specs[entry.name]
        ask = Ask({}, request.outputs, None, request.rows, nbytes=size_bytes(request.inputs), form=request.form)
        around = Around(before, tail, spec, entry.shape, depth, ask)
        around.kind = around.kind_of(spec, self._write)
        _keep(self._arounds, before, around)

    def _remember_head(self, head: bytes, body: bytes, request: oip.Request) -> None:
        """Keep the layout of a well-formed binary request without an id, so that the next one is read at a glance."""
        if not head or len(head) > LONGEST_TEXT or request.id is not None or request.timeout_us or request.priority:
            return
        try:
            ask = msgspec.json.decode(head)
        except _UNREADABLE:  # in a field that a request does not have: nobody looked there
            return
        layout: Layout = []
        at = len(head)
        for entry in ask["inputs"]:
            size = (entry.get("parameters") or {}).get("binary_data_size")
            spec = self._specs[entry["name"]]
            dtype = spec.dtype
            if size is None or dtype in {"str", "bool"}:  # JSON beside bytes, or bytes that are looked into
                return
            layout.append((entry["name"], np.dtype(dtype), tuple(entry["shape"]), at, at + size, may_wait(spec, size)))
            at += size
        wanted, form = request.outputs, self._form(request.outputs)
        known = Ask({}, wanted, None, request.rows, nbytes=at - len(head), form=form)
        alike = form is not None and all(waits for *_, waits in layout)
        sizes = [(name, dtype, shape, end - begin) for name, dtype, shape, begin, end, _ in layout]
        kind = Blobs(head, known, self._write, sizes) if alike else None
        _keep(self._heads, head, Known(layout, len(body), known, kind))

    @functools.cached_property
    def _decoders(self) -> dict[int, msgspec.json.Decoder[Any]]:
        """Decoders by how deep the data lies, for inputs that are all of one kind of number."""
        ranks, dtypes = {len(spec.shape) for spec in self._signature.inputs}, {spec.dtype for spec in self._signature.inputs}
        if len({np.dtype(dtype).kind for dtype in dtypes}) != 1 or dtypes & {"str", "float16"}:
            return {}
        deepest, dtype = max(1, *ranks) if len(ranks) == 1 else 1, dtypes.pop()
        return {depth: _decoder(_lists(dtype, depth)) for depth in {1, deepest}}


def _keep(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Remember, within bounds."""
    if len(known) >= MOST_TEXTS:
        known.clear()
    known[key] = value


def _lists(dtype: str, depth: int) -> Any:
    values: Any = {"f": float, "i": int, "u": int, "b": bool}[np.dtype(dtype).kind]
    for _ in range(depth):
        values = list[values]
    return values


def _decoder(values: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of requests whose tensors hold such lists."""
    shape: Any = tuple[int, ...]
    parameters: Any = ("parameters", Any, None)
    tensor: Any = msgspec.defstruct(
        "Tensor", [("name", str), ("shape", shape), ("datatype", str), ("data", values), parameters]
    )
    text: Any = str | None
    wanted: Any = msgspec.defstruct("Wanted", [("name", str), parameters])
    outputs: Any = list[wanted] | None
    fields = [("inputs", list[tensor]), ("id", text, None), parameters, ("outputs", outputs, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Ask", fields))
