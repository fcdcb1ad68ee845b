"""What passes note in the ONNX file itself, and what of it says that the file is for another device."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from shipworthy.records import Target

NOTE = "shipworthy."
# The types of activations that are quantized while the model runs.
DYNAMIC = "dynamic"


def notes(proto: onnx.ModelProto) -> dict[str, str]:
    """What passes have noted: ``int8`` is the types of a quantized model, ``float32_nodes`` were not lowered."""
    found = {one.key: one.value for one in proto.metadata_props if isinstance(one.key, str)}  # bytes: no UTF-8, not ours
    return {key.removeprefix(NOTE): value for key, value in found.items() if key.startswith(NOTE)}


def note(proto: onnx.ModelProto, said: Mapping[str, str]) -> None:
    """Note something in the model; it becomes part of the file and so of its digest."""
    kept = {one.key: one.value for one in proto.metadata_props} | {NOTE + key: text for key, text in said.items()}
    del proto.metadata_props[:]
    for key, text in sorted(kept.items()):
        proto.metadata_props.add(key=key, value=text)


def misplaced(proto: onnx.ModelProto, target: Target) -> str:
    """Why a quantized model is not for the target; empty when it is, or was not quantized by us."""
    types = notes(proto).get("int8", target.int8)
    if types == target.int8 or (types == DYNAMIC and target.int8 != "s8s8_symmetric"):
        return ""
    return f"its INT8 is {types}, and the target takes {target.int8}"
