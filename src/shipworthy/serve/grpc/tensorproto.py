"""TensorFlow's TensorProto as arrays, both ways.

Both of its forms are read: the bytes of the tensor (``tensor_content``), or its values one by one, where the last one
stands for all that follow. Answers are bytes, but for texts.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.serve import tensors
from shipworthy.serve.grpc import fields, messages
from shipworthy.serve.tfs import DATATYPES

PLACES = {
    "bool": "bool_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "float16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "str": "string_val",
}
# A few bytes can ask for a tensor of any size, by repetition: not beyond what a request may weigh.
MOST_BYTES = 64_000_000
_TEXT_BYTES = 8  # of a reference to a text


@functools.cache
def numbers() -> dict[str, int]:
    """Dtype to TensorFlow's number for it."""
    values = messages.load()["tensorflow.TensorProto"].DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_name
    return {dtype: values[word].number for dtype, word in DATATYPES.items()}


def shape_of(name: str, proto: Any) -> tuple[int, ...]:
    """The shape of a tensor.

    Raises:
        Refused: the shape is not known; a dimension below 0 is found later, where the shape is compared.
    """
    if proto.tensor_shape.unknown_rank:
        raise Refused(f"tensor '{name}' has no shape", found="unknown_rank", expected="tensor_shape with all dimensions")
    return tuple(dim.size for dim in proto.tensor_shape.dim)


def to_array(name: str, proto: Any, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array of ``dtype`` and ``shape``, which are those that the tensor announces.

    Raises:
        Refused: the values are not as many as the shape says, out of range, not UTF-8, or in the wrong place.
    """
    place = PLACES[dtype]
    found = [field.name for field, _ in proto.ListFields() if field.name == "tensor_content" or field.name.endswith("_val")]
    expected = f"its values in {place}" if dtype == "str" else f"its bytes in tensor_content, or its values in {place}"
    if found not in ([], [place], ["tensor_content"]) or (dtype == "str" and "tensor_content" in found):
        raise Refused(f"tensor '{name}': {DATATYPES[dtype]} is in the wrong place", found=", ".join(found), expected=expected)
    if found == ["tensor_content"]:
        return tensors.from_blob(name, tensors.DATATYPES[dtype], shape, memoryview(proto.tensor_content))
    needed, count = math.prod(shape), len(getattr(proto, place))
    if count > needed or (needed and not count):
        raise Refused(
            f"tensor '{name}': the values do not fit the shape",
            found=f"{count} values in {place}",
            expected=f"{needed} for {list(shape)}; fewer when the last one stands for all that follow",
        )
    values = _values(name, proto, dtype, place)
    if needed > count and needed * (_TEXT_BYTES if dtype == "str" else values.itemsize) > MOST_BYTES:
        raise Refused(
            f"tensor '{name}' repeats a value too often",
            found=f"{count} values for {needed}",
            expected=f"at most {MOST_BYTES} bytes",
        )
    if needed > count:
        values = np.concatenate([values, np.repeat(values[-1:], needed - count)])
    return fields.shaped(name, values, shape)


def from_array(name: str, array: Array) -> Any:
    """The TensorProto of an output.

    Raises:
        Refused: a text has no UTF-8.
    """
    proto = messages.load()["tensorflow.TensorProto"]()
    dtype = "str" if array.dtype.kind in "OU" else array.dtype.name
    proto.dtype = numbers()[dtype]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if not array.shape:
        proto.tensor_shape.SetInParent()
    if dtype == "str":
        fields.write_texts(name, proto, "string_val", array)
    else:
        proto.tensor_content = tensors.to_blob(name, array)
    return proto


def _values(name: str, proto: Any, dtype: str, place: str) -> Array:
    if dtype == "str":
        return np.array(fields.texts(name, proto, place), dtype=object)
    values = fields.numbers(proto, place)
    kind = np.dtype("uint16" if dtype == "float16" else dtype)  # a half stands as the number that its bits are
    return fields.narrow(name, values, kind, DATATYPES[dtype]).view(np.dtype(dtype))
