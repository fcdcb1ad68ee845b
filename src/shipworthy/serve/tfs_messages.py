"""The bodies of TensorFlow Serving's REST requests as typed messages, made for the inputs of a model. Pure.

A common body is read in one typed pass. One that fails it and holds a bare ``NaN`` or ``Infinity``, or a text as
``{"b64": …}``, is read again by the standard library, into the same message: so each rule stands once.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from shipworthy.errors import Refused
from shipworthy.records import Signature

SIGNATURE_NAME = "serving_default"

_SCALARS: dict[str, Any] = {"b": bool, "u": int, "i": int, "f": float, "U": str}
_NAME = ("signature_name", str, "")
_Key = tuple[tuple[str, str, int], ...]
_Decoder = msgspec.json.Decoder[Any]


def read_predict(body: bytes, signature: Signature) -> Any:
    """The message of ``predict``: ``instances`` and ``inputs``, each unset or typed for the signature's inputs.

    Objects in it have a field ``f0``, ``f1``… for each input.

    Raises:
        Refused: the body is not such a message.
    """
    return _decode(body, decoder_of_predict(signature), signature)


def decoder_of_predict(signature: Signature) -> msgspec.json.Decoder[Any]:
    """What reads the message of ``predict`` where nothing about it is uncommon.

    Raises:
        Refused: an input's name cannot stand in such a message.
    """
    return _decoders(_key(signature))[0]


def read_examples(body: bytes, signature: Signature) -> Any:
    """The message of ``classify`` and ``regress``: ``examples`` and ``context``, whose fields may each be unset.

    Raises:
        Refused: the body is not such a message.
    """
    return _decode(body, _decoders(_key(signature))[1], signature)


def _key(signature: Signature) -> _Key:
    return tuple((spec.name, spec.dtype, len(spec.shape)) for spec in signature.inputs)


@functools.lru_cache(maxsize=256)
def _decoders(key: _Key) -> tuple[_Decoder, _Decoder]:
    """Decoders of ``predict`` and of ``classify`` and ``regress`` for inputs of these names, dtypes and ranks."""
    scalars = [_SCALARS[np.dtype(dtype).kind] for _, dtype, _ in key]
    whole = [_nested(scalar, rank) for scalar, (_, _, rank) in zip(scalars, key, strict=True)]
    one_row = [_nested(scalar, rank - 1) for scalar, (_, _, rank) in zip(scalars, key, strict=True)]
    names = [name for name, _, _ in key]
    row = _struct("Row", names, one_row, strict=True)
    columns = _struct("Columns", names, whole)  # that server passes over names it does not know here
    example = _struct("Example", names, [_either(kind, _nested(kind, 1), UNSET) for kind in scalars], strict=True)
    instances = _either(one_row[0], row) if len(key) == 1 else row
    inputs = _either(whole[0], columns) if len(key) == 1 else columns
    predict = [_NAME, _optional("instances", _nested(instances, 1)), _optional("inputs", inputs)]
    examples = [_NAME, _optional("context", example), ("examples", _nested(example, 1))]
    return _decoder("Predict", predict), _decoder("Examples", examples)


def _decoder(title: str, fields: list[tuple[Any, ...]]) -> _Decoder:
    return msgspec.json.Decoder(msgspec.defstruct(title, fields, kw_only=True))


def _nested(kind: Any, depth: int) -> Any:
    for _ in range(depth):
        kind = list[kind]
    return kind


def _either(*kinds: Any) -> Any:
    union = kinds[0]
    for kind in kinds[1:]:
        union |= msgspec.UnsetType if kind is UNSET else kind
    return union


def _optional(name: str, kind: Any) -> tuple[str, Any, Any]:
    return (name, _either(kind, UNSET), UNSET)


def _struct(title: str, names: Sequence[str], kinds: Sequence[Any], *, strict: bool = False) -> Any:
    """A struct with a field ``f0``, ``f1``… for each name; one whose kind allows to be unset is optional."""
    fields = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        default = UNSET if msgspec.UnsetType in getattr(kind, "__args__", ()) else msgspec.NODEFAULT
        fields.append((f"f{index}", kind, msgspec.field(name=name, default=default)))
    try:
        return msgspec.defstruct(title, fields, forbid_unknown_fields=strict)
    except ValueError:
        raise Refused(
            "an input of this model has a name that this protocol's messages cannot hold",
            found=", ".join(map(repr, names))[:500],
            next="rename the input, or use the Open Inference Protocol",
        ) from None


def _decode(body: bytes, decoder: _Decoder, signature: Signature) -> Any:
    try:
        try:
            ask = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if not (b"b64" in body or b"NaN" in body or b"Infinity" in body):
                raise
            plain = json.loads(str(body, "utf-8"), object_hook=_text, parse_float=_finite)
            ask = msgspec.convert(plain, decoder.type)
    except (ValueError, RecursionError) as error:  # of Unicode, of JSON, of base64, of msgspec: all are ValueErrors
        raise Refused(
            "the body is not a message that this model takes",
            found=str(error)[:300],
            expected="a JSON object as TensorFlow Serving's REST interface has it, for inputs "
            + "; ".join(map(str, signature.inputs))[:500],
        ) from None
    return ask


def _text(plain: dict[str, Any]) -> Any:
    """An object of JSON; when it stands for a text in base64, that text."""
    if len(plain) != 1 or not isinstance(plain.get("b64"), str):
        return plain
    coded = plain["b64"]
    return str(base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True), "utf-8")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:50]} is out of range")
    return number
