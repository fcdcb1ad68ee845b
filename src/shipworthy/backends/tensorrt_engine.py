"""What TensorRT says of a built engine: which precisions are really in it. Pure.

The inspector's JSON has two layouts. TensorRT 10 lists the names of inputs and outputs under ``Bindings`` and writes format
and dtype of a tensor as one text; TensorRT 11 has objects under ``I/O Tensors`` and a field for each.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from shipworthy.errors import Failed, Refused
from shipworthy.records import Precision, Record

# What the inspector calls a dtype, within a longer text or alone; from the narrowest to the widest.
NARROWEST = {
    "int4": r"int4",
    "float4": r"fp4|float4",
    "int8": r"int8",
    "float8": r"fp8|float8",
    "float16": r"half|fp16|float16",
    "bfloat16": r"bf16|bfloat16",
    "float32": r"float|fp32|float32",
}
WORDS = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in NARROWEST.items()}
# Layers that multiply: only in these does a precision save time. Casts and Q/DQ beside them prove nothing.
MULTIPLIES = re.compile(r"conv|gemm|gemv|matmul|matrix_?multiply|matrixmult|fullyconnected|mha|attention|dla", re.IGNORECASE)
MOVES = re.compile(r"reformat|cast|noop|constant|shuffle|copy|signal|wait|quantize|shape|slice|concat|barrier", re.IGNORECASE)


class Inside(Record, frozen=True, kw_only=True):
    """What an engine holds: its inputs and outputs, how many layers, and in which precision those that count multiply.

    ``counted`` are the layers that multiply; where none can be told from the others, all that compute. ``percent`` is the
    share of these by precision, each layer by its narrowest input or weight.
    """

    tensors: tuple[str, ...]
    layers: int
    counted: int
    percent: dict[str, float]


def read(information: str) -> Inside:
    """What the inspector's JSON (``EngineInspector``, or trtexec's ``--exportLayerInfo``) says of an engine.

    Raises:
        Failed: it is not such a JSON, or the engine was built without details.
    """
    try:
        data = json.loads(information, strict=False)  # names of fused layers hold control characters
        layers = data["Layers"]
        tensors = [one["Name"] for one in data["I/O Tensors"]] if "I/O Tensors" in data else data["Bindings"]
        detailed = bool(layers) and all(isinstance(layer, dict) for layer in layers)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(f"{type(error).__name__}: {str(error)[:200]}") from None
    if not detailed:
        raise _unreadable("layers without details")
    multiplying = [
        layer for layer in layers if MULTIPLIES.search(_kind(layer)) and not MOVES.search(str(layer.get("LayerType")))
    ]
    counted = multiplying or [layer for layer in layers if not MOVES.search(str(layer.get("LayerType")))]
    kinds = Counter(name for layer in counted if (name := _narrowest(layer)))
    total = sum(kinds.values())
    return Inside(
        tensors=tuple(str(name) for name in tensors),
        layers=len(layers),
        counted=total,
        percent={name: round(100 * kinds[name] / total, 2) for name in WORDS if kinds[name]},
    )


def prove(inside: Inside, wanted: Precision) -> None:
    """Let only an engine through that has the precision that was asked for.

    Raises:
        Refused: no counted layer multiplies in it.
    """
    if not inside.percent.get(wanted):
        held = ", ".join(f"{name} {share:g} %" for name, share in inside.percent.items()) or "no layer that computes"
        raise Refused(
            f"TensorRT built an engine without {wanted}",
            found=f"{held}, of {inside.counted} layers",
            expected=f"layers that multiply in {wanted}",
            next="the engine was thrown away; ask for the precision that the ONNX file has, or convert the file first",
        )


def _unreadable(found: str) -> Failed:
    return Failed(
        "the precision of the engine cannot be proved",
        found=found,
        expected="the inspector's JSON of an engine built with detailed profiling verbosity",
        next="build the engine with --profilingVerbosity=detailed",
    )


def _kind(layer: dict[str, Any]) -> str:
    """The words that tell what a layer does; not its name, which holds those of the layers fused into it."""
    return " ".join(str(layer.get(field, "")) for field in ("LayerType", "ParameterType", "TacticName"))


def _narrowest(layer: dict[str, Any]) -> str:
    said = " ".join(_dtypes(layer))
    return next((name for name, words in WORDS.items() if words.search(said)), "")


def _dtypes(layer: dict[str, Any]) -> Iterator[str]:
    """What a layer computes with: its inputs and weights. An output may be wider or narrower than the arithmetic."""
    inputs = layer.get("Inputs")
    for tensor in inputs if isinstance(inputs, list) else []:
        for field in ("DataType", "Datatype", "Format/Datatype"):
            if isinstance(tensor, dict) and field in tensor:
                yield str(tensor[field])
                break
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))
