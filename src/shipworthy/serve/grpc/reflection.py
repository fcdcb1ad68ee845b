"""Server reflection: the descriptors of our services, for tools that have no .proto files (grpcurl, Postman…)."""

from __future__ import annotations

from typing import Any

from shipworthy.errors import ShipworthyError
from shipworthy.serve import calls
from shipworthy.serve.calls import Call, Status
from shipworthy.serve.grpc import messages
from shipworthy.serve.grpc.edges import answered


class Reflection:
    """One of the two versions of the service: their messages are alike but for the package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def stream(self, call: Call) -> _Stream:
        """ServerReflectionInfo: any number of questions, an answer for each."""
        return _Stream(self._package, call)


class _Stream:
    def __init__(self, package: str, call: Call) -> None:
        self._package = package
        self._call = call

    def message(self, message: bytes) -> None:
        """Answer one question."""
        with answered(self._refuse):
            request = messages.read(messages.load()[f"{self._package}.ServerReflectionRequest"], message)
            answer = messages.load()[f"{self._package}.ServerReflectionResponse"](
                valid_host=request.host, original_request=request
            )
            _fill(answer, request)
            self._call.send(answer.SerializeToString())

    def half_closed(self) -> None:
        """No more questions: every one is answered."""
        self._call.finish()

    def _refuse(self, error: ShipworthyError) -> None:
        calls.refuse(self._call, error)


def _fill(answer: Any, request: Any) -> None:
    known = messages.load()
    asked = request.WhichOneof("message_request")
    if asked == "list_services":
        for name in known.services:
            answer.list_services_response.service.add(name=name)
        return
    file = ""
    if asked == "file_by_filename":
        file = request.file_by_filename
    elif asked == "file_containing_symbol":
        file = _file_of(request.file_containing_symbol)
    if file in known.files:
        answer.file_descriptor_response.file_descriptor_proto.append(known.files[file].SerializeToString())
        return
    unknown = asked is None
    answer.error_response.error_code = Status.INVALID_ARGUMENT if unknown else Status.NOT_FOUND
    answer.error_response.error_message = (
        "the request asks nothing" if unknown else "there is no such file, symbol or extension"
    )


def _file_of(symbol: str) -> str:
    """The file that defines a symbol, or the message or service that the symbol is a part of."""
    symbols = messages.load().symbols
    while symbol and symbol not in symbols:
        symbol = symbol.rpartition(".")[0]
    return symbols.get(symbol, "")
