"""ModelInfer and ModelStreamInfer: requests to jobs, outputs to answers."""

from __future__ import annotations

import time
from collections import deque

from shipworthy.errors import ShipworthyError
from shipworthy.serve import calls
from shipworthy.serve.calls import Call
from shipworthy.serve.catalog import Catalog
from shipworthy.serve.grpc import messages
from shipworthy.serve.grpc.answers import Writer
from shipworthy.serve.grpc.asks import Ask, Reader
from shipworthy.serve.grpc.edges import answered, written
from shipworthy.serve.order import Job
from shipworthy.serve.runs import Share
from shipworthy.serve.statistics import V2_GRPC
from shipworthy.serve.wording import sentence


class Inference:
    """The two methods that run models."""

    def __init__(self, catalog: Catalog) -> None:
        self.reader = Reader(catalog)
        self.writer = Writer()

    def infer(self, call: Call, message: bytes) -> None:
        """ModelInfer: one request, one answer."""
        _One(self, call).begin(message)

    def stream(self, call: Call) -> _Stream:
        """ModelStreamInfer: any number of requests, an answer for each, in their order."""
        return _Stream(self, call)


class _One:
    """One request of ModelInfer on its way."""

    __slots__ = ("_ask", "_call", "_job", "_service")

    def __init__(self, service: Inference, call: Call) -> None:
        self._service = service
        self._call = call

    def begin(self, message: bytes) -> None:
        began_ns = time.monotonic_ns()
        with answered(self._refuse):
            self._ask = ask = self._service.reader.read(message)
            self._job = Job(ask.inputs, ask.rows, self._done, _deadline(self._call, ask), ask.priority, V2_GRPC, began_ns)
            self._call.on_cancel = self._gone
            if self._call.note is not None:
                self._call.note.asked(ask.live, self._job)
            ask.live.submit(self._job)

    def _done(self, outputs: Share | None, error: ShipworthyError | None) -> int | None:
        if outputs is None:
            self._refuse(error)  # type: ignore[arg-type]  # without outputs there is an error
            return None
        return written(lambda: self._call.finish(self._service.writer.write(self._ask, outputs)), self._refuse)

    def _refuse(self, error: ShipworthyError) -> None:
        calls.refuse(self._call, error)

    def _gone(self) -> None:
        self._job.cancelled = True


class _Slot:
    """A request of a stream: its answer once it is there, and what stops it before."""

    __slots__ = ("answer", "job")

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.job: Job | None = None


class _Stream:
    """A stream: what goes wrong with one request is said in its answer, and the stream goes on."""

    def __init__(self, service: Inference, call: Call) -> None:
        self._service = service
        self._call = call
        self._waiting: deque[_Slot] = deque()
        self._half_closed = False
        call.on_cancel = self._gone

    def message(self, message: bytes) -> None:
        """Take the next request."""
        slot, began_ns = _Slot(), time.monotonic_ns()
        self._waiting.append(slot)
        with answered(lambda error: self._answer(slot, _error(error))):
            ask = self._service.reader.read(message)

            def refuse(error: ShipworthyError) -> None:
                self._answer(slot, _error(error, ask))

            def done(outputs: Share | None, error: ShipworthyError | None) -> int | None:
                if outputs is None:
                    refuse(error)  # type: ignore[arg-type]  # without outputs there is an error
                    return None
                return written(lambda: self._answer(slot, _response(self._service.writer.write(ask, outputs), ask)), refuse)

            slot.job = Job(ask.inputs, ask.rows, done, _deadline(self._call, ask), ask.priority, V2_GRPC, began_ns)
            if self._call.note is not None:
                self._call.note.asked(ask.live, slot.job)
            ask.live.submit(slot.job)

    def half_closed(self) -> None:
        """No more requests come; the call ends with the last answer."""
        self._half_closed = True
        self._send()

    def _answer(self, slot: _Slot, answer: bytes) -> None:
        slot.answer = answer
        self._send()

    def _send(self) -> None:
        """Send what is ready, as far as nothing before it is missing."""
        while self._waiting and self._waiting[0].answer is not None:
            self._call.send(self._waiting.popleft().answer)  # type: ignore[arg-type]
        if self._half_closed and not self._waiting:
            self._call.finish()

    def _gone(self) -> None:
        for slot in self._waiting:
            if slot.job:
                slot.job.cancelled = True


def _deadline(call: Call, ask: Ask) -> int:
    """When the caller's patience ends, of ``time.monotonic_ns``, by the call or by the request; 0: never."""
    if not ask.timeout_us:
        return call.deadline_ns
    own = time.monotonic_ns() + 1000 * ask.timeout_us
    return min(own, call.deadline_ns or own)


def _response(answer: bytes, ask: Ask) -> bytes:
    """A ModelStreamInferResponse around a ModelInferResponse; the fields of a message may stand in any order."""
    if ask.final:
        mark = messages.load()["inference.ModelInferResponse"]()
        mark.parameters["triton_final_response"].bool_param = True
        answer += mark.SerializeToString()
    return b"\x12" + messages.varint(len(answer)) + answer


def _error(error: ShipworthyError, ask: Ask | None = None) -> bytes:
    said = messages.load()["inference.ModelStreamInferResponse"](error_message=sentence(error))
    said.infer_response.SetInParent()
    if ask:
        said.infer_response.id = ask.id
        said.infer_response.model_name = ask.live.name
        said.infer_response.model_version = str(ask.live.version)
    return bytes(said.SerializeToString())
