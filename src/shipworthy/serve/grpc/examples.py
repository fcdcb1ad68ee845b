"""tf.Example messages as inputs: each input of the model is a feature of its name, one value or as many as its row has."""

from __future__ import annotations

from typing import Any

import numpy as np

from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import fit
from shipworthy.serve.grpc import fields

_LISTS = {"f": ("float_list", "int64_list"), "i": ("int64_list",), "u": ("int64_list",), "b": ("int64_list",)}


def parse(request: Any, signature: Signature) -> tuple[dict[str, Array], int]:
    """The inputs in an ``Input`` message, and their rows: one an example.

    A feature of the context stands for the same feature in every example.

    Raises:
        Refused: no examples; or a feature is missing, there twice, of the wrong kind, or does not have the values of a row.
    """
    kind = request.WhichOneof("kind")
    listed = getattr(request, kind).examples if kind else []
    if not listed:
        raise Refused("the input has no examples", expected="at least one")
    shared = request.example_list_with_context.context.features.feature
    examples = [example.features.feature for example in listed]
    inputs = {}
    for spec in signature.inputs:
        if not spec.shape or spec.shape[0] is not None:
            raise Refused(f"tensor '{spec.name}' has no free axis of rows", expected="tensors, by Predict", found=str(spec))
        rows = [_row(at, features, shared, spec) for at, features in enumerate(examples)]
        if len({row.shape for row in rows}) > 1:
            raise Refused(f"the examples differ in the values of feature '{spec.name}'", expected=str(spec))
        inputs[spec.name] = np.stack(rows)
    words = {spec.dtype: spec.dtype for spec in signature.inputs}
    entries = [(spec.name, spec.dtype, inputs[spec.name].shape) for spec in signature.inputs]
    return inputs, fit.check(entries, signature, words)


def _row(at: int, features: Any, shared: Any, spec: TensorSpec) -> Array:
    """One row of an input, of the feature in example number ``at`` or in the context."""
    name = spec.name
    if name in features and name in shared:
        raise Refused(f"feature '{name}' stands in the context and in an example", expected="one of them")
    if name not in features and name not in shared:
        raise Refused(f"example {at} lacks the feature '{name}'", expected=str(spec))
    feature = features[name] if name in features else shared[name]
    kind = feature.WhichOneof("kind")
    kinds = ("bytes_list",) if spec.dtype == "str" else _LISTS[np.dtype(spec.dtype).kind]
    if kind not in kinds:
        raise Refused(
            f"example {at}: feature '{name}' is of the wrong kind", found=kind or "no values", expected=" or ".join(kinds)
        )
    values = getattr(feature, kind)
    if spec.dtype == "str":
        flat: Array = np.array(fields.texts(name, values, "value"), dtype=object)
    else:
        flat = _numbers(name, fields.numbers(values, "value"), np.dtype(spec.dtype))
    try:
        return flat.reshape([-1 if n is None else n for n in spec.shape[1:]])
    except ValueError:
        raise Refused(
            f"example {at}: feature '{name}' does not fit the model", found=f"{flat.size} values", expected=f"one row of {spec}"
        ) from None


def _numbers(name: str, values: Array, dtype: np.dtype[Any]) -> Array:
    """Features have floats of 32 bits and integers of 64: what does not fit the input's dtype is refused."""
    if dtype.kind == "b":
        if not np.isin(values, (0, 1)).all():
            raise Refused(f"tensor '{name}': a bool is neither 0 nor 1", expected="0 or 1")
        return values.astype(bool)
    if dtype.kind != "f":
        return fields.narrow(name, values, dtype, dtype.name)
    with np.errstate(over="ignore"):
        narrowed = values.astype(dtype)
    if np.isinf(narrowed).any() and not np.isinf(values).any():
        raise Refused(f"tensor '{name}': a value is too large for {dtype.name}", expected=dtype.name)
    return narrowed
