"""Area ``signature`` of a file that nobody has loaded: its inputs and outputs are ones that a protocol can carry."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

import onnx

from shipworthy.backends.onnxruntime import DTYPES
from shipworthy.check.intake import read_proto
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.errors import Refused
from shipworthy.records import Finding

CARRIED = sorted(set(DTYPES.values()))

DTYPE = Law(
    name="signature.dtype",
    severity="error",
    holds="inputs and outputs are tensors of types that the protocols carry: " + ", ".join(CARRIED),
    breaks="no client can send them or get them",
    mend="cast at the borders of the model, and export with plain tensors (scikit-learn: options={'zipmap': False})",
)
NAME = Law(
    name="signature.name",
    severity="error",
    holds="every input and output has a name in plain UTF-8",
    breaks="JSON and gRPC cannot write the name, so no client can send the input",
    mend="rename it before the export (torch: input_names, output_names)",
)
DUPLICATE = Law(
    name="signature.duplicate",
    severity="error",
    holds="no two inputs, and no two outputs, have the same name",
    breaks="runtimes refuse the model, or clients see one of the two",
    mend="rename them before the export (torch: input_names, output_names)",
)
LAWS = (DTYPE, NAME, DUPLICATE)


def look(origin: Origin) -> Iterator[Finding]:
    """Names and types of what callers give and get."""
    if origin.path.suffix != ".onnx":
        return
    try:
        graph = read_proto(origin.path, origin.named).graph
    except Refused:
        return  # area format says what is wrong with it
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    for kind, values in (("input", inputs), ("output", [*graph.output])):
        for name, count in Counter(one.name for one in values).items():
            yield from _named(kind, name)
            if count > 1:
                yield DUPLICATE.found(
                    f"{kind} {name!r}", f"{count} {kind}s have this name", severity="error" if kind == "input" else "warning"
                )
        for value in values:
            if said := _foreign(value.type):
                yield DTYPE.found(f"{kind} {value.name!r}", f"{said}, which no protocol carries here")


def _named(kind: str, name: str | bytes) -> Iterator[Finding]:
    if isinstance(name, bytes):  # what protobuf gives where the bytes are not UTF-8
        yield NAME.found(f"{kind} {name!r}", "its name is not UTF-8")
    elif not name:
        yield NAME.found(f"{kind} ''", "it has no name")
    elif any(unicodedata.category(letter) == "Cc" for letter in name):
        evidence = "its name has control characters: clients must escape them, and logs and terminals are garbled"
        yield NAME.found(f"{kind} {name!r}", evidence, severity="warning")


def _foreign(kind: onnx.TypeProto) -> str:
    """The type, where it is none that a protocol carries; empty where it is, or where the runtime is to infer it."""
    which = kind.WhichOneof("value")
    if which != "tensor_type":
        return (which or "").removesuffix("_type").replace("_", " ")
    element = kind.tensor_type.elem_type
    if element in {onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING}:
        return ""
    dtype = onnx.TensorProto.DataType.Name(element).lower()
    plain = onnx.helper.tensor_dtype_to_np_dtype(element).name
    return "" if plain in CARRIED else dtype
