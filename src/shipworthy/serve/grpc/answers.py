"""ModelInferResponse: the answer to a request, raw if and only if the request was.

A message is the concatenation of its fields: what depends only on the model and on the shapes is written once, by
protobuf, and remembered; the id and the raw tensors are put behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.serve import tensors
from shipworthy.serve.grpc import fields, messages
from shipworthy.serve.grpc.asks import FIELDS, Ask

MOST_SHAPES = 256
_ID_TAG, _RAW_TAG = b"\x1a", b"\x32"


class Writer:
    """Writes the answers of all models."""

    def __init__(self) -> None:
        self._kind = messages.load()["inference.ModelInferResponse"]
        self._known: dict[tuple[object, ...], bytes] = {}

    def write(self, ask: Ask, outputs: Arrays) -> bytes:
        """The message that answers ``ask``.

        Raises:
            Refused: the request was not raw, and an output has no other form (FP16).
        """
        arrays = [outputs[name] for name in ask.outputs]
        if not ask.raw:
            return self._typed(ask, arrays)
        key = (ask.live.name, ask.live.version, ask.outputs, *[(array.dtype, array.shape) for array in arrays])
        head = self._known.get(key)
        if head is None:
            if len(self._known) >= MOST_SHAPES:
                self._known.clear()
            head = self._known[key] = bytes(self._described(ask, arrays).SerializeToString())
        parts = [head]
        if ask.id:
            text = ask.id.encode()
            parts += (_ID_TAG, messages.varint(len(text)), text)
        for name, array in zip(ask.outputs, arrays, strict=True):
            blob = tensors.to_blob(name, array)
            parts += (_RAW_TAG, messages.varint(len(blob)), blob)
        return b"".join(parts)

    def _described(self, ask: Ask, arrays: list[Array]) -> Any:
        answer = self._kind(model_name=ask.live.name, model_version=str(ask.live.version))
        for name, array in zip(ask.outputs, arrays, strict=True):
            answer.outputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        return answer

    def _typed(self, ask: Ask, arrays: list[Array]) -> bytes:
        answer = self._described(ask, arrays)
        answer.id = ask.id
        for tensor, array in zip(answer.outputs, arrays, strict=True):
            if array.dtype == np.float16:
                raise Refused(
                    f"output '{tensor.name}' is FP16, which has no typed contents",
                    expected="a request whose inputs are in raw_input_contents: the answer is then raw too",
                )
            place = FIELDS[tensor.datatype]
            tensor.contents.SetInParent()
            if tensor.datatype == "BYTES":
                fields.write_texts(tensor.name, tensor.contents, place, array)
            else:
                fields.write_numbers(tensor.contents, place, array)
        return bytes(answer.SerializeToString())
